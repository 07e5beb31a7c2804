"""Topics go down to their share, weights bring domains and languages to theirs, nothing is lost on the way."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from herd.cli import app
from herd.corpus.documents import REASONS, DocumentWriter, document_schema
from herd.corpus.topics import TopicsConfig, train_topics
from herd.corpus.weigh import WeighConfig, plan_weights, weigh
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, write_json, write_jsonl
from herd.foundation.progress import Progress
from tests.corpus.test_topics import WORDS, labels, text

DOMAINS = (("general", "en"), ("math", "en"), ("code", ""), ("multilingual", "de"), ("multilingual", "fr"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 900 documents, two thirds of the general ones about food, and a classifier."""
    place, chance = tmp_path_factory.mktemp("weigh"), random.Random(4)
    train_topics(TopicsConfig(), labels(place), place / "topics", Progress.silent())
    corpus = place / "corpus"
    with DocumentWriter(corpus / "documents", document_schema(["words"])) as writer:
        for n in range(900):
            domain, language = DOMAINS[0] if n < 600 else DOMAINS[n % 5]
            topic = "food" if n % 3 else chance.choice(("law", "sea"))
            writer.add({"id": f"d{n}", "text": text(topic, chance), "domain": domain, "language": language})
        counts = {"documents": writer.documents, "characters": writer.characters}
    with DocumentWriter(corpus / "rejects", document_schema(["words"], REASONS)) as rejects:
        rejects.add({"id": "gone", "text": "before", "rule": "language", "reason": "none"})
    with DocumentWriter(corpus / "heldout", document_schema(["words"])) as heldout:
        heldout.add({"id": "held", "text": "unseen"})
    write_json(corpus / "stats.json", {"funnel": [{"step": "pages", "heldout": 1, **counts}], "mix": {}})
    return place


def mixed(place: Path, out: Path, topics: bool = True, **settings: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    config = WeighConfig.model_validate(settings)
    weigh(config, place / "corpus", out, Progress.silent(), place / "topics" if topics else None)
    return pq.read_table(out / "documents").to_pylist(), read_json(out / "stats.json")


def test_a_common_topic_goes_down_to_its_share(place: Path, tmp_path: Path) -> None:
    rows, stats = mixed(place, tmp_path, most={"food": 0.3})
    general = [row for row in rows if row["domain"] == "general"]
    share = sum(len(row["text"]) for row in general if row["topic"] == "food") / sum(len(r["text"]) for r in general)
    assert share == pytest.approx(0.3, abs=0.04)
    assert stats["topics"]["food"]["before"] == pytest.approx(2 / 3, abs=0.03)
    assert stats["topics"]["law"]["kept"] == 1
    assert {row["topic"] for row in rows if row["domain"] != "general"} == {None}
    rejects = pq.read_table(tmp_path / "rejects").to_pylist()
    assert Counter(row["reason"] for row in rejects) == {"none": 1, "more food than its share": 900 - len(rows)}
    last = stats["funnel"][-1]
    assert (last["documents"], last["characters"]) == (len(rows), sum(len(row["text"]) for row in rows))
    assert (tmp_path / "heldout").is_dir()


def test_who_goes_does_not_depend_on_the_others(place: Path, tmp_path: Path) -> None:
    few = {row["id"] for row in mixed(place, tmp_path / "few", most={"food": 0.2})[0]}
    more = {row["id"] for row in mixed(place, tmp_path / "more", most={"food": 0.4})[0]}
    other = {row["id"] for row in mixed(place, tmp_path / "other", most={"food": 0.4}, seed=1)[0]}
    assert few < more
    assert other != more


def test_weights_bring_domains_and_languages_to_their_shares(place: Path, tmp_path: Path) -> None:
    rows, stats = mixed(place, tmp_path, False, languages={"de": 0.75}, mix={"maximum_repeat": 100})
    seen = Counter[tuple[str, str]]()
    for row in rows:
        seen[row["domain"], row["language"]] += row["weight"] * len(row["text"])
    whole = seen.total()
    found = {key: size / whole for key, size in seen.items()}
    assert found["general", "en"] == pytest.approx(0.50, abs=1e-4)
    assert found["math", "en"] == pytest.approx(0.25, abs=1e-4)
    assert found["code", ""] == pytest.approx(0.17, abs=1e-4)
    assert found["multilingual", "de"] == pytest.approx(0.06, abs=1e-4)
    assert found["multilingual", "fr"] == pytest.approx(0.02, abs=1e-4)
    assert stats["mix"]["languages"] == pytest.approx({"de": 0.75, "fr": 0.25})


def test_languages_can_become_domains(place: Path, tmp_path: Path) -> None:
    rows, stats = mixed(place, tmp_path, False, split_languages=True, mix={"maximum_repeat": 100})
    assert {row["domain"] for row in rows} == {"general", "math", "code", "multilingual-de", "multilingual-fr"}
    assert set(stats["mix"]["shares"]) == {row["domain"] for row in rows}
    assert sum(stats["mix"]["shares"].values()) == pytest.approx(1)


def test_no_language_is_repeated_over_the_limit() -> None:
    sizes = {("general", "en"): 900, ("multilingual", "de"): 95, ("multilingual", "th"): 5}
    mix, languages = plan_weights(sizes, WeighConfig.model_validate({"languages": {"th": 0.9}}))
    assert languages is not None
    assert mix.weights["multilingual"] * languages.weights["th"] <= 8 + 1e-9
    assert any("th reaches" in note for note in languages.notes)


@pytest.mark.parametrize(
    ("topics", "settings", "sentence"),
    [
        (False, {"most": {"food": 0.1}}, "give one with --topics"),
        (True, {"most": {"fod": 0.1}}, "knows no topic 'fod'; it knows food, law, sea"),
        (True, {"most": dict.fromkeys((*WORDS, "unsure"), 0.1)}, "leaves the rest empty"),
    ],
)
def test_limits_that_cannot_be_held_are_named(
    place: Path, tmp_path: Path, topics: bool, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(HerdError, match=sentence):
        mixed(place, tmp_path, topics, **settings)


def test_the_verb(place: Path, tmp_path: Path) -> None:
    line = ["mix", str(place / "corpus"), "--topics", str(place / "topics"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*line, "--set", "most={food: 0.3}"])
    assert result.exit_code == 0, result.output
    assert "general reaches" not in result.output
    again = CliRunner().invoke(app, [*line, "--set", "most={food: 2}"])
    assert again.exit_code == 2
    assert "below 1" in again.output
    write_jsonl(tmp_path / "x.jsonl", [])
    assert CliRunner().invoke(app, ["topics", str(tmp_path / "x.jsonl"), "--out", str(tmp_path / "t")]).exit_code == 2
