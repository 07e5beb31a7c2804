"""Intervals for every score, since a figure without its uncertainty is an opinion.

Proportions get Wilson's interval: the normal one of the paper (section 5.1, ``1.96 * sqrt(S (1 - S) / n)``) covers
far less than it promises near 0 and 1.  Ratios over items that are not alike (bits per byte over documents) get a
percentile bootstrap over those items.  Usage: ``wilson(41, 50)`` or ``bootstrap_ratio(bits, bytes, seed=7)``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from herd.foundation.seeds import numpy_from

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; ``n`` counts the independent items it rests on."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """Wilson's score interval for a proportion (Wilson 1927); with no items at all it is [0, 1] around 0.5.

    Raises:
        ValueError: if ``successes`` does not lie in 0..n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} items are not a proportion")
    if n == 0:
        return Estimate(0.5, 0.0, 1.0, 0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    # At the ends the bound equals the share exactly; rounding must not put it on the wrong side.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Estimate(share, low, high, n)


def proportion(outcomes: Sequence[bool]) -> Estimate:
    """Wilson's interval of a list of outcomes."""
    return wilson(sum(outcomes), len(outcomes))


def resampling_counts(n: int, seed: int, *names: str | int, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each of ``n`` items is drawn in each resample, (resamples, n); rows sum to ``n``."""
    return numpy_from(seed, "bootstrap", *names).multinomial(n, np.full(n, 1 / n), size=resamples)


def percentile_interval(samples: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The middle ``confidence`` of bootstrap samples (R,)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_ratio(numerators: Sequence[float], denominators: Sequence[float], seed: int) -> Estimate:
    """sum(numerators) / sum(denominators) with a percentile bootstrap over the items, drawn in pairs.

    Raises:
        ValueError: if there are no items or the lengths differ.
    """
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    if len(top) == 0 or len(top) != len(bottom):
        raise ValueError(f"a ratio needs as many numerators ({len(top)}) as denominators ({len(bottom)}), and some")
    counts = resampling_counts(len(top), seed, "ratio")
    low, high = percentile_interval((counts @ top) / (counts @ bottom))
    return Estimate(float(top.sum() / bottom.sum()), low, high, len(top))
