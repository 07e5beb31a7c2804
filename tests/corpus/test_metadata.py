"""What pages say of themselves, held to what people read off them."""

import json
import tarfile
from pathlib import Path

import pytest
from selectolax.lexbor import LexborHTMLParser

from herd.corpus.metadata import Metadata, parse_day, read_metadata

ARCHIVE = Path(__file__).parents[2].parent / "shared" / "data" / "html-readability" / "test-pages.tar.xz"


def read(html: str, url: str = "") -> Metadata:
    return read_metadata(LexborHTMLParser(html), url)


def test_linked_data() -> None:
    thing = {"@graph": [{"@type": "NewsArticle", "datePublished": "2019-11-19T08:00:00Z",
                         "author": [{"name": "A. Writer"}, {"name": "B. Writer"}]}]}  # fmt: skip
    found = read(f'<html lang="pt-BR"><script type="application/ld+json">{json.dumps(thing)}</script><title>T</title>')
    assert (found.date, found.author, found.language, found.title) == ("2019-11-19", "A. Writer, B. Writer", "pt", "T")


def test_broken_linked_data_is_passed_over() -> None:
    found = read('<script type="application/ld+json">{"author": </script><meta name="author" content="C. Writer">')
    assert found.author == "C. Writer"


def test_name_of_the_site_leaves_the_title() -> None:
    assert (
        read("<title>A long story of a lake | The Site</title><h1>A long story of a lake</h1>").title
        == "A long story of a lake"
    )


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2019-11-19T08:00:00+01:00", "2019-11-19"),
        ("20191119", "2019-11-19"),
        ("November 19, 2019 at 3 pm", "2019-11-19"),
        ("19. Nov 2019", "2019-11-19"),
        ("2019-13-45", None),
        ("1066-10-14", None),
        ("soon", None),
    ],
)
def test_days(text: str, day: str | None) -> None:
    assert parse_day(text) == day


def test_day_in_the_address() -> None:
    assert read("<title>x</title>", "https://example.org/2019/11/19/story").date == "2019-11-19"


def test_against_pages_read_by_people() -> None:
    if not ARCHIVE.exists():
        pytest.skip("the test pages of Readability are not on this machine")
    right = {"title": 0, "lang": 0, "publishedTime": 0}
    known = dict.fromkeys(right, 0)
    sources: dict[str, str] = {}
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            name = member.name.rpartition("/")
            if name[2] not in ("source.html", "expected-metadata.json"):
                continue
            text = archive.extractfile(member).read().decode("utf-8", "replace")  # type: ignore[union-attr]
            sources[member.name] = text
    for path, text in sources.items():
        if not path.endswith(".json"):
            continue
        expected = json.loads(text)
        found = read(sources[path.rpartition("/")[0] + "/source.html"])
        said = {"title": found.title, "lang": found.language, "publishedTime": found.date}
        for key, value in said.items():
            truth = expected.get(key)
            if not truth:
                continue
            truth = (
                truth[:2].lower() if key == "lang" else truth[:7] if key == "publishedTime" else " ".join(truth.split())
            )
            known[key] += 1
            right[key] += (value or "").startswith(truth)
    assert known["title"] > 100
    assert right["title"] > 0.8 * known["title"]
    assert right["lang"] == known["lang"]
    assert right["publishedTime"] > 0.75 * known["publishedTime"]
