"""The verbs of the scaling laws: ``herd scale run``, and ``fit`` and ``downstream`` on tables of finished runs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from herd.cli.options import ConfigFile, Out, Overrides, make, read_settings


def scale_run(
    tokens: Annotated[Path, typer.Argument(help="what herd tokenize made")],
    tokenizer: Annotated[Path, typer.Argument(help="the tokenizer that made them")],
    out: Out,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Spend every budget on several sizes and fit the laws.

    The settings isoflop.budgets and isoflop.shapes must be given.
    """
    from herd.foundation.files import read_json
    from herd.pipeline.isoflop_runs import ScaleConfig
    from herd.pipeline.isoflop_runs import scale as stage
    from herd.scaling.forecasts import describe_forecasts
    from herd.scaling.table import describe_fit

    settings = read_settings(ScaleConfig, config, overrides)
    inputs = {"tokens": tokens, "tokenizer": tokenizer}
    make(
        "scale run", settings, inputs, out, lambda place, progress: stage(settings, tokens, tokenizer, place, progress)
    )
    laws = read_json(out / "laws.json")
    print(laws["not_fitted"] if "not_fitted" in laws else describe_fit(laws))
    if (out / "forecasts.json").exists():
        print(describe_forecasts(read_json(out / "forecasts.json")))


def scale_fit(
    table: Annotated[Path, typer.Argument(help="CSV with the columns budget, params, tokens, loss")],
    at: Annotated[float | None, typer.Option(help="a budget in FLOPs to extrapolate to")] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="fit these rows only; may be given again")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Fit scaling laws to a table of IsoFLOP runs.

    The power law of optimal tokens, and the parametric law.
    """
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
    """Forecast a benchmark's accuracy from losses.

    In two steps: loss over log FLOPs, then accuracy over loss.
    """
    from herd.foundation.errors import HerdError
    from herd.scaling.downstream import describe_forecast, forecast_accuracy, read_models

    if not 0 < at < float("inf"):
        raise HerdError(f"--at is {at:g}; training FLOPs must be positive and finite")
    found = forecast_accuracy(read_models(table), at, chance, line_from)
    print(json.dumps(found, indent=2) if as_json else describe_forecast(found))
