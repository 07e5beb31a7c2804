"""The verbs of the scaling laws, on tables of runs that are finished: ``herd scale fit | downstream``."""

import json
from pathlib import Path
from typing import Annotated

import typer


def scale_fit(
    table: Annotated[Path, typer.Argument(help="CSV with the columns budget, params, tokens, loss")],
    at: Annotated[float | None, typer.Option(help="a budget in FLOPs to extrapolate to")] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="fit these rows only; may be given again")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Fit the power law of optimal tokens and the parametric law to a table of IsoFLOP runs."""
    from herd.scaling.table import describe_fit, fit_table

    fitted = fit_table(table, at, only or [])
    print(json.dumps(fitted, indent=2) if as_json else describe_fit(fitted))


def scale_downstream(
    table: Annotated[Path, typer.Argument(help="CSV with the columns flops, nll, accuracy")],
    at: Annotated[float, typer.Option(help="training FLOPs of the model to forecast")],
    chance: Annotated[float, typer.Option(min=0.0, max=0.99, help="the share that guessing gets right")] = 0.0,
    line_from: Annotated[float, typer.Option(min=0.0, help="FLOPs from which on models lie on the line")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Forecast a benchmark's accuracy: loss over log FLOPs, then accuracy over loss."""
    from herd.foundation.errors import HerdError
    from herd.scaling.downstream import describe_forecast, forecast_accuracy, read_models

    if not 0 < at < float("inf"):
        raise HerdError(f"--at is {at:g}; training FLOPs must be positive and finite")
    found = forecast_accuracy(read_models(table), at, chance, line_from)
    print(json.dumps(found, indent=2) if as_json else describe_forecast(found))
