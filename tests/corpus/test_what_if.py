"""The table of what other thresholds would keep, against runs with those thresholds."""

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from herd.cli import app
from herd.corpus.curate import CurateConfig, curate
from herd.corpus.pages import Page, PageWriter
from herd.corpus.what_if import as_text, what_if
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json
from herd.foundation.progress import Progress
from herd.pipeline.alone import make_alone

SYLLABLES = ("ba", "cor", "del", "fin", "gar", "lo", "mer", "nis", "por", "ran", "sel", "tur", "vin", "wes")
SMALL = ("the", "of", "and", "in", "to", "with", "that", "is", "for", "was")


def prose(seed: int, words: int) -> str:
    chance = random.Random(seed)
    long = ["".join(chance.choices(SYLLABLES, k=3)) for _ in range(words)]
    return " ".join(chance.choice(SMALL) if chance.random() < 0.4 else word for word in long).capitalize() + "."


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("what_if") / "pages"
    writer = PageWriter(place / "pages")
    for n in range(60):
        writer.add(
            Page(f"u{n}", "web" if n % 3 else "mail", "text", prose(n, 20 + 4 * n), date=f"{2018 + n % 4}-01-02")
        )
    writer.close()
    return place


def curated(pages: Path, out: Path, minimum_words: int, **published: str) -> Path:
    config = CurateConfig.model_validate({
        "workers": 1,
        "heuristics": {"minimum_words": minimum_words, "published": published},
        "quality": {"drop": 0},
    })  # fmt: skip
    silent = Progress.silent()
    make_alone("curate", config, {"pages": pages}, out, lambda place, _: curate(config, pages, place, silent), silent)
    return out


@pytest.mark.parametrize(("made_with", "asked"), [(30, 120), (120, 30), (60, 60)])
def test_it_tells_what_a_run_with_that_threshold_keeps(pages: Path, tmp_path: Path, made_with: int, asked: int) -> None:
    made, real = (curated(pages, tmp_path / str(n), words) for n, words in enumerate((made_with, asked)))
    result = CliRunner().invoke(app, ["what-if", str(made), f"words>={asked}", "--format", "json"])
    assert result.exit_code == 0, result.output
    table = json.loads(result.output)
    kept = read_json(real / "stats.json")["funnel"][-1]
    assert table[0]["kept then"] == kept["documents"]
    assert table[0]["characters then"] == kept["characters"]
    assert table[0]["kept"] == read_json(made / "stats.json")["funnel"][-1]["documents"]
    for row in table:
        assert row["kept"] - row["leave"] + row["come back"] == row["kept then"]
    for by in ("source", "language", "domain", "year"):
        assert sum(row["kept then"] for row in table if row["by"] == by) == table[0]["kept then"]
    assert {row["group"] for row in table if row["by"] == "year"} == {"2018", "2019", "2020", "2021"}


def test_rules_that_were_only_measured_can_be_tried(pages: Path, tmp_path: Path) -> None:
    made = curated(pages, tmp_path / "made", 30, gopher="measure")
    strict = curated(pages, tmp_path / "strict", 30, gopher="reject")
    config = CurateConfig.model_validate({"heuristics": {"published": {"gopher": "measure"}}}).heuristics
    table = what_if(made, ["gopher_words>=50"], config)
    assert table[0]["leave"] > 0
    assert table[0]["kept then"] == read_json(strict / "stats.json")["funnel"][-1]["documents"]
    lines = as_text(table).splitlines()
    assert lines[0].split() == ["kept", "leave", "come", "back", "kept", "then", "characters", "then"]
    assert lines[1].startswith("all ")
    assert len({len(line) for line in lines}) == 1


def test_mistakes_are_named(pages: Path, tmp_path: Path) -> None:
    made = curated(pages, tmp_path / "made", 30)
    config = CurateConfig().heuristics
    for limits, said in ((["words=50"], "not a limit"), (["colour>=1"], "no value 'colour'"), ([], "no limit"),
                         (["words>=1.2.3"], "not a limit"), (["text>=1"], "no value 'text'")):  # fmt: skip
        with pytest.raises(HerdError, match=said):
            what_if(made, limits, config)
    assert CliRunner().invoke(app, ["what-if", str(tmp_path), "words>=5"]).exit_code == 2
