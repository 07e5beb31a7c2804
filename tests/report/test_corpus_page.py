"""The page of a corpus tells what the corpus holds; what pages wrote stays text; mistakes are named."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from herd.cli import app
from herd.corpus.curate import CurateConfig, curate
from herd.corpus.pages import Page, PageWriter
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, read_jsonl
from herd.foundation.progress import Progress
from herd.report.corpus_files import Corpus, shares
from herd.report.corpus_page import throughput, write_corpus_report
from tests.corpus.test_what_if import prose
from tests.report.test_page import read

SCRIPT = "<script>alert('a page wrote this')</script>"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty documents of two sources, a family of three, one with mail addresses, ten that are too short."""
    place = tmp_path_factory.mktemp("page")
    writer = PageWriter(place / "pages" / "pages")
    for n in range(60):
        license_name = "MIT" if n % 3 else None
        text = f"{prose(n, 60 + 3 * n)} {SCRIPT if n == 7 else ''}"
        writer.add(Page(f"https://a.org/{n}", "web" if n % 4 else "mail", "text", text, license=license_name))
    for n in range(2):
        writer.add(Page(f"https://b.org/{n}", "web", "text", f"{prose(50, 210)} {'and ' * (n + 1)}more."))
    writer.add(Page("https://b.org/mail", "web", "text", f"{prose(99, 90)} Write to jane@firm.org or joe@firm.org."))
    for n in range(10):
        writer.add(Page(f"https://c.org/{n}", "web", "text", f"{SCRIPT} short {n}"))
    writer.close()
    (place / "corpus").mkdir()
    config = CurateConfig.model_validate({"workers": 1, "quality": {"drop": 0}})
    curate(config, place / "pages", place / "corpus", Progress.silent())
    return place / "corpus"


@pytest.fixture(scope="module")
def text(corpus: Path) -> str:
    return read(write_corpus_report(corpus)).text


def test_the_page_is_well_formed_and_what_pages_wrote_stays_text(corpus: Path) -> None:
    path = write_corpus_report(corpus)
    assert path == corpus.with_name("corpus.html")
    page = read(path)
    assert page.problems == []
    assert page.open == []
    assert [name for name, count in page.ids.items() if count > 1] == []
    inner = {value.removeprefix("#") for name, value in page.links if name == "href"}
    assert inner <= set(page.ids)
    assert page.elements["script"] == 0
    assert SCRIPT in page.text
    assert page.elements["svg"] == 2


@pytest.mark.parametrize(
    "sentence",
    [
        "documents 61",
        "rejected 12 each with its reason",
        "private details 2 email 2",
        "heuristics words below 30 10",
        "near duplicates a better near-duplicate stays 2",
        "source documents characters web",
        "license documents characters MIT",
        "Families of near-duplicates: 1 of 3 documents.",
        "stays",
        "no math documents: its 25% goes to the other domains in proportion",
    ],
)
def test_the_page_tells(text: str, sentence: str) -> None:
    assert sentence in text


def test_families_are_those_that_curation_found(corpus: Path) -> None:
    (family,) = read_jsonl(corpus / "families.jsonl")
    rejected = pq.read_table(corpus / "rejects").to_pylist()
    copies = {row["id"] for row in rejected if row["rule"] == "near_duplicates"}
    assert set(family["copies"]) == copies
    kept = {row["id"] for name in ("documents", "heldout") for row in pq.read_table(corpus / name).to_pylist()}
    assert family["kept"] in kept


def test_shares_add_up(corpus: Path) -> None:
    part = Corpus(corpus).part("documents", "heldout")
    funnel = read_json(corpus / "stats.json")["funnel"]
    assert (part.documents, part.characters) == (funnel[-1]["documents"], funnel[-1]["characters"])
    rows = shares(part, "source", 1)
    assert [row["name"] for row in rows] == ["web", "1 others"]
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert sum(row["documents"] for row in rows) == part.documents


def test_throughput_is_what_entered_over_the_time() -> None:
    steps = [
        {"step": "pages", "documents": 100, "characters": 4e6, "seconds": 0.0},
        {"step": "extract", "documents": 80, "characters": 2e6, "seconds": 2.0},
        {"step": "privacy", "documents": 80, "characters": 2e6},
    ]
    found = throughput(steps)
    assert (found[1]["rate"], found[1]["megabytes"]) == (50, 2.0)
    assert found[2]["rate"] is None


def test_what_came_later_and_what_is_missing(corpus: Path, tmp_path: Path) -> None:
    shell = CliRunner()
    assert shell.invoke(app, ["mix", str(corpus), "--out", str(tmp_path / "mixed")]).exit_code == 0
    line = ["take-down", str(tmp_path / "mixed"), "--domain", "b.org", "--out", str(tmp_path / "out")]
    assert shell.invoke(app, line).exit_code == 0
    result = shell.invoke(app, ["report", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    text = read(tmp_path / "out.html").text
    assert "take-down" in text
    assert "b.org" not in text
    (tmp_path / "out" / "families.jsonl").unlink()
    assert "None is known" in read(write_corpus_report(tmp_path / "out")).text


def test_a_directory_that_is_no_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(HerdError, match="holds no corpus"):
        write_corpus_report(tmp_path)
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "0.parquet").write_bytes(b"noise")
    (tmp_path / "stats.json").write_text("{}")
    with pytest.raises(HerdError, match=r"0.parquet: not readable as Parquet"):
        write_corpus_report(tmp_path)
