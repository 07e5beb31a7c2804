"""Fits what IsoFLOP runs measured, and forecasts runs that were not made.

Fits, from the most local to the most global:

- a parabola of the loss over log tokens for each budget, whose vertex is that budget's compute-optimal run;
- the power law N*(C) = A C^alpha through the vertices, N* being optimal *tokens* as in the paper (section 3.2.1), and
  a line or another power law through the vertices' losses, for the loss of a larger budget's best size;
- L(N, D) = E + A / N^alpha + B / D^beta over all points (Hoffmann et al. 2022, approach 3), which can also forecast a
  run whose size is not the optimal one.  Far above the floor E a plainer law does better; the largest budget decides.

Intervals are 95% percentile bootstraps over the points.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize
from scipy.special import huber, logsumexp

from herd.foundation.errors import HerdError
from herd.foundation.seeds import numpy_from

LossForm = Literal["line", "power"]

_HUBER_DELTA = 1e-3
_KNOWS_ITS_NOISE = 5  # points of a budget
_PARAMETRIC_RUNS = 6
# Starts of the parametric fit, (log A, log B, log E, alpha, beta): a coarse grid, since the objective is not convex.
_STARTS = [(a, a, e, p, p) for a in (2.0, 8.0) for e in (-1.0, 0.5) for p in (0.2, 0.5)]


@dataclass(frozen=True)
class Point:
    """A finished run: FLOPs, parameters, training tokens and held-out loss in nats per token."""

    budget: float
    params: float
    tokens: float
    loss: float


@dataclass(frozen=True)
class Parabola:
    """loss = a x^2 + b x + c with x = ln(tokens), for one budget; ``inside``: the vertex lies among the points."""

    budget: float
    a: float
    b: float
    c: float
    tokens: float
    loss: float
    inside: bool

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """The parabola's loss at ``tokens``."""
        x = np.log(tokens)
        return self.a * x**2 + self.b * x + self.c


@dataclass(frozen=True)
class PowerLaw:
    """y = factor * C^exponent, with 95% intervals of both."""

    factor: float
    exponent: float
    factor_interval: tuple[float, float]
    exponent_interval: tuple[float, float]

    def __call__(self, budget: float) -> float:
        """The law's value at ``budget`` FLOPs."""
        return self.factor * budget**self.exponent


@dataclass(frozen=True)
class ParametricLaw:
    """L(N, D) = E + A / N^alpha + B / D^beta."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def __call__(self, params: float, tokens: float) -> float:
        """The forecast loss in nats per token."""
        return float(self.E + self.A / params**self.alpha + self.B / tokens**self.beta)

    @property
    def exponent(self) -> float:
        """How optimal tokens grow with compute: dL/dN = 0 under C = 6 N D gives N*(C) ~ C^(alpha / (alpha + beta))."""
        return self.alpha / (self.alpha + self.beta)

    def optimal_tokens(self, budget: float) -> float:
        """The training tokens that give the least loss for ``budget`` FLOPs, by C = 6 N D."""
        scale = (self.beta * self.B / (self.alpha * self.A)) ** (1 / (self.alpha + self.beta))
        return float(scale * (budget / 6) ** self.exponent)

    def least_loss(self, budget: float) -> float:
        """The loss of that run."""
        tokens = self.optimal_tokens(budget)
        return self(budget / (6 * tokens), tokens)


@dataclass(frozen=True)
class LogarithmicLaw:
    """L(N, D) = base - size ln N - data ln D: the paper's line of loss over log FLOPs, told apart by size and tokens.

    It has no floor, so that it serves runs whose losses are still far above one, and promises too much beyond.
    """

    base: float
    size: float
    data: float

    def __call__(self, params: float, tokens: float) -> float:
        """The forecast loss in nats per token."""
        return float(self.base - self.size * np.log(params) - self.data * np.log(tokens))


def fit_parabola(points: Sequence[Point]) -> Parabola:
    """The parabola of one budget's points; fewer than three sizes, or losses without a minimum, are a ``HerdError``."""
    budget = points[0].budget
    if len({point.tokens for point in points}) < 3:
        raise HerdError(f"budget {budget:.3g}: a parabola needs at least three sizes, there are {len(points)}")
    x = np.log([point.tokens for point in points])
    a, b, c = np.polyfit(x, [point.loss for point in points], 2)
    if a <= 0:
        raise HerdError(
            f"budget {budget:.3g}: the losses show no minimum over the sizes; add sizes around the best one"
        )
    vertex = -b / (2 * a)
    inside = bool(x.min() <= vertex <= x.max())
    return Parabola(budget, a, b, c, float(np.exp(vertex)), float(c - b**2 / (4 * a)), inside)


