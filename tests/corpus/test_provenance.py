"""Robots directives and licences that pages claim, and how they come to the row of a document."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from herd.corpus.curate import CurateConfig, curate
from herd.corpus.pages import Page, load_pages
from herd.corpus.provenance import Use, directives, license_name, read_use
from herd.foundation.progress import Progress
from tests.corpus.test_curate import _prose, artifact

BY_SA = '<a rel="license" href="https://creativecommons.org/licenses/by-sa/4.0/">CC</a>'


@pytest.mark.parametrize(
    ("html", "header", "use"),
    [
        ("<p>no word of it", None, Use()),
        ('<META content="NOINDEX, NoAI" name=robots>', None, Use("noai, noindex")),
        ('<meta name="robots" content="noai">', "bot: noindex, max-snippet:2", Use("max-snippet:2, noai, noindex")),
        ('<meta name="description" content="robots, noai">', None, Use()),
        (f"<p>license here</p>{BY_SA}", None, Use(license="CC BY-SA 4.0")),
        ("<link href='/terms' rel='license nofollow'>", None, Use(license="/terms")),
        ('<a rel="nofollow" href="/license">licence</a>', None, Use()),
        ("<a rel=license" + " " * 5000, None, Use()),
    ],
)  # fmt: skip
def test_what_pages_say(html: str, header: str | None, use: Use) -> None:
    assert read_use(html, header) == use


def test_names() -> None:
    assert license_name("http://creativecommons.org/publicdomain/zero/1.0/") == "CC0 1.0"
    assert license_name("https://creativecommons.org/licenses/by-nc/3.0/de/") == "CC BY-NC 3.0"
    assert directives("") == set()


def _rows(tmp_path: Path, config: CurateConfig) -> dict[str, dict[str, Any]]:
    pages = [Page(f"https://example.org/{n}", "web", "text", _prose(n)) for n in range(6)]
    for name, head in (("said", '<meta name="robots" content="noai">' + BY_SA), ("plain", "")):
        text = f"<html><head>{head}</head><body><article><p>{_prose(70 + len(name))}</p></article></body></html>"
        pages.append(Page(f"https://example.org/{name}", "web", "html", text, robots="noarchive"))
    out = tmp_path / "corpus"
    out.mkdir()
    curate(config, artifact(tmp_path, pages), out, Progress.silent())
    tables = [pq.read_table(out / name).to_pylist() for name in ("documents", "heldout", "rejects")]
    return {row["url"].rpartition("/")[2]: row for table in tables for row in table}


def test_every_row_says_under_what_it_stands(tmp_path: Path) -> None:
    rows = _rows(tmp_path, CurateConfig(workers=1))
    assert (rows["said"]["robots"], rows["said"]["license"]) == ("noai, noarchive", "CC BY-SA 4.0")
    assert (rows["plain"]["robots"], rows["plain"]["license"]) == ("noarchive", None)
    assert rows["0"]["robots"] is None


def test_refused_directives_keep_a_page_out(tmp_path: Path) -> None:
    rows = _rows(tmp_path, CurateConfig(workers=1, refused_robots=("noai",)))
    assert (rows["said"]["rule"], rows["said"]["reason"]) == ("extract", "robots noai")
    assert "rule" not in rows["plain"]


def test_pages_of_an_older_herd_are_read(tmp_path: Path) -> None:
    place = artifact(tmp_path, [Page("https://example.org/p", "web", "text", "some words")])
    shard = place / "pages" / "00000.parquet"
    pq.write_table(pq.read_table(shard).drop_columns(["robots"]), shard)
    assert [page.robots for page in load_pages(place)] == [None]
