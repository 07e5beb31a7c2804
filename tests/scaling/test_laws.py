"""The fits against laws that are known; published runs are in test_methods."""

import numpy as np
import pytest

from herd.foundation.errors import HerdError
from herd.scaling.laws import (
    LossForm,
    ParametricLaw,
    Point,
    fit_logarithmic,
    fit_optimum,
    fit_parabolas,
    fit_parametric,
    forecast,
    forecast_least_loss,
    forecasts_better,
)
from herd.scaling.table import read_table
from tests.scaling.published import ISOFLOPS, chinchilla, isoflops, present

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


@pytest.mark.parametrize(("form", "floor"), [("line", 3 - 0.2 * np.log(300)), ("power", 3 * 300**-0.07)])
def test_least_losses_on_a_line_or_a_power_law_are_forecast_thirty_times_on(form: LossForm, floor: float) -> None:
    generator = np.random.default_rng(2)
    points = []
    for budget in (1e10, 3e10, 1e11):
        least = 3 - 0.2 * np.log(budget / 1e10) if form == "line" else 3 * (budget / 1e10) ** -0.07
        for ratio in (0.3, 0.6, 1, 1.6, 3):
            tokens = budget**0.5 * ratio
            noise = 1e-3 * generator.normal()
            points.append(Point(budget, budget / (6 * tokens), tokens, least + 0.04 * np.log(ratio) ** 2 + noise))
    loss, low, high = forecast_least_loss(points, 3e12, form)
    assert loss == pytest.approx(floor, rel=5e-3)
    assert low < loss < high
    assert high - low < 0.05


def test_the_parametric_laws_least_loss_is_that_of_its_best_size() -> None:
    tokens = LAW.optimal_tokens(1e22)
    around = [LAW(1e22 / (6 * tokens * ratio), tokens * ratio) for ratio in (0.8, 1.25)]
    assert LAW.least_loss(1e22) == pytest.approx(LAW(1e22 / (6 * tokens), tokens))
    assert LAW.least_loss(1e22) < min(around)


def test_the_forecast_of_a_run_ten_times_beyond_the_points() -> None:
    params, tokens = 1e10, 1e22 / 6e10
    value, low, high = forecast(points_of(LAW, noise=5e-4), params, tokens, resamples=40)
    truth = LAW(params, tokens)
    assert low < value < high
    assert abs(value - truth) < 3 * (high - low)
    assert value == pytest.approx(truth, rel=0.01)


# IsoFLOP runs of the pocket recipe (budget, parameters, tokens, loss), and its flagship at five times their budget.
POCKET = [
    (2e11, 328256, 101376, 5.9676), (2e11, 602976, 55296, 5.8231), (2e11, 853120, 38912, 5.9808),
    (2e11, 1189280, 28160, 6.0828), (5e11, 328256, 253952, 5.6401), (5e11, 602976, 138240, 5.4706),
    (5e11, 853120, 97792, 5.4377), (5e11, 1189280, 70144, 5.5420), (1.2e12, 328256, 609280, 4.9691),
    (1.2e12, 602976, 331776, 5.0096), (1.2e12, 853120, 234496, 5.1114), (1.2e12, 1189280, 167936, 5.1234),
]  # fmt: skip
FLAGSHIP = (853120, 1199616, 4.1668)


def test_far_above_the_floor_the_plain_law_is_chosen_and_forecasts_the_flagship() -> None:
    points = [Point(*row) for row in POCKET]
    assert forecasts_better(points) == "logarithmic"
    loss, low, high = forecast(points, *FLAGSHIP[:2], resamples=40)
    assert loss == pytest.approx(FLAGSHIP[2], rel=0.02)
    assert low < loss < high
    assert fit_parametric(points)(*FLAGSHIP[:2]) > 1.035 * FLAGSHIP[2]


def test_near_the_floor_the_parametric_law_is_chosen() -> None:
    assert forecasts_better(points_of(LAW, noise=5e-4)) == "parametric"
    for few in ([], points_of(LAW)[:5], points_of(LAW)[:10]):  # no budget, one, two: there is too little to ask
        assert forecasts_better(few) == "parametric"


def test_three_runs_repeated_are_too_few_for_the_plain_law() -> None:
    sizes = [(1e6, 1e5), (1e6, 1e6), (3e6, 1e6), (3e6, 4e6)]
    points = [Point(6 * n * d, n, d, 20 - 0.5 * np.log(n) - 0.6 * np.log(d)) for n, d in sizes for _ in range(3)]
    assert forecasts_better(points) == "parametric"


def test_a_logarithmic_law_is_recovered_and_needs_sizes_that_differ() -> None:
    points = [Point(6 * n * d, n, d, 20 - 0.5 * np.log(n) - 0.6 * np.log(d)) for n in (1e6, 3e6) for d in (1e5, 1e6)]
    law = fit_logarithmic(points)
    assert (law.base, law.size, law.data) == pytest.approx((20, 0.5, 0.6))
    with pytest.raises(HerdError, match="differ in both"):
        fit_logarithmic(points[:2])


@present
@pytest.mark.parametrize("name", ISOFLOPS)
def test_published_tables_choose_the_parametric_law(name: str) -> None:
    """Their losses bend towards a floor, and their largest budgets say so."""
    path, condition = isoflops(name)
    assert forecasts_better(read_table(path, [condition]).points) == "parametric"


@present
def test_the_public_refit_of_chinchilla_is_reproduced() -> None:
    """It reports these five values, with the five highest losses left out."""
    law = fit_parametric(sorted(chinchilla(), key=lambda point: -point.loss)[5:])
    assert pytest.approx(1.8172, abs=0.002) == law.E
    assert pytest.approx(482.01, rel=0.02) == law.A
    assert pytest.approx(2085.43, rel=0.05) == law.B
    assert law.alpha == pytest.approx(0.3478, abs=0.001)
    assert law.beta == pytest.approx(0.3658, abs=0.002)
