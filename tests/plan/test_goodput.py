"""Failures: the closed form against a simulation of chance, the best interval against a search, the paper's counts."""

import numpy as np
import pytest

from herd.plan.goodput import (
    ACCELERATORS,
    DAY,
    DAYS,
    PLANNED,
    TABLE_5,
    UNEXPECTED,
    Faults,
    best_interval,
    describe_grid,
    effective_share,
    replay,
    replay_grid,
)

PAPER = DAYS * DAY / UNEXPECTED


def test_table_5_sums_to_what_the_paper_says() -> None:
    """466 interruptions, 47 of them planned; about 78% hardware or suspected hardware."""
    assert UNEXPECTED == 419
    assert UNEXPECTED + PLANNED == 466
    hardware = sum(
        count for category, count in TABLE_5.values() if category in ("GPU", "host", "network", "unplanned maintenance")
    )
    assert hardware / UNEXPECTED == pytest.approx(0.84, abs=0.07)
    assert UNEXPECTED / DAYS > 1  # at least one a day
    assert pytest.approx(5.8, abs=0.1) == DAY * DAYS / UNEXPECTED * ACCELERATORS / DAY / 365  # years of one accelerator


def chance(faults: Faults, interval: float, hours: float, seed: int) -> float:
    """Effective share of a long run whose failures are exponential: written as a walk through time, not as a sum."""
    generator = np.random.default_rng(seed)
    clock, useful, down = 0.0, 0.0, False
    fails = generator.exponential(faults.between)
    while clock < hours * 3600:
        need = faults.restart if down else interval + faults.pause
        if fails > need:
            clock, fails = clock + need, fails - need
            useful += 0.0 if down else interval
            down = False
        else:
            clock, fails, down = clock + fails, generator.exponential(faults.between), True
    return useful / clock


@pytest.mark.parametrize(("restart", "pause", "interval"), [(600, 30, 900), (60, 5, 300), (1800, 60, 3600)])
def test_the_closed_form_is_what_chance_gives(restart: float, pause: float, interval: float) -> None:
    faults = Faults(PAPER, restart, pause)
    simulated = np.mean([chance(faults, interval, hours=20_000, seed=seed) for seed in range(3)])
    assert effective_share(faults, interval) == pytest.approx(float(simulated), abs=0.01)


def test_the_best_interval_is_the_best_of_many_and_near_youngs() -> None:
    faults = Faults(PAPER, 600, 30)
    best = best_interval(faults)
    assert all(effective_share(faults, best) >= effective_share(faults, best * factor) for factor in (0.5, 0.9, 1.1, 2))
    assert best == pytest.approx((2 * 30 * PAPER) ** 0.5, rel=0.1)
    assert effective_share(Faults(float("inf"), 600, 30), 970) == pytest.approx(0.97)


def test_the_replay_reaches_ninety_per_cent_where_restarts_and_checkpoints_are_short() -> None:
    """The paper reports more than 90%: within 10 minutes and 5 seconds yes, after half an hour no."""
    grid = replay_grid((300.0, 600.0, 1800.0), (5.0, 30.0), seeds=3)
    share = {(row["restart"], row["pause"]): row["share"] for row in grid}
    assert share[600.0, 5.0] > 0.9
    assert share[1800.0, 5.0] < 0.9
    assert share[300.0, 30.0] > share[600.0, 30.0] > share[1800.0, 30.0]
    assert share[300.0, 5.0] > share[300.0, 30.0]
    assert "* reaches 90%" in describe_grid(grid)


def test_the_replay_agrees_with_the_closed_form() -> None:
    interval = 900.0
    replayed = np.mean([replay(600, 30, interval, seed) for seed in range(10)])
    expected = effective_share(Faults(DAYS * DAY / (UNEXPECTED + PLANNED), 600, 30), interval)
    assert float(replayed) == pytest.approx(expected, abs=0.015)


def test_nothing_trains_between_interruptions_closer_than_a_restart() -> None:
    assert replay(restart=DAY * DAYS, pause=30, interval=900) < 0.02