def by_budget(points: Sequence[Point]) -> dict[float, list[Point]]:
    """The points of every budget, budgets ascending."""
    budgets = sorted({point.budget for point in points})
    return {budget: [point for point in points if point.budget == budget] for budget in budgets}


def fit_parabolas(points: Sequence[Point]) -> list[Parabola]:
    """One parabola per budget; see ``fit_parabola`` for what is refused."""
    return [fit_parabola(of_budget) for of_budget in by_budget(points).values()]


def fit_optimum(points: Sequence[Point], seed: int = 0, resamples: int = 200) -> PowerLaw:
    """N*(C), optimal training tokens over compute, with intervals from residual resampling of each parabola."""
    (exponent, log_factor), draws = _lines(points, _log_tokens, numpy_from(seed, "bootstrap", "optimum"), resamples)
    low, high = np.percentile(draws, [2.5, 97.5], axis=0) if draws else np.full((2, 2), np.nan)
    return PowerLaw(
        float(np.exp(log_factor)),
        float(exponent),
        (float(np.exp(low[1])), float(np.exp(high[1]))),
        (float(low[0]), float(high[0])),
    )


def forecast_least_loss(
    points: Sequence[Point], budget: float, form: LossForm, seed: int = 0, resamples: int = 200
) -> tuple[float, float, float]:
    """L*(C), the loss of the best size, at ``budget`` FLOPs, with its 95% interval (low, high).

    A ``line`` over log FLOPs is the paper's form for losses (section 3.2.1), a ``power`` law is one over log FLOPs and
    log loss.  Neither has a floor: a few budgets within a factor of a hundred cannot tell one from another slope.
    """
    value, back = _FORMS[form]
    line, draws = _lines(points, value, numpy_from(seed, "bootstrap", "least loss"), resamples)
    at = np.log(budget)
    low, high = np.percentile([slope * at + base for slope, base in draws], [2.5, 97.5]) if draws else (np.nan, np.nan)
    return float(back(line[0] * at + line[1])), float(back(low)), float(back(high))


def _log_tokens(parabola: Parabola) -> float:
    return float(np.log(parabola.tokens))


# What lies on a line over log FLOPs, and the way back to a loss.
_FORMS: dict[LossForm, tuple[Callable[[Parabola], float], Callable[[float], float]]] = {
    "line": (lambda parabola: parabola.loss, lambda value: value),
    "power": (lambda parabola: float(np.log(parabola.loss)), lambda value: float(np.exp(value))),
}


def _lines(
    points: Sequence[Point], value: Callable[[Parabola], float], generator: np.random.Generator, resamples: int
) -> tuple[tuple[float, float], list[tuple[float, float]]]:
    """(slope, intercept) of the vertices' ``value`` over log FLOPs; the same of losses drawn anew.

    A draw counts where two budgets or more keep a minimum.
    """
    parabolas = fit_parabolas(points)
    if len(parabolas) < 2:
        raise HerdError("a power law needs at least two budgets")
    noise = _noise(points, parabolas)
    tables = (_resampled(points, parabolas, noise, generator) for _ in range(resamples))
    return _line(parabolas, value), [_line(drawn, value) for drawn in tables if len(drawn) > 1]


