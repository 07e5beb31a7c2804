"""Two readings of the same runs side by side: parabolas of each budget, and one parametric law over all points.

They ask the data differently, so that their agreement is evidence, and their disagreement a warning: the parabolas
look at the neighbourhood of each budget's best size only, the parametric law assumes a form for all sizes.

    two = both(points, points, at=3.8e25)
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, get_args

import numpy as np

from herd.foundation.errors import HerdError
from herd.foundation.seeds import numpy_from
from herd.scaling.careful import is_isoflop
from herd.scaling.laws import (
    LossForm,
    ParametricLaw,
    Point,
    fit_optimum,
    fit_parabolas,
    fit_parametric,
    forecast_least_loss,
    resample_parametric,
)

LOSS_FORMS: tuple[LossForm, ...] = get_args(LossForm)
# Laws without a floor are asked for losses up to this many times the largest budget.
_NEAR = 100
_RESAMPLES = 60
# The parametric law counts as identified where the exponents' intervals keep within a factor of this, ...
_WIDEST = 3.0
# ... and clear of the bounds of the search, where the terms cannot be told apart.
_EXPONENTS = (0.02, 1.95)
_LEAST_FLOOR = 2e-3  # nats; the search's own bound is at 9e-4
# Two optima that differ by more than this factor are not the same advice.
_SAME_ADVICE = 1.25

Interval = tuple[float, float]


def both(points: Sequence[Point], centred: Sequence[Point], at: float | None = None, seed: int = 0) -> dict[str, Any]:
    """Both fits, the optimum ``at`` a budget and its loss by each, and what speaks against them (``warnings``).

    The parametric law is fitted to ``points``, the parabolas to those of them that are ``centred`` on their minima.
    Keys: ``isoflop`` and ``parametric``, each None where the table does not allow it (a warning then says why).
    """
    warnings: list[str] = []
    isoflop, parametric = _isoflop(centred, at, seed, warnings), _parametric(points, at, seed, warnings)
    if isoflop is not None and parametric is not None:
        warnings += _disagreement(isoflop, parametric, at or 10 * max(point.budget for point in points))
    return {"isoflop": isoflop, "parametric": parametric, "warnings": warnings}


def optimal_tokens(fit: dict[str, Any], budget: float) -> float:
    """N*(C) = A C^alpha of either fit, where ``alpha`` is the exponent of optimal tokens."""
    return float(fit["A"] * budget ** fit["alpha"])


def _isoflop(points: Sequence[Point], at: float | None, seed: int, warnings: list[str]) -> dict[str, Any] | None:
    try:
        if not is_isoflop(points):
            raise HerdError("too few of the rows share their budget with two other sizes")
        law = fit_optimum(points, seed)
    except HerdError as error:
        warnings.append(f"no IsoFLOP fit: {error}")
        return None
    optima = [
        {
            "budget": fit.budget,
            "tokens": fit.tokens,
            "params": _params_at(fit.tokens, [point for point in points if point.budget == fit.budget]),
            "loss": fit.loss,
            "inside": fit.inside,
        }
        for fit in fit_parabolas(points)
    ]
    fit = {
        "alpha": law.exponent,
        "alpha_interval": law.exponent_interval,
        "A": law.factor,
        "A_interval": law.factor_interval,
        "optima": optima,
    }
    if at is not None:
        near = at <= _NEAR * max(point.budget for point in points)
        losses = {form: _loss(*forecast_least_loss(points, at, form, seed)) for form in LOSS_FORMS if near}
        fit["at"] = _optimum(fit, at) | {"losses": losses}
    return fit


def _optimum(fit: dict[str, Any], budget: float) -> dict[str, Any]:
    tokens = optimal_tokens(fit, budget)
    return {"budget": budget, "tokens": tokens, "params": budget / (6 * tokens)}


def _loss(loss: float, low: float, high: float) -> dict[str, Any]:
    return {"loss": loss, "loss_interval": (low, high)}


def _params_at(tokens: float, points: Sequence[Point]) -> float:
    """Parameters that spend the budget on ``tokens``, by the budget's own FLOPs per parameter and token."""
    return float(np.median([point.params * point.tokens for point in points]) / tokens)


def _parametric(points: Sequence[Point], at: float | None, seed: int, warnings: list[str]) -> dict[str, Any] | None:
    """E, A, B, alpha and beta with intervals under ``law``, and the optimum they imply, where they are identified."""
    try:
        law = fit_parametric(points)
    except HerdError as error:
        warnings.append(f"no parametric fit: {error}")
        return None
    doubt = _unidentified(law, {name: (getattr(law, name),) * 2 for name in asdict(law)})
    if doubt is None:
        draws = resample_parametric(points, law, numpy_from(seed, "bootstrap", "parametric"), _RESAMPLES)
        intervals = {name: _interval([getattr(draw, name) for draw in draws]) for name in asdict(law)}
        doubt = _unidentified(law, intervals)
    if doubt is not None:
        warnings.append(f"no parametric fit: {doubt}")
        return None
    fit = {
        "alpha": law.exponent,
        "alpha_interval": _interval([draw.exponent for draw in draws]),
        "A": law.optimal_tokens(1.0),
        "A_interval": _interval([draw.optimal_tokens(1.0) for draw in draws]),
        "law": asdict(law),
        "law_intervals": intervals,
    }
    if at is not None:
        low, high = _interval([draw.least_loss(at) for draw in draws])
        loss = _loss(law.least_loss(at), low, high)
        fit["at"] = _optimum(fit, at) | {"losses": {"parametric": loss}}
    return fit


def _interval(values: Sequence[float]) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _unidentified(law: ParametricLaw, intervals: dict[str, Interval]) -> str | None:
    """Why these points cannot tell the law's three terms apart, or None where they can."""
    if law.E < _LEAST_FLOOR:
        return "the points show no floor E of the loss"
    for name in ("alpha", "beta"):
        low, high = intervals[name]
        if low < _EXPONENTS[0] or high > _EXPONENTS[1] or high > _WIDEST * low:
            place = f"at {low:.2g}, the edge of the search" if low == high else f"from {low:.2g} to {high:.2g} (95%)"
            return f"the points do not fix {name}: it lies {place}"
    return None


def _disagreement(isoflop: dict[str, Any], parametric: dict[str, Any], budget: float) -> list[str]:
    """A sentence where the two exponents' intervals do not meet, or the optima at ``budget`` are different advice."""
    (low, high), (other_low, other_high) = isoflop["alpha_interval"], parametric["alpha_interval"]
    said = []
    if low > other_high or other_low > high:
        said.append(
            f"the two fits disagree: alpha is {isoflop['alpha']:.3f} ({low:.3f} to {high:.3f}) by parabolas and "
            f"{parametric['alpha']:.3f} ({other_low:.3f} to {other_high:.3f}) by the parametric law"
        )
    ratio = optimal_tokens(isoflop, budget) / optimal_tokens(parametric, budget)
    if not 1 / _SAME_ADVICE <= ratio <= _SAME_ADVICE:
        said.append(
            f"the two fits disagree: at {budget:.3g} FLOPs the parabolas ask for {ratio:.2f} times the tokens of the "
            "parametric law"
        )
    return said
