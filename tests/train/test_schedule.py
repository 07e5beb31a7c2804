"""Learning rates and batch ramps against their defining properties and the paper's own figures."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from herd.train.schedule import BatchRamp, OptimizerConfig, RampStep, learning_rate


def test_the_papers_schedule_goes_through_its_published_points() -> None:
    config = OptimizerConfig(learning_rate=8e-5, warmup_steps=8000, schedule="cosine", final_fraction=0.01)
    steps = 1_200_000
    assert learning_rate(config, 0, steps) == pytest.approx(8e-5 / 8000)
    assert learning_rate(config, 7999, steps) == pytest.approx(8e-5)
    assert learning_rate(config, steps - 1, steps) == pytest.approx(8e-7, rel=1e-3)
    middle = 8000 + (steps - 8000) // 2
    assert learning_rate(config, middle, steps) == pytest.approx((8e-5 + 8e-7) / 2)


def test_annealing_falls_to_zero_in_equal_parts_but_learns_from_its_last_batch() -> None:
    config = OptimizerConfig(learning_rate=1.0, schedule="linear", final_fraction=0.0)
    assert [learning_rate(config, step, 4) for step in range(4)] == pytest.approx([1.0, 0.75, 0.5, 0.25])


@settings(max_examples=60, deadline=None)
@given(
    warmup=st.integers(0, 30),
    rest=st.integers(1, 50),
    schedule=st.sampled_from(["cosine", "linear", "constant"]),
    final=st.floats(0, 1),
)
def test_rates_rise_to_the_peak_and_never_rise_again(warmup: int, rest: int, schedule: str, final: float) -> None:
    config = OptimizerConfig(
        learning_rate=2.0,
        warmup_steps=warmup,
        schedule=schedule,
        final_fraction=final,  # type: ignore[arg-type]
    )
    rates = [learning_rate(config, step, warmup + rest) for step in range(warmup + rest)]
    assert max(rates) == pytest.approx(2.0)
    assert rates[:warmup] == sorted(rates[:warmup])
    falling = [*reversed(rates[warmup:])]
    assert all(one <= other + 1e-12 for one, other in pairwise(falling))
    assert min(rates[warmup:]) >= 2.0 * final - 1e-12


@settings(max_examples=60, deadline=None)
@given(
    changes=st.dictionaries(st.integers(1, 40), st.integers(1, 9), max_size=4),
    first=st.integers(1, 9),
    step=st.integers(0, 60),
)
def test_rows_before_a_step_are_the_sum_of_the_rows_of_all_steps_before(
    changes: dict[int, int], first: int, step: int
) -> None:
    ramp = BatchRamp(ramp=tuple(RampStep(step=at, rows=rows) for at, rows in sorted(({0: first} | changes).items())))
    assert ramp.rows_before(step) == sum(ramp.rows(earlier) for earlier in range(step))


@pytest.mark.parametrize("steps", [[], [1], [0, 5, 5], [0, 9, 3]])
def test_a_ramp_that_does_not_ascend_from_zero_is_refused(steps: list[int]) -> None:
    with pytest.raises(ValidationError, match="must begin at step 0"):
        BatchRamp(ramp=tuple(RampStep(step=step, rows=1) for step in steps))
