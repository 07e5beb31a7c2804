"""Recall and precision of near-duplicate detection, and its speed.

Run: ``python bench/corpus/near_duplicates.py DIRECTORY`` where ``articles_N.train`` and ``.truth`` lie (an article a
line, its name first; a pair of names a line).  Every pair inside a found family counts as found.
"""

import itertools
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from herd.corpus.dedup import DedupConfig, families, sign
from herd.corpus.words import hash_words, split_words


@dataclass(frozen=True)
class Result:
    """Pairs known, found and right, documents and the seconds they took from text to families."""

    known: int
    found: int
    right: int
    documents: int
    seconds: float


def measure(base: Path, config: DedupConfig) -> Result:
    """Compares the families found in ``base``.train with the pairs of ``base``.truth."""
    names, texts = [], []
    for line in base.with_suffix(".train").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, text = line.partition(" ")
        names.append(name)
        texts.append(text)
    truth = {frozenset(line.split()) for line in base.with_suffix(".truth").read_text().splitlines() if line.strip()}
    started = time.perf_counter()
    family = families(sign([hash_words(split_words(text)) for text in texts], config), config)
    seconds = time.perf_counter() - started
    found = {
        frozenset((names[one], names[other]))
        for root in np.unique(family)
        for one, other in itertools.combinations(np.flatnonzero(family == root), 2)
    }
    return Result(len(truth), len(found), len(found & truth), len(names), seconds)


def main() -> None:
    """Prints one line for each pair of files."""
    for train in sorted(Path(sys.argv[1]).glob("articles_*.train")):
        result = measure(train.with_suffix(""), DedupConfig())
        print(
            f"{train.stem}: recall {result.right}/{result.known}, precision {result.right}/{result.found}, "
            f"{result.documents / result.seconds:,.0f} documents/s"
        )


if __name__ == "__main__":
    main()
