"""The fits against laws that are known; published runs are in test_methods."""

import numpy as np
import pytest

from herd.foundation.errors import HerdError
from herd.scaling.laws import ParametricLaw, Point, fit_optimum, fit_parabolas, fit_parametric, forecast
from tests.scaling.published import chinchilla, present

LAW = ParametricLaw(E=1.7, A=400.0, B=2000.0, alpha=0.34, beta=0.37)


def points_of(law: ParametricLaw, noise: float = 0.0) -> list[Point]:
    generator = np.random.default_rng(0)
    budgets, ratios = (1e18, 1e19, 1e20, 1e21), (0.25, 0.5, 1, 2, 4)
    points = []
    for budget in budgets:
        best = 0.1 * budget**0.5
        for ratio in ratios:
            params = best * ratio
            tokens = budget / (6 * params)
            points.append(Point(budget, params, tokens, law(params, tokens) * (1 + noise * generator.normal())))
    return points


def test_the_parametric_fit_finds_the_law_that_made_the_points() -> None:
    law = fit_parametric(points_of(LAW))
    assert pytest.approx(LAW.E, rel=1e-2) == law.E
    assert law.alpha == pytest.approx(LAW.alpha, rel=2e-2)
    assert law.beta == pytest.approx(LAW.beta, rel=2e-2)


def test_the_optimum_scales_as_the_law_implies() -> None:
    """Setting dL/dN = 0 under C = 6 N D gives optimal tokens growing as C^(alpha / (alpha + beta))."""
    fitted = fit_optimum(points_of(LAW, noise=2e-4))
    expected = LAW.alpha / (LAW.alpha + LAW.beta)
    assert fitted.exponent == pytest.approx(expected, abs=0.05)
    low, high = fitted.exponent_interval
    assert low < fitted.exponent < high


def test_a_parabola_is_recovered_exactly() -> None:
    tokens = np.exp(np.array([18.0, 19.0, 20.0, 21.0]))
    points = [Point(1e18, 1e18 / (6 * d), d, 0.05 * (np.log(d) - 19.6) ** 2 + 2.5) for d in tokens]
    (parabola,) = fit_parabolas(points)
    assert np.log(parabola.tokens) == pytest.approx(19.6)
    assert parabola.loss == pytest.approx(2.5)
    assert parabola.inside


def test_points_without_a_minimum_are_refused() -> None:
    points = [Point(1e18, 1e18 / (6 * d), d, -0.05 * np.log(d) ** 2 + 30) for d in (1e8, 1e9, 1e10)]
    with pytest.raises(HerdError, match="show no minimum"):
        fit_parabolas(points)
    with pytest.raises(HerdError, match="at least three sizes"):
        fit_parabolas(points[:2])


def test_the_forecast_of_a_run_ten_times_beyond_the_points() -> None:
    params, tokens = 1e10, 1e22 / 6e10
    value, low, high = forecast(points_of(LAW, noise=5e-4), params, tokens, resamples=40)
    truth = LAW(params, tokens)
    assert low < value < high
    assert abs(value - truth) < 3 * (high - low)
    assert value == pytest.approx(truth, rel=0.01)


@present
def test_the_public_refit_of_chinchilla_is_reproduced() -> None:
    """It reports these five values, with the five highest losses left out."""
    law = fit_parametric(sorted(chinchilla(), key=lambda point: -point.loss)[5:])
    assert pytest.approx(1.8172, abs=0.002) == law.E
    assert pytest.approx(482.01, rel=0.02) == law.A
    assert pytest.approx(2085.43, rel=0.05) == law.B
    assert law.alpha == pytest.approx(0.3478, abs=0.001)
    assert law.beta == pytest.approx(0.3658, abs=0.002)
