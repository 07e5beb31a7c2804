"""Scaling laws of this corpus on this machine: IsoFLOP runs, their laws, the best size, the flagship's forecast.

Small networks lose more to the cost of each operator than to arithmetic, so the runs go side by side, each on one
thread.  The forecast is written before the flagship is trained, and the report holds it beside what was measured.
"""

from collections.abc import Mapping
from concurrent.futures import as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, write_json
from herd.foundation.progress import Progress
from herd.foundation.seeds import derive
from herd.foundation.workers import workers
from herd.model.config import ModelConfig
from herd.pipeline.graph import Stage
from herd.pipeline.recipe import Recipe
from herd.pipeline.road.pretraining import initial_config
from herd.scaling.isoflop import IsoflopRun, plan
from herd.scaling.laws import Parabola, Point, by_budget, fit_optimum, fit_parabola, fit_parametric, forecast
from herd.train.stages import PretrainConfig, RowsFrom, pretrain

Inputs = Mapping[str, Path]


def scaling_stages(recipe: Recipe) -> list[Stage]:
    """The one stage ``scaling``."""

    def run(inputs: Inputs, out: Path, progress: Progress) -> None:
        points = _run_all(recipe, inputs, out, progress)
        write_json(out / "laws.json", fit_laws(recipe, points))
        write_json(
            out / "stats.json", {"runs": [asdict(point) for point in points], "flops": sum(p.budget for p in points)}
        )

    return [Stage("scaling", run, _part(recipe), {"tokens": "tokens", "tokenizer": "tokenizer"})]


def _part(recipe: Recipe) -> dict[str, Any]:
    """What decides the runs and the forecasts: of a member its shape and its tokens of initial pre-training."""
    part = recipe.part("scaling", "pretraining", "flagship", "seed")
    part["scaling"].pop("processes")
    members = {name: {"shape": member.shape, "tokens": member.tokens} for name, member in recipe.members.items()}
    return {**part, "members": members}


def run_config(recipe: Recipe, run: IsoflopRun) -> PretrainConfig:
    """A run's training: the recipe's own pre-training with the budget's fixed batch and the shape's learning rate.

    All runs read the data in one order, so that it is size and tokens alone that make their losses differ.
    """
    shared = recipe.pretraining
    rows = recipe.scaling.isoflop.batch_tokens // shared.sequence_length
    rate = recipe.scaling.shapes[run.size]
    return shared.model_copy(
        update={
            "tokens": run.tokens,
            "batch": (RowsFrom(share=0, rows=max(rows, 1)),),
            "optimizer": shared.optimizer.model_copy(update={"learning_rate": rate}),
            "compile": "off",
            "seed": derive(shared.seed, "scaling"),
        }
    )


def _run_all(recipe: Recipe, inputs: Inputs, out: Path, progress: Progress) -> list[Point]:
    shapes = {name: recipe.shape(name) for name in recipe.scaling.shapes}
    runs = plan(recipe.scaling.isoflop, {name: shape.parameters for name, shape in shapes.items()})
    todo = [run for run in runs if not (out / "runs" / run.name / "stats.json").exists()]
    # The longest first, so that the processes end at about the same time.
    todo.sort(key=lambda run: -run.budget)
    with (
        progress.task("scaling: IsoFLOP runs", total=len(runs), unit="runs") as task,
        workers(recipe.scaling.processes, "scaling") as pool,
    ):
        task.advance(len(runs) - len(todo))
        waiting = [
            pool.submit(_run_one, run_config(recipe, run), shapes[run.size], dict(inputs), out / "runs" / run.name)
            for run in todo
        ]
        for finished in as_completed(waiting):
            finished.result()
            task.advance()
    return [Point(run.budget, run.params, run.tokens, _loss(out / "runs" / run.name)) for run in runs]


def _run_one(config: PretrainConfig, shape: ModelConfig, inputs: dict[str, Path], out: Path) -> None:
    """One run in a process of its own, on one thread."""
    import torch

    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    pretrain(config, shape, inputs["tokens"], inputs["tokenizer"], out, Progress.silent())


def _loss(run: Path) -> float:
    return float(read_json(run / "stats.json")["held_out"])


def fit_laws(recipe: Recipe, points: list[Point]) -> dict[str, Any]:
    """Parabolas, N*(C), L(N, D), the optimum at the flagship's budget, and the forecast of every member's loss.

    A budget whose losses show no minimum is left out and named in ``notes``; with fewer than two budgets left there is
    no power law (``optimum`` is null), and the run goes on with the parametric forecast.
    """
    parabolas, notes = _parabolas(points)
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
