"""The planner's arithmetic against published counts and measured bytes."""

import pytest

from herd.model.config import PRESETS, pocket_config
from herd.plan.estimate import Estimate, efficiency, total, training


def test_the_papers_budget_of_the_405b_model() -> None:
    """15.6T tokens on 405B parameters are 3.8e25 FLOPs (paper, section 3.2); attention at 8,192 adds some per cent."""
    estimate = training(PRESETS["llama-3.1-405b"], 15_600_000_000_000, 8192, 8192, peak=1e15)
    assert estimate.flops == pytest.approx(3.8e25, rel=0.05)


def test_efficiency_grows_with_size_and_stays_a_share() -> None:
    shares = [efficiency(params) for params in (1e5, 1e6, 3e6, 1e7, 1e9)]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] < 1


def test_seconds_and_flops_scale_with_tokens_and_memory_with_the_batch() -> None:
    shape = pocket_config("3m", 4096)
    one = training(shape, 1_000_000, 512, 4096, peak=2e11)
    two = training(shape, 2_000_000, 512, 8192, peak=2e11)
    assert two.flops == pytest.approx(2 * one.flops)
    assert two.seconds == pytest.approx(2 * one.seconds)
    assert two.memory_bytes > one.memory_bytes


def test_a_recipe_adds_time_and_takes_the_largest_memory() -> None:
    assert total([Estimate(1, 2, 3), Estimate(10, 20, 2)]) == Estimate(11, 22, 3)
