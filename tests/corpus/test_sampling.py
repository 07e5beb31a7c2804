"""A sample is drawn by ids alone, is curated like the whole, and says in proportion what the whole would take."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from herd.cli import app
from herd.corpus.curate import CurateConfig
from herd.corpus.pages import Page, PageWriter
from herd.corpus.sampling import curate_sample, parse_share
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json
from herd.foundation.progress import Progress
from tests.corpus.test_what_if import prose

CONFIG = CurateConfig.model_validate({"workers": 1, "quality": {"drop": 0}})


def pages(place: Path, numbers: range) -> Path:
    writer = PageWriter(place / "pages")
    for n in numbers:
        writer.add(Page(f"u{n}", "web", "text", prose(n, 40)))
    writer.close()
    return place


def sampled(place: Path, out: Path, share: float) -> set[str]:
    out.mkdir(parents=True)
    curate_sample(CONFIG, share, place, out, Progress.silent())
    assert not (out / "sample").exists()
    folders = [out / name for name in ("documents", "heldout", "rejects")]
    return {name for folder in folders for name in pq.read_table(folder)["id"].to_pylist()}


def test_the_draw_depends_on_the_page_alone(tmp_path: Path) -> None:
    whole = sampled(pages(tmp_path / "all", range(200)), tmp_path / "a", 0.3)
    part = sampled(pages(tmp_path / "some", range(100)), tmp_path / "b", 0.3)
    more = sampled(tmp_path / "all", tmp_path / "c", 0.6)
    assert part <= whole <= more
    assert 40 <= len(whole) <= 80


def test_the_whole_is_told_in_proportion(tmp_path: Path) -> None:
    line = ["curate", str(pages(tmp_path / "pages", range(200))), "--sample", "50%", "--core-price", "0.04"]
    result = CliRunner().invoke(app, [*line, "--out", str(tmp_path / "out"), "--set", "quality.drop=0.0"])
    assert result.exit_code == 0, result.output
    stats = read_json(tmp_path / "out" / "stats.json")
    whole = stats["whole"]
    assert whole["pages"] == 200
    assert 75 <= whole["sampled pages"] <= 125
    assert whole["documents"] == pytest.approx(200, abs=1)
    assert whole["characters"] == pytest.approx(sum(len(prose(n, 40)) for n in range(200)), rel=0.05)
    assert "all 200 pages" in result.output
    assert "at 0.04 a core hour" in result.output
    again = CliRunner().invoke(app, [*line[:3], "40%", "--out", str(tmp_path / "out"), "--set", "quality.drop=0.0"])
    assert again.exit_code == 2
    assert "sample changed" in again.stderr


@pytest.mark.parametrize("text", ["0", "100%", "1.5", "-1%", "some", ""])
def test_a_share_that_is_none_is_named(text: str) -> None:
    with pytest.raises(HerdError, match="write a share above 0 and below 1"):
        parse_share(text)


def test_shares() -> None:
    assert parse_share("1%") == pytest.approx(0.01)
    assert parse_share(".25") == 0.25


def test_a_sample_of_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(HerdError, match="holds none of its 3 pages"):
        sampled(pages(tmp_path / "pages", range(3)), tmp_path / "out", 1e-9)
    with pytest.raises(HerdError, match="holds no pages"):
        sampled(tmp_path / "nothing", tmp_path / "other", 0.5)
