"""The plan spends each budget, to within a step, on every size that it can teach something."""

import pytest

from herd.scaling.isoflop import IsoflopConfig, plan


def test_every_run_spends_its_budget() -> None:
    runs = plan(IsoflopConfig(budgets=(1e12, 3e11), batch_tokens=2048), {"big": 900_000, "small": 100_000})
    assert [(run.budget, run.size) for run in runs] == [(3e11, "small"), (3e11, "big"), (1e12, "small"), (1e12, "big")]
    for run in runs:
        assert 6 * run.params * run.tokens == pytest.approx(run.budget, rel=0.5 * 6 * run.params * 2048 / run.budget)


def test_budgets_that_are_close_have_places_of_their_own() -> None:
    runs = plan(IsoflopConfig(budgets=(1.35e12, 1.4e12)), {"small": 100_000, "big": 900_000})
    assert len({run.name for run in runs}) == len(runs) == 4


def test_every_budget_gets_its_own_part_of_the_ladder() -> None:
    sizes = {"a": 100_000, "b": 200_000, "c": 400_000, "d": 800_000}
    runs = plan(IsoflopConfig(budgets=(1e11, 4e11), batch_tokens=128, least_tokens=1, ratio=(0.2, 1.1)), sizes)
    assert [(run.budget, run.size) for run in runs] == [(1e11, "b"), (4e11, "c")]
    with pytest.raises(ValueError, match="ascending"):
        IsoflopConfig(budgets=(1e11,), ratio=(2, 1))


def test_hopeless_runs_are_left_out() -> None:
    assert plan(IsoflopConfig(budgets=(1e10,)), {"big": 10_000_000}) == []
