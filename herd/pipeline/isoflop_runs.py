"""IsoFLOP runs through the one training loop: a budget spent on several sizes, side by side, resumable.

A recipe's stage ``scaling`` and the verb ``herd scale run`` both call ``run_isoflop``.  Small networks lose more to the
cost of each operator than to arithmetic, so the runs go side by side, each on one thread.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, replace
from pathlib import Path

from pydantic import Field, PositiveFloat

from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, write_json, write_text
from herd.foundation.progress import Progress
from herd.foundation.seeds import derive
from herd.foundation.workers import workers
from herd.model.config import PRESETS, ModelConfig, pocket_config
from herd.scaling.forecasts import forecast_run
from herd.scaling.isoflop import IsoflopConfig, IsoflopRun, plan
from herd.scaling.laws import Point
from herd.scaling.table import COLUMNS, fit_table
from herd.tokenizer.tokenizer import Tokenizer
from herd.train.stages import PretrainConfig, RowsFrom, pretrain


class Scaling(Config):
    """IsoFLOP runs on ``shapes``, each with the learning rate that ``shapes`` gives it."""

    isoflop: IsoflopConfig
    shapes: dict[str, float] = Field(min_length=3, description="shape to learning rate")
    processes: int = Field(default=2, ge=1, description="runs at the same time, one thread each")


class SharedTraining(PretrainConfig):
    """The training that all runs share; its tokens, batch and rate are each run's own."""

    tokens: int = Field(default=1, gt=0, description="not used: a run's tokens follow from its budget")


class OwnShape(Config):
    """A shape that is neither published nor a pocket size; its embeddings are tied, its vocabulary is the tokens'."""

    dim: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    ffn_dim: int = Field(gt=0)


class ScaleConfig(Scaling):
    """The verb's settings."""

    own_shapes: dict[str, OwnShape] = Field(default_factory=dict, description="shapes to name in shapes")
    check: tuple[PositiveFloat, ...] = Field(
        default=(), description="multiples of the largest budget whose losses are forecast, then measured"
    )
    pretraining: SharedTraining = Field(default_factory=lambda: SharedTraining.model_validate({}))

    def shape(self, name: str, vocabulary: int) -> ModelConfig:
        """The shape of that name; ``HerdError`` where there is none."""
        if name in self.own_shapes:
            own = self.own_shapes[name].model_dump()
            return ModelConfig(vocab_size=vocabulary, tied=True, **own)
        return PRESETS.get(name) or pocket_config(name, vocabulary)


def run_config(scaling: Scaling, shared: PretrainConfig, run: IsoflopRun) -> PretrainConfig:
    """A run's training: the shared one with the budget's fixed batch and the shape's learning rate.

    All runs read the data in one order, so that it is size and tokens alone that make their losses differ.
    """
    rows = scaling.isoflop.batch_tokens // shared.sequence_length
    return shared.model_copy(
        update={
            "tokens": run.tokens,
            "batch": (RowsFrom(share=0, rows=max(rows, 1)),),
            "optimizer": shared.optimizer.model_copy(update={"learning_rate": scaling.shapes[run.size]}),
            "compile": "off",
            "seed": derive(shared.seed, "scaling"),
        }
    )


def run_isoflop(
    scaling: Scaling,
    shared: PretrainConfig,
    shapes: Mapping[str, ModelConfig],
    inputs: Mapping[str, Path],
    out: Path,
    progress: Progress,
) -> list[Point]:
    """Makes the runs that ``out/runs`` does not hold yet, on ``inputs``' tokens and tokenizer; returns all of them."""
    runs = plan(scaling.isoflop, {name: shape.parameters for name, shape in shapes.items()})
    return make_runs(runs, scaling, shared, shapes, inputs, out, progress)


def make_runs(
    runs: Sequence[IsoflopRun],
    scaling: Scaling,
    shared: PretrainConfig,
    shapes: Mapping[str, ModelConfig],
    inputs: Mapping[str, Path],
    out: Path,
    progress: Progress,
) -> list[Point]:
    """The same for ``runs``, whoever planned them."""
    todo = [run for run in runs if not (out / "runs" / run.name / "stats.json").exists()]
    # The longest first, so that the processes end at about the same time.
    todo.sort(key=lambda run: -run.budget)
    with (
        progress.task("scaling: IsoFLOP runs", total=len(runs), unit="runs") as task,
        workers(scaling.processes, "scaling") as pool,
    ):
        task.advance(len(runs) - len(todo))
        waiting = [
            pool.submit(
                _run_one, run_config(scaling, shared, run), shapes[run.size], dict(inputs), out / "runs" / run.name
            )
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


def scale(config: ScaleConfig, tokens: Path, tokenizer: Path, out: Path, progress: Progress) -> None:
    """The runs on tokens of one's own, their table ``runs.csv`` and the fit ``laws.json``.

    With ``check``, ``forecasts.json`` holds what the laws promise of larger budgets, and what then came.
    """
    vocabulary = Tokenizer.load(tokenizer).vocab_size
    shapes = {name: config.shape(name, vocabulary) for name in config.shapes}
    if not any((tokens / "heldout").glob("*.bin")):
        raise HerdError(f"{tokens}: holds no held-out documents, and the laws are fitted to held-out loss")
    inputs = {"tokens": tokens, "tokenizer": tokenizer}
    points = run_isoflop(config, config.pretraining, shapes, inputs, out, progress)
    if not points:
        least = f"isoflop.least_tokens ({config.isoflop.least_tokens:,})"
        raise HerdError(f"no budget is large enough for {least} on any of the shapes; give larger ones")
    table = io.StringIO()
    rows = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    rows.writeheader()
    rows.writerows(asdict(point) for point in points)
    write_text(out / "runs.csv", table.getvalue())
    try:
        laws = fit_table(out / "runs.csv")
    except HerdError as error:  # the runs are kept: their reader may add budgets or sizes
        laws = {"not_fitted": str(error)}
    write_json(out / "laws.json", laws)
    if config.check and "not_fitted" not in laws:
        _check(config, shapes, inputs, out, progress)


def _check(
    config: ScaleConfig, shapes: Mapping[str, ModelConfig], inputs: Mapping[str, Path], out: Path, progress: Progress
) -> None:
    """Forecasts the loss of the best size at larger budgets, then trains the shape that is nearest to it."""
    largest = max(config.isoflop.budgets)
    sizes = {name: shape.parameters for name, shape in shapes.items()}
    forecasts = [
        forecast_run(out / "runs.csv", times * largest, sizes, config.isoflop.batch_tokens) for times in config.check
    ]
    write_json(out / "forecasts.json", [asdict(forecast) for forecast in forecasts])
    runs = [forecast.run for forecast in forecasts]
    points = make_runs(runs, config, config.pretraining, shapes, inputs, out, progress)
    held = [replace(forecast, measured=point.loss) for forecast, point in zip(forecasts, points, strict=True)]
    write_json(out / "forecasts.json", [asdict(forecast) | {"errors": forecast.errors} for forecast in held])