def _line(parabolas: Sequence[Parabola], value: Callable[[Parabola], float]) -> tuple[float, float]:
    slope, intercept = np.polyfit(np.log([p.budget for p in parabolas]), [value(p) for p in parabolas], 1)
    return float(slope), float(intercept)


def _noise(points: Sequence[Point], parabolas: Sequence[Parabola]) -> dict[float, np.ndarray]:
    """The residuals that a budget's losses may draw: its own, or those of all where it has too few to know its noise.

    They are widened by sqrt(n / (n - 3)), since a parabola takes three degrees of freedom out of them.
    """
    own = {}
    for parabola, rows in zip(parabolas, by_budget(points).values(), strict=True):
        fitted = parabola(np.array([row.tokens for row in rows]))
        widened = np.sqrt(len(rows) / max(len(rows) - 3, 1))
        own[parabola.budget] = (np.array([row.loss for row in rows]) - fitted) * widened
    pooled = np.concatenate(list(own.values()))
    return {budget: rows if len(rows) >= _KNOWS_ITS_NOISE else pooled for budget, rows in own.items()}


def _resampled(
    points: Sequence[Point],
    parabolas: Sequence[Parabola],
    noise: dict[float, np.ndarray],
    generator: np.random.Generator,
) -> list[Parabola]:
    """The parabolas of losses whose residuals were drawn anew.

    A budget whose vertex leaves its sizes in a draw does not take part in that draw, as a reader would not let it.
    """
    drawn = []
    for parabola, rows in zip(parabolas, by_budget(points).values(), strict=True):
        losses = parabola(np.array([row.tokens for row in rows])) + generator.choice(noise[parabola.budget], len(rows))
        try:
            fit = fit_parabola(
                [Point(p.budget, p.params, p.tokens, float(y)) for p, y in zip(rows, losses, strict=True)]
            )
        except HerdError:
            continue
        if fit.inside or not parabola.inside:
            drawn.append(fit)
    return drawn


def fit_parametric(points: Sequence[Point], near: ParametricLaw | None = None) -> ParametricLaw:
    """Approach 3 of Hoffmann et al.: Huber loss (delta 1e-3) of the log residuals, L-BFGS from a grid of starts.

    ``near`` is a fit of almost the same points; the search then starts there alone.
    """
    if len(points) < _PARAMETRIC_RUNS:
        raise HerdError(f"the parametric law has five unknowns and needs at least six runs, there are {len(points)}")
    log_n = np.log([point.params for point in points])
    log_d = np.log([point.tokens for point in points])
    log_loss = np.log([point.loss for point in points])

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        a, b, e, alpha, beta = theta
        terms = np.stack([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)])
        predicted = logsumexp(terms, axis=0)
        residual = predicted - log_loss
        slope = np.clip(residual, -_HUBER_DELTA, _HUBER_DELTA)
        share = np.exp(terms - predicted)
        gradient = [
            slope @ share[0],
            slope @ share[1],
            slope @ share[2],
            -slope @ (share[0] * log_n),
            -slope @ (share[1] * log_d),
        ]
        # In units of delta squared: the optimiser's tolerances are absolute below 1, and would stop it far too early.
        return float(huber(_HUBER_DELTA, residual).sum()) / _HUBER_DELTA**2, np.array(gradient) / _HUBER_DELTA**2

    # Exponents between 0 and 2 and a floor E above 1e-3: outside, the three terms cannot be told apart.
    bounds = [(-20, 40), (-20, 40), (-7, float(log_loss.min())), (0, 2), (0, 2)]
    starts = _STARTS if near is None else [(np.log(near.A), np.log(near.B), np.log(near.E), near.alpha, near.beta)]
    fits = [
        minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            # Where the points fix a law, fewer than 250 iterations find it; where they do not, nothing would.
            options={"maxiter": 400 if near is None else 200, "ftol": 1e-10},
        )
        for start in starts
    ]
    a, b, e, alpha, beta = min(fits, key=lambda fit: fit.fun).x
    return ParametricLaw(float(np.exp(e)), float(np.exp(a)), float(np.exp(b)), float(alpha), float(beta))


