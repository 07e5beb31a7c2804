"""Drawings leave nothing out in silence."""

from herd.report import figures


def test_more_names_than_colours_lose_none() -> None:
    names = [f"domain-{number}" for number in range(40)]
    colours = figures.colours_of(names)
    assert list(colours) == names
    assert colours["domain-0"] == colours[f"domain-{len(figures.COLOURS)}"] != colours["domain-1"]


def test_every_run_and_every_budget_is_drawn() -> None:
    curves = {f"run-{number}": [{"tokens": step, "loss": 3.0 - step / 9} for step in range(9)] for number in range(20)}
    drawn = figures.loss_curves(curves, "Losses")
    assert all(f">{name}<" in drawn for name in curves)
    budgets = [10.0**exponent for exponent in range(10, 31)]
    runs = [{"budget": budget, "tokens": 1e6, "loss": 3.0} for budget in budgets]
    assert figures.isoflops(runs, []).count(" FLOPs<") == len(budgets)
