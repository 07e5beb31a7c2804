"""Measures main-text extraction on real pages: precision, recall and F1 of 4-word shingles, and pages a second.

    python bench/corpus/extraction.py ../shared/data/html-articles
    python bench/corpus/extraction.py ../shared/data/html-readability   # against what Readability made of them

The first folder holds ``html/*.html.gz`` and ``ground-truth.json`` (``articleBody`` by page).  The measure is that of
its authors: shingles of the sequence of words are counted for each page, precision and recall are averaged
over pages, F1 is made of the two means.  Time is processor time of one process, parsing included.
"""

import argparse
import gzip
import json
import re
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from selectolax.lexbor import LexborHTMLParser

from herd.corpus.extract import extract_html

_WORD = re.compile(r"\w+")
_SHINGLE = 4


@dataclass(frozen=True)
class Score:
    """How well one page was extracted; ``key`` names it."""

    key: str
    precision: float
    recall: float


def shingles(text: str) -> Counter[tuple[str, ...]]:
    """The 4-word shingles of ``text`` with their counts; a shorter text is one shingle."""
    words = _WORD.findall(text)
    return (
        Counter(tuple(words[at : at + _SHINGLE]) for at in range(max(1, len(words) - _SHINGLE + 1)))
        if words
        else Counter()
    )


def compare(truth: str, found: str) -> tuple[float, float]:
    """Precision and recall of ``found`` against ``truth``."""
    true, said = shingles(truth), shingles(found)
    common = sum((true & said).values())
    if true == said:
        return 1.0, 1.0
    return common / max(said.total(), 1), common / max(true.total(), 1)


def pages(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Key, HTML and true text of every page in ``folder``."""
    archive = folder / "test-pages.tar.xz"
    if archive.exists():
        yield from _archived_pages(archive)
        return
    truth = json.loads((folder / "ground-truth.json").read_text(encoding="utf-8"))
    for key in sorted(truth):
        html = gzip.decompress((folder / "html" / f"{key}.html.gz").read_bytes()).decode()
        yield key, html, truth[key]["articleBody"]


def _archived_pages(archive: Path) -> Iterator[tuple[str, str, str]]:
    """Mozilla Readability's test pages, each beside what Readability itself makes of it."""
    with tarfile.open(archive) as files:
        found = {name: files.extractfile(name).read().decode("utf-8", "replace") for name in files.getnames()
                 if name.endswith(".html")}  # fmt: skip
    for name in sorted(found):
        if name.endswith("/source.html"):
            expected = LexborHTMLParser(found[name.replace("source", "expected")]).body
            yield name.split("/")[-2], found[name], expected.text(separator=" ") if expected is not None else ""


def measure(folder: Path) -> tuple[list[Score], float]:
    """The score of every page, and the pages extracted in a second of processor time."""
    scores: list[Score] = []
    seconds = 0.0
    for key, html, truth in pages(folder):
        started = time.process_time()
        text = extract_html(html).text
        seconds += time.process_time() - started
        scores.append(Score(key, *compare(truth, text)))
    return scores, len(scores) / seconds


def summary(scores: list[Score]) -> tuple[float, float, float]:
    """Mean precision, mean recall, and F1 of the two means."""
    precision = sum(score.precision for score in scores) / len(scores)
    recall = sum(score.recall for score in scores) / len(scores)
    return precision, recall, 2 * precision * recall / (precision + recall)


def main() -> None:
    """Prints the summary and the pages that were extracted worst."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--worst", type=int, default=5, metavar="N", help="how many of the worst pages to name")
    arguments = parser.parse_args()
    scores, rate = measure(arguments.folder)
    precision, recall, f1 = summary(scores)
    print(f"{len(scores)} pages: precision {precision:.4f}, recall {recall:.4f}, F1 {f1:.4f}, {rate:.0f} pages/s")
    for score in sorted(scores, key=lambda score: score.precision + score.recall)[: arguments.worst]:
        print(f"  precision {score.precision:.3f}, recall {score.recall:.3f}: {score.key}")


if __name__ == "__main__":
    main()
