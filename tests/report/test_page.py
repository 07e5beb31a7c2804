"""The report of a whole run, of an unfinished one and of hostile content, read as a browser would."""

import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from herd.foundation.errors import HerdError
from herd.report.page import write_report
from tests.report.made_figures import NOT_MEASURED, SHUT
from tests.report.made_run import CHAPTERS, make_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "br", "hr", "img", "input", "link", "path", "use", "rect", "circle", "line"}
LARGEST = 3_000_000


class Reader(HTMLParser):
    """Elements, ids and links of a page; ``problems`` where it is no well-formed document."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.elements: Counter[str] = Counter()
        self.links: list[tuple[str, str]] = []
        self.problems: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        names = [name for name, _ in attrs]
        if len(set(names)) < len(names):
            self.problems.append(f"{tag} has an attribute twice at {self.getpos()}")
        for name, value in attrs:
            if name == "id":
                self.ids[value or ""] += 1
            if name in ("href", "src", "xlink:href", "action", "style"):
                self.links.append((name, value or ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> out of place at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        """What can be read, single spaces between the words."""
        return " ".join(" ".join(self.words).split())


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    return reader


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "made"))


def test_a_whole_run_is_one_well_formed_page_without_a_network(whole: Path) -> None:
    page = read(whole)
    assert page.problems == []
    assert page.open == []
    assert [name for name, count in page.ids.items() if count > 1] == []
    assert {value for name, value in page.links if name != "style" and not value.startswith("#")} == set()
    assert not re.search(r"url\((?!#)|@import|https?://", whole.read_text())
    inner = {value.removeprefix("#") for name, value in page.links if name != "style"}
    assert inner <= set(page.ids)
    assert page.elements["svg"] >= 10
    assert whole.stat().st_size < LARGEST


def test_what_pages_and_people_wrote_stays_text(whole: Path) -> None:
    page = read(whole)
    assert page.elements["script"] == 0
    assert page.text.count("<script>alert('a page wrote this')</script>") >= 3
    assert "<b>more</b>" in page.text


@pytest.mark.parametrize(
    "sentence",
    [
        "Raised by Herd",
        "What it says",
        "calculates with the interpreter 93.0%",
        "before alignment 9.0%",
        "the answer differs from the page's first sentence",
        "in wordings that training never had",
        "does what the policy forbids",
        "keyword list",
        "Bradley-Terry rating",
        "12 small runs, made before the flagship.",
        "budget 3.6e+12: a note about it",
        "3.100 (3.000–3.200) 3.120 -0.6%",
        "Gates of long context",
        "attempt 2 2,048 1.860 97% (91–100%) 30 passed",
        SHUT,
        "a better near-duplicate stays: 170",
        "no multilingual documents: its 8% goes to the other domains in proportion",
        "held-out pairs that the reward model orders right",
        "planned",
        "Lineage of chat-3m",
        "python 3.11.7 pydoc",
    ],
)
def test_the_page_tells(whole: Path, sentence: str) -> None:
    assert sentence in read(whole).text


def test_what_was_not_measured_says_why_and_what_is_no_share_is_no_per_cent(whole: Path) -> None:
    text = read(whole).text
    assert NOT_MEASURED in text
    assert "a measure of tomorrow" in text
    assert "150.0%" not in text
    assert "1.50 1.30–1.70" in text
    assert "1,300 1,265–1,335" in text
    assert "None" not in text
    assert "nan" not in text.lower().split()


@pytest.mark.parametrize("chapters", range(1, len(CHAPTERS)))
def test_an_unfinished_run_has_a_page_too(tmp_path: Path, chapters: int) -> None:
    page = read(write_report(make_run(tmp_path / "run", chapters)))
    assert page.problems == []
    assert "the run is not finished" in page.text
    assert ("Scaling laws" in page.text) == (chapters > 1)
    assert ("Gates of long context" in page.text) == (chapters > 2)
    assert ("Lineage of chat-3m" in page.text) == (chapters > 3)
    assert "What it can do" not in page.text


def test_a_scaling_stage_without_a_law_is_shown_with_its_notes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 2)
    laws = run / "scaling" / "laws.json"
    text = laws.read_text()
    start, end = text.index('"optimum"'), text.index('"parametric"')
    laws.write_text(text[:start] + '"optimum": null, ' + text[end:].replace('"best_tokens"', '"other"'))
    page = read(write_report(run))
    assert "a note about it" in page.text
    assert "Optimal training tokens grow" not in page.text


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HerdError, match="is neither a corpus nor a run"):
        write_report(tmp_path)


def test_a_broken_shard_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    shard = next(run.glob("*/rejects/*.parquet"))
    shard.write_bytes(b"no parquet")
    with pytest.raises(HerdError, match=f"{shard}: not readable as Parquet"):
        write_report(run)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the path")
@pytest.mark.parametrize("width", [1200, 400])
def test_in_a_browser_it_fits_the_window_and_asks_nothing(whole: Path, width: int) -> None:
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        page = browser.new_page(viewport={"width": width, "height": 900})
        asked: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(whole.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width
        # A mistake in a drawing's markup would end it early; every one must have some size.
        sizes = page.evaluate("[...document.querySelectorAll('figure svg')].map(svg => svg.getBBox().height)")
        assert len(sizes) >= 10
        assert min(sizes) > 50
        assert page.locator("text=a page wrote this").count() > 0
        assert len(asked) == 1
        assert complaints == []
        browser.close()
