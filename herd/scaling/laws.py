"""Fits what IsoFLOP runs measured, and forecasts runs that were not made.

Three fits, from the most local to the most global:

- a parabola of the loss over log tokens for each budget, whose vertex is that budget's compute-optimal run;
- the power law N*(C) = A C^alpha through the vertices, N* being optimal *tokens* as in the paper (section 3.2.1);
- L(N, D) = E + A / N^alpha + B / D^beta over all points (Hoffmann et al. 2022, approach 3), which alone can forecast
  a run whose size is not the optimal one.

Intervals are 95% percentile bootstraps over the points.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import huber, logsumexp

from herd.foundation.errors import HerdError
from herd.foundation.seeds import numpy_from

_HUBER_DELTA = 1e-3
_KNOWS_ITS_NOISE = 5  # points of a budget
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
    parabolas = fit_parabolas(points)
    if len(parabolas) < 2:
        raise HerdError("a power law needs at least two budgets")
    exponent, log_factor = _line(parabolas)
    generator = numpy_from(seed, "bootstrap", "optimum")
    noise = _noise(points, parabolas)
    draws = [draw for _ in range(resamples) if (draw := _resampled_line(points, parabolas, noise, generator))]
    low, high = np.percentile(draws, [2.5, 97.5], axis=0) if draws else np.full((2, 2), np.nan)
    return PowerLaw(
        float(np.exp(log_factor)),
        float(exponent),
        (float(np.exp(low[1])), float(np.exp(high[1]))),
        (float(low[0]), float(high[0])),
    )


def _line(parabolas: Sequence[Parabola]) -> tuple[float, float]:
    slope, intercept = np.polyfit(np.log([p.budget for p in parabolas]), np.log([p.tokens for p in parabolas]), 1)
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


def _resampled_line(
    points: Sequence[Point],
    parabolas: Sequence[Parabola],
    noise: dict[float, np.ndarray],
    generator: np.random.Generator,
) -> tuple[float, float] | None:
    """The power law of losses whose residuals were drawn anew; None where fewer than two budgets keep a minimum.

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
    return _line(drawn) if len(drawn) > 1 else None


def fit_parametric(points: Sequence[Point], near: ParametricLaw | None = None) -> ParametricLaw:
    """Approach 3 of Hoffmann et al.: Huber loss (delta 1e-3) of the log residuals, L-BFGS from a grid of starts.

    ``near`` is a fit of almost the same points; the search then starts there alone.
    """
    if len(points) < 6:
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
    draws = []
    for _ in range(resamples):
        chosen = [points[index] for index in generator.integers(len(points), size=len(points))]
        draws.append(fit_parametric(chosen, near=law))
    return draws


def forecast(
    points: Sequence[Point], params: float, tokens: float, seed: int = 0, resamples: int = 60
) -> tuple[float, float, float]:
    """The loss to expect of ``params`` parameters on ``tokens`` tokens, with its 95% bootstrap interval (low, high)."""
    law = fit_parametric(points)
    generator = numpy_from(seed, "bootstrap", "forecast")
    draws = resample_parametric(points, law, generator, resamples)
    low, high = np.percentile([draw(params, tokens) for draw in draws], [2.5, 97.5])
    return law(params, tokens), float(low), float(high)
