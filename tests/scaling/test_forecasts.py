"""Forecasts that are held to account: the size they ask for, the run they plan, the error once it was measured."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from herd.foundation.errors import HerdError
from herd.scaling.forecasts import describe_forecasts, forecast_run
from tests.scaling.test_careful import LAW, clean

SIZES = {"small": 4_000_000_000, "fitting": 30_000_000_000, "large": 90_000_000_000}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a known law."""
    path = tmp_path_factory.mktemp("runs") / "runs.csv"
    rows = [",".join(map(str, asdict(point).values())) for point in clean()]
    path.write_text("budget,params,tokens,loss\n" + "\n".join(rows) + "\n")
    return path


def test_the_run_spends_the_budget_on_the_size_nearest_to_the_best(table: Path) -> None:
    forecast = forecast_run(table, 1e23, SIZES, batch_tokens=4_000_000)
    assert forecast.best_tokens == pytest.approx(LAW.optimal_tokens(1e23), rel=0.25)
    assert forecast.run.size == "fitting"
    assert 6 * forecast.run.params * forecast.run.tokens == pytest.approx(1e23, rel=1e-3)
    assert forecast.losses["parametric"]["loss"] == pytest.approx(LAW.least_loss(1e23), rel=0.01)
    assert forecast.losses["chosen"]["loss"] == pytest.approx(LAW(forecast.run.params, forecast.run.tokens), rel=0.01)
    assert forecast.errors == {}
    # Neither form has the floor that made these losses, so that both promise too much.
    assert forecast.losses["line"]["loss"] < forecast.losses["power"]["loss"] < LAW.least_loss(1e23)


def test_the_error_is_forecast_over_measurement(table: Path) -> None:
    forecast = forecast_run(table, 1e23, SIZES, batch_tokens=4_000_000)
    measured = replace(forecast, measured=forecast.losses["line"]["loss"] / 1.03)
    assert measured.errors["line"] == pytest.approx(0.03)
    text = describe_forecasts([asdict(measured) | {"errors": measured.errors}])
    assert "+3.0%: loss" in text
    assert text.count("loss") >= 4


def test_a_size_far_from_the_best_is_no_check_of_the_law(table: Path) -> None:
    with pytest.raises(HerdError, match="add a shape of that size"):
        forecast_run(table, 1e23, {"small": SIZES["small"]}, batch_tokens=4_000_000)
