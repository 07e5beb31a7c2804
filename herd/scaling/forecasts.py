"""A forecast that can be held to account: the loss of a larger budget's best size, beside the run that measured it.

    forecast = forecast_run(Path("laws/runs.csv"), 3e12, {"1m": 853_120, "2m": 1_900_000}, batch_tokens=256)
    forecast.losses["chosen"]["loss"], replace(forecast, measured=1.83).errors["chosen"]

``herd scale run`` with ``check=[10, 30]`` writes the forecast of ten and of thirty times its largest budget, makes both
runs, and prints by how much each law was wrong.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from herd.foundation.errors import HerdError
from herd.scaling.careful import keep, review
from herd.scaling.isoflop import IsoflopRun, spend
from herd.scaling.laws import forecast
from herd.scaling.table import describe_losses, fit_table, forecast_losses, read_table

# The loss is flat around its minimum: a size within this factor of the best one costs less than the laws err.
_NEAR = 1.5


@dataclass(frozen=True)
class Forecast:
    """What the laws promise of ``run``, whose size is the nearest to ``best_params``; ``measured`` once it was made.

    ``losses`` are by law, each with ``loss`` and ``loss_interval`` (95%): those of ``fit_table``, and before them the
    one to believe, ``chosen``, of ``run`` by the law that forecast the largest budget best from the smaller ones.
    """

    budget: float
    best_params: float
    best_tokens: float
    run: IsoflopRun
    losses: dict[str, dict[str, Any]]
    measured: float | None = None

    @property
    def errors(self) -> dict[str, float]:
        """Forecast over measurement, less one, of each law; empty before the measurement."""
        if self.measured is None:
            return {}
        return {law: found["loss"] / self.measured - 1 for law, found in self.losses.items()}


def forecast_run(table: Path, budget: float, sizes: Mapping[str, int], batch_tokens: int) -> Forecast:
    """The forecast for ``budget`` FLOPs from a table of finished runs.

    ``sizes`` are names and parameters to choose from; ``HerdError`` where none is near the best.
    """
    fitted = fit_table(table, at=budget)
    name, params = min(sizes.items(), key=lambda item: abs(math.log(item[1] / fitted["params"])))
    if not 1 / _NEAR <= params / fitted["params"] <= _NEAR:
        raise HerdError(
            f"the laws ask for {fitted['params']:.3g} parameters at {budget:.3g} FLOPs, and the nearest of the shapes, "
            f"{name}, has {params:.3g}; add a shape of that size to check the forecast"
        )
    run = spend(budget, name, params, batch_tokens)
    points = read_table(table).points
    loss, low, high = forecast(keep(points, review(points)), run.params, run.tokens)
    chosen = {"chosen": {"loss": loss, "loss_interval": (low, high)}}
    return Forecast(budget, fitted["params"], fitted["tokens"], run, chosen | forecast_losses(fitted))


def describe_forecasts(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of ``forecasts.json`` in words, for a terminal."""
    lines = []
    for row in rows:
        run = row["run"]
        lines.append(
            f"{row['budget']:.3g} FLOPs, {run['params']:,} parameters on {run['tokens']:,} tokens: "
            f"loss {row['measured']:.4f} measured"
        )
        errors = row["errors"].values()
        for sentence, error in zip(describe_losses(row["losses"]), errors, strict=True):
            lines.append(f"  {error:+.1%}: {sentence}")
    return "\n".join(lines)
