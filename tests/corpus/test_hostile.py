"""Pages made to hurt: whatever the mark-up or the text, time and memory stay bounded and nothing fails.

Times are processor seconds with much room, for machines that are busy; what these tests find is growth, not slowness.
"""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from herd.corpus.charset import decode_html
from herd.corpus.domains import code_density, math_density
from herd.corpus.extract import extract, extract_html
from herd.corpus.heuristics import build_rules, judge
from herd.corpus.markdown import plain_text
from herd.corpus.nesting import is_bounded
from herd.corpus.privacy import PrivacyConfig, redact
from herd.corpus.repeated_lines import remove_repeated_lines
from herd.corpus.rules import HeuristicsConfig, View
from herd.corpus.words import strip_markup

PROSE = "<p>The river rises in the hills to the north, and it runs for many miles before it meets the sea.</p>"
DEEP = 100_000
BOMBS = {
    "div": "<div>" * DEEP + PROSE,
    "div, closed by what it is not": "<div></x>" * DEEP + PROSE,
    "end tags of what is not open": "<div>" * DEEP + "</p>" * DEEP,
    "lists": "<ul><li>" * DEEP + PROSE,
    "tables": "<table><tr><td>" * DEEP + PROSE,
    "formulas": "<math>" + "<mrow>" * DEEP + "<mi>x</mi>",
    "code": "<pre>" + "<span>" * DEEP + "x = 1",
    "unwanted": "<div class=nav>" * DEEP + PROSE,
    "bold type that is opened again in every paragraph": "".join(f"<p><b id={n}>x" for n in range(DEEP)),
    "links": "<a href=x>b " * DEEP,
    "items": "<ul>" + "<li>a" * DEEP * 6,
    "lists in linked data": f"<script type='application/ld+json'>[{'[],' * DEEP}[]]</script>{PROSE}",
    "deep linked data": f"<script type='application/ld+json'>{'[' * DEEP}</script>{PROSE}",
    "comments": "<!--" * DEEP + PROSE,
    "NUL bytes": PROSE.replace("e", "e\x00") * 100,
    "50 MB": PROSE * (50_000_000 // len(PROSE)),
}
SEEDS = (
    "a", "1 ", "(", "[", "![", "[a](", "<", "<a ", "</", "<!--", "*", "**a", "``a ", "&a", "a@a.", "+1 ", "/", "\\",
    "$", "a^", "a.a(", "|a", "- ", "> ", "\t", "::", "1.1.", "0:", "4111 ", "key=", "\u0e01", "\xad", "\x00", "\n",
)  # fmt: skip


def seconds(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


@pytest.mark.parametrize("name", BOMBS)
def test_hostile_markup_costs_bounded_time(name: str) -> None:
    assert seconds(lambda: extract_html(BOMBS[name])) < 10


def test_hostile_markup_costs_bounded_memory() -> None:
    """All of them in one process of their own, that may have a gigabyte and a half of addresses beside Python's."""
    code = (
        "import resource, sys; from herd.corpus.extract import extract_html\n"
        "sys.path.insert(0, sys.argv[1])\nimport test_hostile\n"
        "for page in test_hostile.BOMBS.values(): extract_html(page)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    folder = __file__.rpartition("/")[0]
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1000, "megabytes; the pages themselves are 60 of them"


@pytest.mark.parametrize("depth", [50, 200, 390, 5000])
@pytest.mark.parametrize("tag", ["div", "font", "span", "ul", "table", "blockquote", "sup", "section", "q"])
def test_deep_pages_are_read_or_refused_with_a_reason(tag: str, depth: int) -> None:
    found = extract_html(f"<{tag}>" * depth + PROSE)
    assert ("river rises" in found.text) != bool(found.refused) or tag in ("table", "sup")
    assert (depth < 100) <= (not found.refused)


def test_old_pages_with_many_open_fonts_keep_their_text() -> None:
    assert extract_html("<font size=2>" * 190 + PROSE * 4).text.count("river rises") == 4


def test_ordinary_pages_are_never_refused() -> None:
    chance = random.Random(3)
    for _ in range(30):
        line = "<b>a</b> <a href=x>b</a> "
        parts = [f"<div class=c{n}><p>{line * chance.randint(0, 9)}</p></div>" for n in range(400)]
        assert is_bounded("<html><body>" + "<table><tr><td>".join(parts[:3]) + "".join(parts) + "</body></html>")


@pytest.mark.parametrize("seed", SEEDS)
def test_no_text_makes_a_pattern_run_wild(seed: str) -> None:
    config, privacy = HeuristicsConfig(), PrivacyConfig()
    rules = build_rules(config)
    text = seed * (30_000 // len(seed))
    for work in (
        plain_text, strip_markup, math_density, code_density,
        lambda text: redact(text, privacy),
        lambda text: judge(View(text, "general", config), rules),
        lambda text: remove_repeated_lines(View(text, "general", config)),
    ):  # fmt: skip
        assert seconds(lambda work=work: work(text)) < 5, work


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
@example(b"\x00" * 300)
@example(b"\xff\xfe<\x00p\x00>\x00")
@example(b"<p>\xff\xfe\xfd</p>")
def test_any_bytes_give_a_text_or_a_reason(data: bytes) -> None:
    found = extract(data, "http://[::1")
    assert isinstance(found.text, str)
    json.dumps(found.links)
    assert found.refused is None or not found.text


@pytest.mark.parametrize("label", ["punycode", "idna", "unicode-escape", "raw_unicode_escape", "utf-7", "hex"])
def test_labels_that_no_browser_knows_are_not_believed(label: str) -> None:
    data = f"<meta charset={label}>".encode() + b"a\xc3\xa9\\u0041-" * 200_000
    assert seconds(lambda: decode_html(data)) < 5
    assert "é\\u0041-" in str(decode_html(data))
