"""Forecasts a benchmark's accuracy from compute, in the paper's two steps (section 3.2.1).

1. The loss on the benchmark's right answers falls on a line over log FLOPs; only models of the scaling study take part.
2. Accuracy follows that loss on a sigmoid; older and larger models take part too, whatever they were trained with.

    herd scale downstream models.csv --at 3.8e25

The table has the columns ``flops, nll, accuracy``; a row without FLOPs takes part in the second step only, a row
without accuracy in the first only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from herd.foundation.errors import HerdError
from herd.foundation.seeds import numpy_from
from herd.scaling.rows import read_rows

COLUMNS = ("flops", "nll", "accuracy")
_RESAMPLES = 200
_BENT = 2.0  # a parabola that halves the residuals is no accident of noise
_LEAST_ON_LINE, _LEAST_ON_SIGMOID = 3, 5


@dataclass(frozen=True)
class Model:
    """One trained model: training FLOPs, loss on the right answers (any normalisation), accuracy as a share."""

    flops: float | None
    nll: float
    accuracy: float | None


@dataclass(frozen=True)
class TwoSteps:
    """nll = intercept + slope * log10(FLOPs); accuracy between ``floor`` and ``ceiling``, half-way at ``middle``."""

    slope: float
    intercept: float
    floor: float
    ceiling: float
    steepness: float
    middle: float

    def nll(self, flops: float) -> float:
        """The loss to expect after ``flops`` FLOPs of training."""
        return self.intercept + self.slope * math.log10(flops)

    def accuracy(self, nll: float) -> float:
        """The accuracy to expect of a model with that loss."""
        theta = np.array([self.floor, self.ceiling, self.steepness, self.middle])
        return float(_sigmoid(np.array(nll), theta))


def _sigmoid(nll: np.ndarray, theta: np.ndarray) -> np.ndarray:
    floor, ceiling, steepness, middle = theta
    # The clip keeps exp finite while the search is still far off; at 50 the curve is flat to 22 digits.
    return floor + (ceiling - floor) / (1 + np.exp(np.clip(steepness * (nll - middle), -50, 50)))


def fit_two_steps(models: Sequence[Model], chance: float = 0.0, near: TwoSteps | None = None) -> TwoSteps:
    """Both steps by least squares; accuracy starts from ``chance``, the share that guessing gets right.

    ``near`` is a fit of almost the same models; the search then starts there alone.
    """
    line = [(model.flops, model.nll) for model in models if model.flops is not None]
    curve = [(model.nll, model.accuracy) for model in models if model.accuracy is not None]
    if len({flops for flops, _ in line}) < _LEAST_ON_LINE:
        raise HerdError(f"a line over log FLOPs needs models of at least {_LEAST_ON_LINE} budgets")
    if len(curve) < _LEAST_ON_SIGMOID:
        raise HerdError(f"a sigmoid needs at least {_LEAST_ON_SIGMOID} models with an accuracy, there are {len(curve)}")
    flops, nll = np.array(line, dtype=float).T
    slope, intercept = np.polyfit(np.log10(flops), nll, 1)
    if slope >= 0:
        raise HerdError("the loss does not fall with FLOPs; there is nothing to extrapolate")
    return TwoSteps(float(slope), float(intercept), *_fit_sigmoid(np.array(curve, dtype=float), chance, near))


def _fit_sigmoid(curve: np.ndarray, chance: float, near: TwoSteps | None) -> tuple[float, float, float, float]:
    nll, accuracy = curve.T
    spread = float(np.ptp(nll)) or 1.0
    lower = np.array([chance - 1e-6, chance, 0.1 / spread, nll.min() - 2 * spread])
    upper = np.array([chance + 1e-6, 1.0, 100 / spread, nll.max() + spread])
    starts = [(chance, 0.95, steepness / spread, middle) for steepness in (2, 8) for middle in (nll.min(), nll.mean())]
    if near is not None:
        starts = [(chance, near.ceiling, near.steepness, near.middle)]
    fits = [
        least_squares(
            lambda theta: _sigmoid(nll, theta) - accuracy,
            np.clip(start, lower + 1e-9, upper - 1e-9),
            bounds=(lower, upper),
            x_scale=[0.1, 0.1, 1 / spread, spread],
            max_nfev=200,
        )
        for start in starts
    ]
    floor, ceiling, steepness, middle = min(fits, key=lambda fit: fit.cost).x
    return float(floor), float(ceiling), float(steepness), float(middle)


def _flattening(models: Sequence[Model]) -> list[str]:
    """A warning where the losses bend away from the line, towards less gain from compute."""
    flops, nll = np.array([(m.flops, m.nll) for m in models if m.flops is not None], dtype=float).T
    x = np.log10(flops)
    if len(set(flops)) <= _LEAST_ON_LINE:
        return []
    straight, bent = np.polyfit(x, nll, 1), np.polyfit(x, nll, 2)
    off = [float(np.sqrt(np.mean((np.polyval(fit, x) - nll) ** 2))) for fit in (straight, bent)]
    if bent[0] > 0 and off[1] < off[0] / _BENT:
        return [
            f"the losses flatten over log FLOPs (a parabola leaves {off[1] / off[0]:.0%} of the residuals): "
            "the line promises too much; take the larger budgets alone"
        ]
    return []


def forecast_accuracy(
    models: Sequence[Model], flops: float, chance: float = 0.0, line_from: float = 0.0, seed: int = 0
) -> dict[str, Any]:
    """The fits, and loss and accuracy to expect at ``flops`` with 95% intervals from resampled models.

    The line goes through models of at least ``line_from`` FLOPs; smaller ones take part in the sigmoid only.
    """
    models = [replace(m, flops=None) if m.flops is not None and m.flops < line_from else m for m in models]
    fitted = fit_two_steps(models, chance)
    generator = numpy_from(seed, "bootstrap", "downstream")
    draws = []
    for _ in range(_RESAMPLES):
        chosen = [models[index] for index in generator.integers(len(models), size=len(models))]
        try:
            drawn = fit_two_steps(chosen, chance, near=fitted)
        except HerdError:
            continue  # a draw of too few different models
        draws.append((drawn.nll(flops), drawn.accuracy(drawn.nll(flops))))
    low, high = np.percentile(draws, [2.5, 97.5], axis=0) if draws else np.full((2, 2), np.nan)
    nll = fitted.nll(flops)
    return {
        "flops": flops,
        "nll": nll,
        "nll_interval": (float(low[0]), float(high[0])),
        "accuracy": fitted.accuracy(nll),
        "accuracy_interval": (float(low[1]), float(high[1])),
        "line": {"slope": fitted.slope, "intercept": fitted.intercept},
        "sigmoid": {name: getattr(fitted, name) for name in ("floor", "ceiling", "steepness", "middle")},
        "warnings": _flattening(models),
    }


def read_models(path: Path) -> list[Model]:
    """The rows of a CSV file with the columns ``flops, nll, accuracy``; ``HerdError`` with the line that is wrong."""
    return [_model(row, f"{path}, line {line}") for line, row in read_rows(path, COLUMNS)]


def _model(row: dict[str, str], place: str) -> Model:
    flops, nll, accuracy = (_number(row, name, place) for name in COLUMNS)
    if nll is None:
        raise HerdError(f"{place}: nll is empty")
    if flops is not None and flops <= 0:
        raise HerdError(f"{place}: flops is {flops:g}, it must be positive")
    if accuracy is not None and not 0 <= accuracy <= 1:
        raise HerdError(f"{place}: accuracy is {accuracy:g}, it must be a share between 0 and 1")
    return Model(flops, nll, accuracy)


def _number(row: dict[str, str], name: str, place: str) -> float | None:
    text = row[name].strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise HerdError(f"{place}: {name} is {text!r}, not a number") from None
    if not math.isfinite(value):
        raise HerdError(f"{place}: {name} is {text}, it must be finite")
    return value


def describe_forecast(found: dict[str, Any]) -> str:
    """The forecast in words, for a terminal."""
    (nll_low, nll_high), (low, high) = found["nll_interval"], found["accuracy_interval"]
    sigmoid = found["sigmoid"]
    return "\n".join(
        [
            f"nll = {found['line']['intercept']:.4g} {found['line']['slope']:+.4g} log10(FLOPs)",
            f"accuracy from {sigmoid['floor']:.3f} to {sigmoid['ceiling']:.3f}, half-way at {sigmoid['middle']:.4g}",
            f"at {found['flops']:.3g} FLOPs: nll {found['nll']:.4g} (95%: {nll_low:.4g} to {nll_high:.4g}), "
            f"accuracy {found['accuracy']:.1%} (95%: {low:.1%} to {high:.1%})",
            *(f"warning: {sentence}" for sentence in found["warnings"]),
        ]
    )
