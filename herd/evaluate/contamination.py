"""How much of an evaluation set the training data already holds: the 8-gram overlap of the paper's section 5.1.4.

An item's score is the share of its words that lie in some 8-gram which also occurs in the training texts; it counts as
contaminated from a ratio T_D on.  The paper counts tokens; we count words without case, markup and punctuation, so that
a page that was re-wrapped, re-cased or put into HTML does not escape.  T_D is chosen per set as the paper does: where
the estimated gain (score of all items minus score of the clean ones) is largest among the significant ones.
Usage: ``overlap(items, training_texts)``, then ``estimate_gain(shares, scores)``.
"""

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from herd.evaluate.statistics import Estimate, percentile_interval, resampling_counts

NGRAM = 8
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,200}>")
_WORD = re.compile(r"\w+")
_MISSING = -1
# Odd multipliers make the polynomial of a window depend on every word and its place; collisions of 64 bits are rare.
_BASE = np.uint64(0x9E3779B97F4A7C15)


def words(text: str) -> list[str]:
    """Lower-cased words without markup and punctuation; underscores and line breaks divide like spaces."""
    return _WORD.findall(html.unescape(_TAG.sub(" ", text)).replace("_", " ").lower())


def _windows(ids: np.ndarray) -> np.ndarray:
    """Hashes (n - 7,) of all windows of eight word ids."""
    power, total = np.uint64(1), np.zeros(max(0, len(ids) - NGRAM + 1), np.uint64)
    mixed = (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(29)
    for offset in range(NGRAM):
        total += mixed[offset : offset + len(total)] * power
        power = np.uint64((int(power) * int(_BASE)) & 0xFFFFFFFFFFFFFFFF)
    return total


def overlap(items: Sequence[str], training: Iterable[str]) -> list[float]:
    """For every item the share of its words that lie in an 8-gram of the training texts, 0 for shorter items.

    Memory is that of the items alone; training texts are read once, as a stream.
    """
    vocabulary: dict[str, int] = {}
    tokens = [np.array([vocabulary.setdefault(w, len(vocabulary)) for w in words(item)], np.int64) for item in items]
    hashes = [_windows(ids) for ids in tokens]
    wanted = np.unique(np.concatenate(hashes)) if hashes else np.zeros(0, np.uint64)
    found = np.zeros(len(wanted), bool)
    for text in training:
        ids = np.array([vocabulary.get(word, _MISSING) for word in words(text)], np.int64)
        # A window with a word that no item has cannot match; most windows end here.
        strange = np.concatenate([[0], np.cumsum(ids == _MISSING)])
        possible = strange[NGRAM:] == strange[:-NGRAM] if len(ids) >= NGRAM else np.zeros(0, bool)
        if possible.any():
            seen = _windows(ids)[possible]
            found[np.searchsorted(wanted, seen[np.isin(seen, wanted)])] = True
    return [_share(len(ids), found[np.searchsorted(wanted, own)]) for ids, own in zip(tokens, hashes, strict=True)]


def _share(length: int, hit: np.ndarray) -> float:
    """Share of words that are covered by a hit window."""
    covered = np.zeros(length, bool)
    for start in np.flatnonzero(hit):
        covered[start : start + NGRAM] = True
    return float(covered.mean()) if length else 0.0


@dataclass(frozen=True)
class Contamination:
    """The chosen ratio T_D, the share of items above it and its gain; T_D 1: no gain is significant."""

    threshold: float
    share: float
    gain: Estimate


def estimate_gain(shares: Sequence[float], scores: Sequence[float], seed: int) -> Contamination:
    """Chooses T_D by the largest significant gain, score(all) - score(clean), bootstrapped over items.

    A gain is significant if its 95% interval lies above 0.  Without one, T_D is the largest of the grid.

    Raises:
        ValueError: if there are no items.
    """
    if not scores:
        raise ValueError("contamination needs scores")
    ratio, score = np.asarray(shares), np.asarray(scores, float)
    counts = resampling_counts(len(score), seed, "contamination")
    best: Contamination | None = None
    fallback = Contamination(1.0, float((ratio >= 1.0).mean()), Estimate(0.0, 0.0, 0.0, len(score)))
    for threshold in THRESHOLDS:
        clean = ratio < threshold
        if clean.all() or not clean.any():
            continue
        kept = counts * clean
        gains = counts @ score / counts.sum(1) - kept @ score / np.maximum(kept.sum(1), 1)
        gain = float(score.mean() - score[clean].mean())
        candidate = Contamination(
            threshold, float((~clean).mean()), Estimate(gain, *percentile_interval(gains), len(score))
        )
        if candidate.gain.low > 0 and (best is None or gain > best.gain.value):
            best = candidate
    return best or fallback
