"""Intervals against published numbers, exact binomial coverage, simulation and an independent fit."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from herd.evaluate.bradley_terry import ELO_SCALE, MEAN_RATING, PRIOR_TIES, Game, ratings, strengths
from herd.evaluate.statistics import Estimate, bootstrap_ratio, proportion, wilson


def _coverage(interval: Callable[[int, int], Estimate], share: float, n: int) -> float:
    """Exact probability that the interval of a binomial draw holds the true share."""
    covered = 0.0
    for successes in range(n + 1):
        estimate = interval(successes, n)
        if estimate.low <= share <= estimate.high:
            covered += math.comb(n, successes) * share**successes * (1 - share) ** (n - successes)
    return covered


def _normal(successes: int, n: int) -> Estimate:
    """The paper's interval (section 5.1)."""
    share = successes / n
    half = 1.96 * math.sqrt(share * (1 - share) / n)
    return Estimate(share, share - half, share + half, n)


def test_wilson_matches_published_values() -> None:
    # Newcombe (1998), Statistics in Medicine 17, Table I, method 3.
    for successes, n, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        estimate = wilson(successes, n)
        assert estimate.low == pytest.approx(low, abs=6e-5)
        assert estimate.high == pytest.approx(high, abs=6e-5)


def test_wilson_solves_its_defining_equation() -> None:
    estimate = wilson(17, 40)
    for bound in (estimate.low, estimate.high):
        assert abs(17 / 40 - bound) == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / 40), rel=1e-6)


def test_coverage_near_one_is_kept_by_wilson_and_lost_by_the_normal_interval() -> None:
    assert _coverage(wilson, 0.97, 100) > 0.94
    assert _coverage(_normal, 0.97, 100) < 0.82


@given(st.integers(1, 400), st.data())
def test_wilson_holds_the_share_and_stays_in_the_unit(n: int, data: st.DataObject) -> None:
    estimate = wilson(data.draw(st.integers(0, n)), n)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert proportion([True] * 3 + [False]) == wilson(3, 4)


def test_impossible_proportions_are_refused() -> None:
    with pytest.raises(ValueError, match="5 successes of 4"):
        wilson(5, 4)
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


def test_bootstrap_of_a_ratio_covers_what_it_promises() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    trials = 300
    for trial in range(trials):
        sizes = rng.integers(50, 2000, size=60).astype(float)
        bits = sizes * rng.gamma(9, 1 / 9, size=60) * 1.7
        estimate = bootstrap_ratio(bits, sizes, seed=trial)
        covered += estimate.low <= 1.7 <= estimate.high
    # 95% promised; a percentile bootstrap of 60 items loses a little, chance of 300 trials is +- 2.5%.
    assert 0.89 < covered / trials < 0.985


def test_the_bootstrap_of_a_mean_agrees_with_the_normal_theory() -> None:
    values = np.random.default_rng(1).normal(5, 2, size=400)
    estimate = bootstrap_ratio(values.tolist(), [1.0] * 400, seed=7)
    half = 1.96 * values.std() / 20
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.04)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.04)
    assert bootstrap_ratio(values.tolist(), [1.0] * 400, seed=7) == estimate


def _torch_fit(wins: np.ndarray) -> np.ndarray:
    """Independent maximum likelihood: gradient of the log-likelihood by autograd, minimised by L-BFGS."""
    counts = torch.tensor(wins)
    theta = torch.zeros(len(wins), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([theta], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = -(counts * torch.nn.functional.logsigmoid(theta[:, None] - theta[None, :])).sum()
        value.backward()
        return value

    optimizer.step(loss)
    return (theta - theta.mean()).detach().numpy()


def test_strengths_equal_an_independent_fit() -> None:
    wins = np.array([[0, 7, 9.5, 12], [3, 0, 6, 8], [2.5, 5, 0, 6.5], [1, 2, 4, 0]])
    np.testing.assert_allclose(strengths(wins), _torch_fit(wins), atol=1e-5)
    stacked = np.stack([wins, wins.T])
    np.testing.assert_allclose(strengths(stacked)[1], -strengths(wins), atol=1e-5)


def test_two_models_have_the_closed_form() -> None:
    games = [Game(str(i), "a", "b", 1.0) for i in range(30)] + [Game(str(30 + i), "a", "b", 0.0) for i in range(10)]
    rated = ratings(games, ["a", "b"], seed=1)
    odds = math.log((30 + PRIOR_TIES / 2) / (10 + PRIOR_TIES / 2))
    assert rated["a"].value - rated["b"].value == pytest.approx(ELO_SCALE * odds, abs=1e-3)
    assert rated["a"].value + rated["b"].value == pytest.approx(2 * MEAN_RATING)
    assert rated["a"].low > rated["b"].high
    assert rated["a"].n == 40


def test_an_undefeated_model_has_a_finite_rating_and_ties_make_equals() -> None:
    games = [Game(str(i), "a", "b", 1.0) for i in range(20)] + [Game(str(i), "b", "c", 0.5) for i in range(20)]
    rated = ratings(games, ["a", "b", "c"], seed=1)
    assert math.isfinite(rated["a"].value)
    assert rated["b"].value == pytest.approx(rated["c"].value, abs=1e-3)
    with pytest.raises(ValueError, match="at least one game"):
        ratings(games, ["a", "b", "c", "d"], seed=1)
