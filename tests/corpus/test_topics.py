"""The classifier of topics: sites stay on one side, its measures agree with counting by hand, mistakes are named."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from herd.cli import app
from herd.corpus.topics import TopicsConfig, load_topics, measure, train_topics
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, write_jsonl
from herd.foundation.progress import Progress

WORDS = {
    "law": ("court", "statute", "clause", "appeal", "judge", "contract", "liable", "plaintiff"),
    "sea": ("harbour", "sail", "tide", "anchor", "keel", "storm", "crew", "captain"),
    "food": ("flour", "oven", "butter", "salt", "knead", "roast", "sauce", "onion"),
}
SMALL = ("the", "of", "and", "in", "to", "with", "that", "is", "for", "was")


def text(topic: str, chance: random.Random, mixed: float = 0.0) -> str:
    own = WORDS[chance.choice(list(WORDS)) if chance.random() < mixed else topic]
    words = [*chance.choices(own, k=12), *chance.choices(SMALL, k=40)]
    chance.shuffle(words)
    return " ".join(words)


def labels(place: Path, texts: int = 450, mixed: float = 0.0) -> Path:
    chance = random.Random(3)
    rows: list[dict[str, Any]] = []
    for n in range(texts):
        topic = sorted(WORDS)[n % 3]
        site = f"{'www.' * (n // 90 % 2)}site{n % 90}.org"
        rows.append({"text": text(topic, chance, mixed), "topic": topic, "url": f"https://{site}/{n}"})
    write_jsonl(place / "labels.jsonl", rows)
    return place / "labels.jsonl"


def test_it_learns_and_is_measured_on_sites_it_never_saw(tmp_path: Path) -> None:
    line = ["topics", str(labels(tmp_path, mixed=0.3)), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    stats = read_json(tmp_path / "out" / "stats.json")
    assert stats["sites"] == 90
    assert stats["trained on"] + stats["measured on"] == 450
    # A text in five reads like another topic, and nobody can know: 0.8 is the most there is.
    found = stats["accuracy"]
    assert found["low"] < 0.8 < found["high"]
    assert found["low"] > stats["the commonest topic"]["high"]
    model = load_topics(tmp_path / "out")
    clean = [text(name, random.Random(n)) for n, name in enumerate([*WORDS] * 20)]
    told = [model.names[topic] for topic, _ in model.classify(clean)]
    assert sum(name == truth for name, truth in zip(told, [*WORDS] * 20, strict=True)) > 50


def test_the_measures_are_those_of_counting() -> None:
    generator = np.random.default_rng(1)
    truth, said = generator.integers(3, size=200), generator.integers(3, size=200)
    found = measure(truth, said, np.ones(200), [f"s{n % 40}" for n in range(200)], ["a", "b", "c"], 0)
    assert found["accuracy"]["value"] == pytest.approx((truth == said).mean())
    scores = []
    for place, name in enumerate("abc"):
        right = ((truth == place) & (said == place)).sum()
        precision, recall = right / (said == place).sum(), right / (truth == place).sum()
        assert found["topics"][name]["precision"]["value"] == pytest.approx(precision)
        assert found["topics"][name]["recall"]["value"] == pytest.approx(recall)
        scores.append(2 * precision * recall / (precision + recall))
    assert found["macro F1"]["value"] == pytest.approx(np.mean(scores))
    assert found["accuracy"]["low"] < found["accuracy"]["value"] < found["accuracy"]["high"]


def test_sites_that_agree_within_widen_the_interval() -> None:
    truth = np.zeros(200, dtype=np.int64)
    said = np.repeat(np.arange(10) % 2, 20)
    alike, apart = (
        measure(truth, said, np.ones(200), sites, ["a", "b"], 0)["accuracy"]
        for sites in ([f"s{n // 20}" for n in range(200)], [f"s{n}" for n in range(200)])
    )
    assert alike["high"] - alike["low"] > 2.5 * (apart["high"] - apart["low"])


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "holds no labelled text"),
        ([{"text": "words"}], "row 1: it needs a topic, not empty"),
        (["words"], "row 1: it needs a text"),
        ([{"text": "a", "topic": "x"}, {"text": " ", "topic": "x"}], "row 2: it needs a text"),
        ([{"text": "a", "topic": "x"}], "names 1 topics"),
        ([{"text": f"t{n}", "topic": f"{n % 2}", "site": "one"} for n in range(99)], "whole sites go to one part"),
    ],
)
def test_labels_that_will_not_do_are_named(tmp_path: Path, rows: list[Any], sentence: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(HerdError, match=sentence):
        train_topics(TopicsConfig(), path, tmp_path / "out", Progress.silent())


def test_a_classifier_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(HerdError, match=r"topics.json: there is no such file"):
        load_topics(tmp_path)
    (tmp_path / "topics.json").write_text('{"topics": ["a"], "classifier": {}}')
    (tmp_path / "topics.bin").write_bytes(b"noise")
    with pytest.raises(HerdError, match=r"topics.bin: not readable as a classifier"):
        load_topics(tmp_path)
