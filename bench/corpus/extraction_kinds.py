"""Main-text extraction by kind of page, beside other extractors, with intervals.

    python bench/corpus/extraction_kinds.py OUT --part look                          # a set of sites/render.py
    python bench/corpus/extraction_kinds.py OUT --part report --peers PEERS/bin/python
    python bench/corpus/extraction_kinds.py ../shared/data/html-readability --peers PEERS/bin/python

The measure is that of ``extraction.py``; the truth does not hold the page's title, and a line of an extractor's text
that is the title is passed over, so that no convention is marked up or down.  Pages of one text, or of one generator,
are not independent; so the bootstrap draws texts and draws generators, and a page counts as often as both of its own
were drawn.  Beside every peer stands the difference of F1, ours less theirs, over the same draws.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from extraction import compare, pages

from herd.corpus.extract import extract_html
from herd.foundation.seeds import numpy_from

_OURS = "herd"
_DRAWS = 2000


@dataclass(frozen=True)
class Page:
    """A page of a set; where nothing says otherwise, it is a kind, a text and a generator of its own set."""

    key: str
    html: str
    truth: str
    title: str
    kind: str
    language: str
    text: str
    generator: str


Scores = dict[str, tuple[float, float]]  # precision and recall by page


def read_set(folder: Path, part: str | None) -> list[Page]:
    """The pages of a set, or of one of its parts."""
    path = folder / "ground-truth.json"
    said = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found = []
    for key, html, truth in pages(folder):
        row = said.get(key, {})
        if part is None or row.get("part") == part:
            named = {"title": "", "kind": "all", "language": "all", "text": key, "generator": ""}
            names = [row.get(name, default) for name, default in named.items()]
            found.append(Page(key, html, truth, *names))
    return found


def judge(page: Page, text: str) -> tuple[float, float]:
    """Precision and recall of an extractor's text of a page."""
    lines = (line for line in text.splitlines() if " ".join(line.split()).strip("# ¶") != page.title or not page.title)
    return compare(page.truth, "\n".join(lines))


def our_scores(chosen: list[Page]) -> tuple[Scores, float]:
    """Precision and recall of every page, and the pages a second of processor time."""
    texts, before = {}, time.process_time()
    for page in chosen:
        texts[page.key] = extract_html(page.html).text
    seconds = time.process_time() - before
    return {page.key: judge(page, texts[page.key]) for page in chosen}, len(chosen) / seconds


def peer_scores(python: Path, chosen: list[Page], only: list[str]) -> dict[str, Scores]:
    """The same of every peer, or of those in ``only``; ``python`` is that of their environment."""
    by_key = {page.key: page for page in chosen}
    program = Path(__file__).parent / "peer_extractors.py"
    rows = "\n".join(json.dumps({"key": page.key, "html": page.html}) for page in chosen)
    done = subprocess.run([python, program, *only], input=rows, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Scores] = defaultdict(dict)
    for line in done.stdout.splitlines():
        row = json.loads(line)
        found[row["peer"]][row["key"]] = judge(by_key[row["key"]], row["text"])
    return found


def weights(chosen: list[Page], seed: int) -> np.ndarray:
    """How often each page counts in each draw, draws by pages; the first row is the set itself."""
    chance = numpy_from(seed, "extraction-kinds")
    counts = np.ones((_DRAWS + 1, len(chosen)))
    for names in ([page.text for page in chosen], [page.generator for page in chosen]):
        known = sorted(set(names))
        if len(known) > 1:
            drawn = chance.multinomial(len(known), np.full(len(known), 1 / len(known)), size=_DRAWS)
            counts[1:] *= drawn[:, [known.index(name) for name in names]]
    return counts[counts.sum(axis=1) > 0]


def measures(scores: Scores, chosen: list[Page], counts: np.ndarray) -> np.ndarray:
    """Mean precision, mean recall and F1 of the two means for every draw, 3 by draws."""
    both = np.array([scores[page.key] for page in chosen])
    precision, recall = (counts @ both / counts.sum(axis=1, keepdims=True)).T
    return np.stack([precision, recall, 2 * precision * recall / np.maximum(precision + recall, 1e-9)])


def interval(draws: np.ndarray, signed: bool = False) -> str:
    """A value with the interval of its draws."""
    low, high = np.quantile(draws[1:], [0.025, 0.975])
    sign = "+" if signed else ""
    return f"{draws[0]:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def show(name: str, chosen: list[Page], scores: dict[str, Scores], seed: int) -> None:
    """One kind's table: every extractor, best first."""
    counts = weights(chosen, seed)
    found = {peer: measures(own, chosen, counts) for peer, own in scores.items()}
    print(f"\n{name}: {len(chosen)} pages")
    for peer, (precision, recall, f1) in sorted(found.items(), key=lambda item: -item[1][2][0]):
        beside = "" if peer == _OURS else f", ours less it {interval(found[_OURS][2] - f1, signed=True)}"
        print(f"  {peer}: precision {precision[0]:.3f}, recall {recall[0]:.3f}, F1 {interval(f1)}{beside}")


def main() -> None:
    """Prints a table for all pages, for each kind, and for pages that are not English."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part", choices=("look", "report"))
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="the Python that has the other extractors")
    parser.add_argument("--only", nargs="*", default=[], metavar="PEER", help="the peers to run; all, if left out")
    parser.add_argument("--worst", type=int, default=0, metavar="N", help="how many of our worst pages to name")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chosen = read_set(arguments.folder, arguments.part)
    if not chosen:
        sys.exit("no pages there")
    ours, rate = our_scores(chosen)
    scores = {_OURS: ours, **(peer_scores(arguments.peers, chosen, arguments.only) if arguments.peers else {})}
    show("all", chosen, scores, arguments.seed)
    kinds = sorted({page.kind for page in chosen})
    for kind in kinds if len(kinds) > 1 else ():
        show(kind, [page for page in chosen if page.kind == kind], scores, arguments.seed)
    if len({page.language for page in chosen}) > 1:
        show("not English", [page for page in chosen if page.language != "en"], scores, arguments.seed)
    print(f"\nours: {rate:.0f} pages a second of processor time")
    for page in sorted(chosen, key=lambda page: sum(ours[page.key]))[: arguments.worst]:
        print(f"  precision {ours[page.key][0]:.3f}, recall {ours[page.key][1]:.3f}: {page.key}")


if __name__ == "__main__":
    main()
