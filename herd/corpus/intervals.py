"""A share with its 95% interval, for everything in this room that is counted on a sample: ``wilson(right, judged)``."""

from typing import TypedDict


class Share(TypedDict):
    """A share and the ends of its interval, all in [0, 1]."""

    value: float
    low: float
    high: float


def wilson(part: int, whole: int) -> Share | None:
    """Wilson's interval of ``part`` of ``whole``; None where nothing was counted."""
    from scipy.stats import binomtest  # takes a second to load, which whoever counts nothing need not wait for

    if not whole:
        return None
    interval = binomtest(part, whole).proportion_ci(0.95, "wilson")
    return {"value": part / whole, "low": float(interval.low), "high": float(interval.high)}
