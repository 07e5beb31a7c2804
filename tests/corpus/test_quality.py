"""The classifier is really trained: it separates what differs, not what does not, and measures itself honestly."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herd.corpus.quality import (
    UNKNOWN,
    Example,
    QualityConfig,
    Reference,
    area_under_curve,
    is_reference,
    prose,
    sample,
    train_quality,
    worst,
)

CONFIG = QualityConfig(epochs=8)
GOOD = [
    "explains",
    "because",
    "therefore",
    "function",
    "returns",
    "value",
    "argument",
    "example",
    "described",
    "carefully",
    "reader",
]
BAD = [
    "click",
    "buy",
    "cheap",
    "now",
    "offer",
    "login",
    "cookie",
    "banner",
    "subscribe",
    "win",
    "share",
    "like",
    "free",
    "discount",
]


def _examples(count: int, mixed: bool = False, seed: int = 0) -> list[Example]:
    chance = random.Random(seed)
    examples = []
    for number in range(count):
        reference = number % 2 == 0
        words = GOOD + BAD if mixed else (GOOD if reference else BAD)
        examples.append(Example(f"f{number}", " ".join(chance.choices([*words, "the", "of"], k=60)), reference))
    return examples


def test_it_learns_and_the_same_twice(tmp_path: Path) -> None:
    model = train_quality(_examples(300), CONFIG)
    assert model.report["auc"] > 0.99
    assert 30 < model.report["heldout"] < 90
    good, bad = model.score([" ".join(GOOD * 3), " ".join(BAD * 3)])
    assert good > 0.9 > 0.1 > bad
    assert train_quality(_examples(300), CONFIG).score([" ".join(GOOD)]) == model.score([" ".join(GOOD)])
    model.save(tmp_path / "quality.bin")
    import fasttext

    labels, _ = fasttext.load_model(str(tmp_path / "quality.bin")).predict([" ".join(GOOD)])
    assert labels[0][0] == "__label__reference"


def test_memory_that_was_used_before_changes_nothing() -> None:
    first = train_quality(_examples(300), CONFIG).score([" ".join(GOOD)])
    for size in (10**5, 10**6, 4 * 10**6):
        np.full(size, np.nan, dtype=np.float32)
    assert train_quality(_examples(300), CONFIG).score([" ".join(GOOD)]) == first


def test_where_nothing_differs_the_area_is_one_half() -> None:
    assert train_quality(_examples(600, mixed=True), CONFIG).report["auc"] == pytest.approx(0.5, abs=0.15)


def test_too_few_examples_train_nothing() -> None:
    model = train_quality(_examples(12), CONFIG)
    assert model.model is None
    assert "not trained" in model.report["note"]
    assert model.score(["any", "text"]) == [UNKNOWN, UNKNOWN]


def test_area_equals_the_share_of_ordered_pairs() -> None:
    chance = random.Random(3)
    scores = [chance.randrange(8) / 8 for _ in range(80)]
    truth = [chance.random() < 0.4 for _ in scores]
    pairs = [(a > b) + (a == b) / 2 for a, t in zip(scores, truth) for b, u in zip(scores, truth) if t and not u]  # noqa: B905
    assert area_under_curve(scores, truth) == pytest.approx(sum(pairs) / len(pairs))
    assert area_under_curve([0.5], [True]) is None


def test_references_are_named_by_rules() -> None:
    config = QualityConfig(
        references=(Reference(sources=("stdlib",), minimum_prose_words=10), Reference(addresses=("*wiki*",)))
    )
    row = {"source": "stdlib", "kind": "html", "url": "pydoc:json"}
    assert is_reference(row, 10, 0.1, config)
    assert not is_reference(row, 9, 0.1, config)
    assert not is_reference(row | {"source": "web"}, 99, 0.9, config)
    assert is_reference({"source": "web", "kind": "html", "url": "https://en.wiki.example/x"}, 0, 0.0, config)


def test_prose_counts_sentences_and_not_signatures() -> None:
    words, share = prose(
        "json.dumps(obj, *, skipkeys=False, cls=None)\n    Serialize an object to a string of text in JSON format."
    )
    assert words == 11
    assert 0.4 < share < 0.7


@given(st.text(alphabet="aZé× ÷9_.(=,)\n?", max_size=80), st.integers(0, 3))
def test_prose_counts_as_two_patterns_a_line_do(text: str, times: int) -> None:
    text = "\n".join([text, "a word of plain prose here, ", text] * times)
    total = sentence = 0
    for line in text.split("\n"):
        words = len(re.findall(r"\w+", line))
        plain = len(re.findall(r"(?<![\w.(=])[A-Za-zÀ-ɏ]{2,}(?=[\s,;:.!?)]|$)", line))
        total += words
        sentence += words if words >= 5 and plain >= 5 and plain >= 0.7 * words else 0
    assert prose(text) == (sentence, sentence / max(total, 1))


def test_sample_reads_beginning_and_middle() -> None:
    text = " ".join(f"w{n}" for n in range(10_000))
    taken = sample(text, QualityConfig(sample_words=100)).split()
    assert taken[0] == "w0"
    assert len(taken) == 100
    assert int(taken[-1][1:]) > 4000


def test_only_the_worst_of_each_domain_go() -> None:
    config = QualityConfig(drop=0.1, drop_below=0.3)
    scores = np.array([n / 100 for n in range(100)] * 2)
    domains = ["general"] * 100 + ["math"] * 100
    gone = worst(scores, domains, [row == 0 for row in range(200)], config)
    assert np.flatnonzero(gone[:100]).tolist() == list(range(1, 10))
    assert gone[100:].sum() == 10
    assert not worst(scores + 0.5, domains, [False] * 200, config).any()