def resample_parametric(
    points: Sequence[Point], law: ParametricLaw, generator: np.random.Generator, resamples: int
) -> list[ParametricLaw]:
    """Fits of ``resamples`` tables drawn from ``points`` with replacement; ``law`` is the fit of ``points``."""
    return [fit_parametric(_redrawn(points, generator), near=law) for _ in range(resamples)]


def _redrawn(points: Sequence[Point], generator: np.random.Generator) -> list[Point]:
    return [points[index] for index in generator.integers(len(points), size=len(points))]


def fit_logarithmic(points: Sequence[Point]) -> LogarithmicLaw:
    """Least squares of the losses."""
    if len({point.params for point in points}) < 2 or len({point.tokens for point in points}) < 2:
        raise HerdError("a law of size and tokens needs runs that differ in both")
    known = np.array([(1.0, -np.log(point.params), -np.log(point.tokens)) for point in points])
    base, size, data = np.linalg.lstsq(known, np.array([point.loss for point in points]), rcond=None)[0]
    return LogarithmicLaw(float(base), float(size), float(data))


def forecasts_better(points: Sequence[Point]) -> Literal["parametric", "logarithmic"]:
    """The law which, fitted to all budgets but the largest, comes nearer to the losses of the largest.

    Parametric where too few runs are left to ask.
    """
    budgets = list(by_budget(points).values())
    known = [point for rows in budgets[:-1] for point in rows]
    if len(known) < _PARAMETRIC_RUNS or len(_places(known)) < 4 or len({point.params for point in known}) < 2:
        return "parametric"
    largest = budgets[-1]
    parametric, logarithmic = _missed(fit_parametric(known), largest), _missed(fit_logarithmic(known), largest)
    return "logarithmic" if logarithmic < parametric else "parametric"


def _places(points: Sequence[Point]) -> set[tuple[float, float]]:
    """Where runs were made, however often: a law of three numbers needs four to be wrong anywhere."""
    return {(point.params, point.tokens) for point in points}


def _missed(law: ParametricLaw | LogarithmicLaw, points: Sequence[Point]) -> float:
    return float(np.mean([abs(law(point.params, point.tokens) / point.loss - 1) for point in points]))


def forecast(
    points: Sequence[Point], params: float, tokens: float, seed: int = 0, resamples: int = 60
) -> tuple[float, float, float]:
    """The loss to expect of ``params`` parameters on ``tokens`` tokens, with its 95% bootstrap interval (low, high).

    By the law that ``forecasts_better``: far above the floor of the loss, where a law with a floor and two exponents
    finds nothing to hold on to, the plainer one does.
    """
    generator = numpy_from(seed, "bootstrap", "forecast")
    draws: Sequence[ParametricLaw | LogarithmicLaw]
    if forecasts_better(points) == "logarithmic":
        value = fit_logarithmic(points)(params, tokens)
        draws = _logarithmic_draws(points, generator, resamples)
    else:
        law = fit_parametric(points)
        value = law(params, tokens)
        draws = resample_parametric(points, law, generator, resamples)
    low, high = np.percentile([draw(params, tokens) for draw in draws], [2.5, 97.5])
    return value, float(low), float(high)


def _logarithmic_draws(points: Sequence[Point], generator: np.random.Generator, resamples: int) -> list[LogarithmicLaw]:
    draws = list[LogarithmicLaw]()
    while len(draws) < resamples:
        drawn = _redrawn(points, generator)
        places = _places(drawn)
        if len(places) > 3 and all(len(set(values)) > 1 for values in zip(*places, strict=True)):  # else it is open
            draws.append(fit_logarithmic(drawn))
    return draws
