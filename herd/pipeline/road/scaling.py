"""Scaling laws of this corpus on this machine: IsoFLOP runs, their laws, the best size, the flagship's forecast.

The forecast is written before the flagship is trained, and the report holds it beside what was measured.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from herd.foundation.errors import HerdError
from herd.foundation.files import write_json
from herd.foundation.progress import Progress
from herd.pipeline.graph import Stage
from herd.pipeline.isoflop_runs import run_isoflop
from herd.pipeline.recipe import Recipe
from herd.pipeline.road.pretraining import initial_config
from herd.scaling.laws import (
    Parabola,
    Point,
    by_budget,
    fit_optimum,
    fit_parabola,
    fit_parametric,
    forecast,
    forecasts_better,
)

Inputs = Mapping[str, Path]


def scaling_stages(recipe: Recipe) -> list[Stage]:
    """The one stage ``scaling``."""

    def run(inputs: Inputs, out: Path, progress: Progress) -> None:
        shapes = {name: recipe.shape(name) for name in recipe.scaling.shapes}
        points = run_isoflop(recipe.scaling, recipe.pretraining, shapes, inputs, out, progress)
        write_json(out / "laws.json", fit_laws(recipe, points))
        write_json(
            out / "stats.json", {"runs": [asdict(point) for point in points], "flops": sum(p.budget for p in points)}
        )

    inputs = {"tokens": "tokens", "tokenizer": "tokenizer"}
    return [Stage("scaling", run, _part(recipe), inputs, whole_machine=True)]


def _part(recipe: Recipe) -> dict[str, Any]:
    """What decides the runs and the forecasts: of a member its shape and its tokens of initial pre-training."""
    part = recipe.part("scaling", "pretraining", "flagship", "seed")
    part["scaling"].pop("processes")
    members = {name: {"shape": member.shape, "tokens": member.tokens} for name, member in recipe.members.items()}
    return {**part, "members": members}


def fit_laws(recipe: Recipe, points: list[Point]) -> dict[str, Any]:
    """Parabolas, N*(C), L(N, D), the optimum at the flagship's budget, and the forecast of every member's loss.

    The forecasts are by the law that the largest budget chooses; ``notes`` says where it is not the parametric one.
    A budget whose losses show no minimum is left out and named in ``notes``; with fewer than two budgets left there is
    no power law (``optimum`` is null), and the run goes on with the forecasts.
    """
    parabolas, notes = _parabolas(points)
    if forecasts_better(points) == "logarithmic":
        notes.append(
            "The forecasts are by a line over ln N and ln D: fitted to the smaller budgets, it met the losses of the "
            "largest better than the law above."
        )
    members = {}
    for name, member in recipe.members.items():
        params = recipe.shape(member.shape).parameters
        tokens = initial_config(recipe, name).schedule().tokens()
        value, low, high = forecast(points, params, tokens, recipe.seed)
        members[name] = {"params": params, "tokens": tokens, "loss": value, "low": low, "high": high}
    flagship = members[recipe.flagship]
    budget = 6.0 * flagship["params"] * flagship["tokens"]
    laws = {
        "parabolas": [asdict(parabola) for parabola in parabolas],
        "optimum": None,
        "parametric": asdict(fit_parametric(points)),
        "flagship": {"budget": budget},
        "forecast": members,
        "notes": notes,
    }
    if len(parabolas) > 1:
        kept = {parabola.budget for parabola in parabolas}
        optimum = fit_optimum([point for point in points if point.budget in kept], recipe.seed)
        best = optimum(budget)
        laws["optimum"] = asdict(optimum)
        laws["flagship"] = {"budget": budget, "best_tokens": best, "best_params": budget / (6 * best)}
    return laws


def _parabolas(points: list[Point]) -> tuple[list[Parabola], list[str]]:
    """The parabolas that can be fitted, and a sentence for each budget that has none."""
    parabolas, notes = [], []
    for of_budget in by_budget(points).values():
        try:
            parabolas.append(fit_parabola(of_budget))
        except HerdError as error:
            notes.append(str(error))
    return parabolas, notes
