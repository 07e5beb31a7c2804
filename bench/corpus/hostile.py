"""What pages made to hurt cost: processor seconds and memory of each, extracted in a process of its own.

    python bench/corpus/hostile.py

Some break a bound (length, elements, depth) and are refused; the others stay just below all of them and are read.
Memory is what the process gained while it read, the page itself not counted.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable

from herd.corpus.charset import decode_html
from herd.corpus.extract import extract

_PROSE = "<p>The river rises in the hills to the north, and it runs for many miles before it meets the sea.</p>"
_ROW = "<tr><td>north</td><td>12 km</td></tr>"
_CODE = "<table class=highlight>" + "<tr><td class=lineno>1</td><td><pre>x = 1</pre></td></tr>" * 60_000 + "</table>"
PAGES: dict[str, Callable[[], bytes | str]] = {
    "50 MB of paragraphs": lambda: _PROSE * (50_000_000 // len(_PROSE)),
    "100,000 elements within one another": lambda: "<div>" * 100_000 + _PROSE,
    "100,000 that end tags leave open": lambda: "<div></x>" * 100_000 + _PROSE,
    "100,000 lists within one another": lambda: "<ul><li>" * 100_000 + _PROSE,
    "100,000 parts of one formula": lambda: "<math>" + "<mrow>" * 100_000 + "<mi>x</mi>",
    "bold type opened again in 100,000 paragraphs": lambda: "".join(f"<p><b id={n}>x" for n in range(100_000)),
    "600,000 elements": lambda: "<ul>" + "<li>a" * 600_000,
    "20 MB of paragraphs": lambda: _PROSE * (20_000_000 // len(_PROSE)),
    "100,000 rows of a table": lambda: f"<table>{_ROW * 100_000}</table>",
    "lines of code in 120,000 cells": lambda: _CODE,
    "40,000 paragraphs in 250 menus": lambda: "<div class=nav>" * 250 + _PROSE * 40_000,
    "40,000 posts in 250 posts": lambda: "<div class=post>" * 250 + "<div class=content>ab</div>" * 40_000,
    "100,000 sections": lambda: f"<section class=a>{_PROSE}</section>" * 100_000,
    "15,000 fonts left open in tables": lambda: ("<table><tr><td><font>" + _PROSE + "</table>") * 15_000,
    "200,000 signs of a formula": lambda: f"<math>{'<mi>x</mi><mo>+</mo>' * 100_000}</math>",
    "150,000 lines that their charset cannot hold": lambda: b"<meta charset=shift_jis>" + b"\xed\xa0\xff<br>" * 150_000,
    "a charset that only Python knows": lambda: b"<meta charset=punycode>" + b"a\xc3\xa9-" * 500_000,
    "NUL bytes": lambda: (_PROSE.replace("e", "e\0") * 50_000).encode(),
}  # fmt: skip


def cost(name: str) -> str:
    """One line: the page's size, seconds, mebibytes gained, and what came of it."""
    page = PAGES[name]()
    text = decode_html(page) if isinstance(page, bytes) else page
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    found = extract(page)
    seconds = time.process_time() - started
    gained = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    size = len(page if isinstance(page, bytes) else text or "") / 1e6
    result = f"refused: {found.refused}" if found.refused else f"{len(found.text):,} characters"
    return f"{name}: {size:.1f} MB, {seconds:.2f} s, {gained} MiB; {result}"


def main() -> None:
    """Prints a line for every page."""
    for name in PAGES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.apply(cost, (name,)), flush=True)


if __name__ == "__main__":
    main()
