"""What a text says more than once, in runs of n words: shares of its characters.

    Repeats(hashes, lengths).top(3), Repeats(hashes, lengths).again(5)

A run of n words can stand twice only where its first n - 1 words do, so each n looks at what was left of the one
before, which in most texts is soon nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from herd.corpus.words import Hashes, extend, finish, sum_ngrams


@dataclass(frozen=True)
class _Level:
    """The runs of some n that may stand twice: where they begin, the sums of their digests, and how they compare.

    ``order`` sorts them by digest, earlier ones first; ``same`` says of each in that order, but for the first, whether
    it equals the one before.
    """

    places: NDArray[np.int64]
    sums: Hashes
    order: NDArray[np.int64]
    same: NDArray[np.bool_]

    @classmethod
    def of(cls, places: NDArray[np.int64], sums: Hashes) -> "_Level":
        digests = finish(sums)
        order = np.argsort(digests, kind="stable")
        ranked = digests[order]
        return cls(places, sums, order, ranked[1:] == ranked[:-1])

    def twice(self) -> NDArray[np.bool_]:
        """Which of the runs stand more than once."""
        found = np.zeros(len(self.places), dtype=np.bool_)
        found[self.order[1:][self.same]] = True
        found[self.order[:-1][self.same]] = True
        return found


class Repeats:
    """Repetition in a text of which the digests and the lengths of the words are given, shapes (words,)."""

    def __init__(self, hashes: Hashes, lengths: NDArray[np.int64]) -> None:
        self._hashes, self._lengths = hashes, lengths
        self._characters = max(int(lengths.sum()), 1)
        self._levels: dict[int, _Level] = {}
        self._again: dict[int, float] = {}
        self._top: dict[int, float] = {}

    def top(self, n: int) -> float:
        """The share of the characters in the most frequent run of ``n`` words; 0 where none stands twice."""
        if n not in self._top:
            self._top[n] = self._measure_top(n)
        return self._top[n]

    def again(self, n: int) -> float:
        """The share of the characters in runs of ``n`` words that stood before, overlaps counted once."""
        if n not in self._again:
            self._again[n] = self._measure_again(n)
        return self._again[n]

    def _measure_top(self, n: int) -> float:
        level = self._level(n)
        if not level.same.any():
            return 0.0
        first = np.flatnonzero(np.concatenate([[True], ~level.same]))
        counts = np.diff(np.append(first, len(level.order)))
        top = int(np.argmax(counts))
        place = int(level.places[level.order[first[top]]])
        length = int(self._lengths[place : place + n].sum())
        return min(float(counts[top] * length / self._characters), 1.0)

    def _measure_again(self, n: int) -> float:
        level = self._level(n)
        if not level.same.any():
            return 0.0
        marks = np.zeros(len(self._hashes) - n + 1, dtype=np.int64)
        marks[level.places[level.order[1:][level.same]]] = 1
        return float(self._lengths[covered(marks, n)].sum() / self._characters)

    def _level(self, n: int) -> _Level:
        if n not in self._levels:
            below = self._levels.get(n - 1)
            self._levels[n] = self._longer(below, n) if below is not None else self._all(n)
        return self._levels[n]

    def _all(self, n: int) -> _Level:
        sums = sum_ngrams(self._hashes, n)
        return _Level.of(np.arange(len(sums)), sums)

    def _longer(self, below: _Level, n: int) -> _Level:
        twice = below.twice() & (below.places <= len(self._hashes) - n)
        places = below.places[twice]
        return _Level.of(places, extend(below.sums[twice], self._hashes[places + n - 1]))


def covered(marks: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    """Which words lie in a marked n-gram: shape (len(marks) + n - 1,)."""
    edges = np.zeros(len(marks) + n, dtype=np.int64)
    edges[: len(marks)] += marks
    edges[n : n + len(marks)] -= marks
    return np.cumsum(edges)[:-1] > 0
