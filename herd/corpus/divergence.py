"""How far a document's words are from those of its kind: Kullback-Leibler divergence from the corpus's distribution.

The paper drops documents with too many outlier tokens by this measure (section 3.1.1).  Words are counted in a fixed
number of hash buckets, so memory does not grow with the vocabulary; a document's own words are taken out before it is
compared; and as short documents always diverge more, the limit is on the distance from a line fitted through divergence
over the logarithm of length, in robust standard deviations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from herd.corpus.words import Hashes
from herd.foundation.config import Config


class DivergenceConfig(Config):
    """Documents more than ``deviations`` above the line of their group go; a group needs ``minimum_documents``."""

    deviations: float = Field(default=6.0, gt=0)
    buckets: int = Field(default=1 << 17, ge=2)
    smoothing: float = Field(default=0.1, gt=0)
    minimum_documents: int = Field(default=30, ge=4)
    exempt_domains: tuple[str, ...] = ("code",)


@dataclass(frozen=True)
class WordCounts:
    """The distinct hash buckets of a document's words and how often each is used."""

    buckets: NDArray[np.int32]
    counts: NDArray[np.int32]


def count_words(hashes: Hashes, config: DivergenceConfig) -> WordCounts:
    """Counts the words of one document."""
    buckets, counts = np.unique((hashes % np.uint64(config.buckets)).astype(np.int32), return_counts=True)
    return WordCounts(buckets, counts.astype(np.int32))


def divergence(own: WordCounts, corpus: NDArray[np.int64], config: DivergenceConfig) -> float:
    """KL(document || rest of its group) in bits; ``corpus`` counts the words of the whole group, this one included."""
    used = int(np.count_nonzero(corpus))
    rest = corpus[own.buckets] - own.counts + config.smoothing
    total = corpus.sum() - own.counts.sum() + config.smoothing * used
    share = own.counts / max(int(own.counts.sum()), 1)
    return float(np.sum(share * (np.log2(share) - np.log2(rest / total))))


def outliers(divergences: Sequence[float], words: Sequence[int], config: DivergenceConfig) -> NDArray[np.bool_]:
    """Which documents of one group lie too far above its line; none in a group that is too small to have one."""
    y, x = np.asarray(divergences, dtype=np.float64), np.log2(np.maximum(words, 1))
    if len(y) < config.minimum_documents:
        return np.zeros(len(y), dtype=np.bool_)
    keep = np.ones(len(y), dtype=np.bool_)
    residual = y - np.median(y)
    for _ in range(3):
        design = np.stack([x[keep], np.ones(int(keep.sum()))], axis=1)
        slope, base = np.linalg.lstsq(design, y[keep], rcond=None)[0]
        residual = y - slope * x - base
        spread = 1.4826 * np.median(np.abs(residual - np.median(residual))) + 1e-9
        keep = np.abs(residual - np.median(residual)) <= 4 * spread
    far: NDArray[np.bool_] = residual - np.median(residual) > config.deviations * spread
    return far
