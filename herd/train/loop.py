"""The one training loop.

Pre-training, long context, annealing, fine-tuning, reward and preference training are a ``BatchSource`` and a
``LossFunction`` handed to ``train``.  A run lives in a directory: called again with the same arguments after any
interruption, it goes on from its newest checkpoint and ends with the same weights, bit for bit.

    report = train(TrainConfig(steps=1000), model, source, next_token_loss, out, progress)

The directory holds ``metrics.jsonl``, ``checkpoints/`` and, where TensorBoard is installed, ``tensorboard/``.
"""

import math
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import digest_value, read_jsonl
from herd.foundation.progress import Progress, Task
from herd.foundation.seeds import derive
from herd.model.config import ModelConfig
from herd.train.average import AverageConfig, RunningAverage
from herd.train.batch import Batch, BatchSource, LossFunction, LossParts
from herd.train.checkpoint import Checkpoints
from herd.train.compiled import CompiledLayers, CompileMode, decide_compile
from herd.train.metrics import MetricsLog
from herd.train.precision import Precision, in_precision
from herd.train.processes import OneProcess
from herd.train.schedule import BatchRamp, OptimizerConfig, learning_rate

HeldOut = Callable[[Any], dict[str, float]]


class TrainConfig(Config):
    """How long and how a run trains; what it trains on is its source's and its loss's affair."""

    steps: int = Field(gt=0)
    optimizer: OptimizerConfig = OptimizerConfig()
    batch: BatchRamp = BatchRamp()
    sequence_length: int = Field(default=512, gt=1, description="tokens of a row; sources cut or pack to it")
    micro_tokens: int = Field(default=4096, gt=0, description="tokens that go through the network at once, at most")
    seed: int = 0
    compile: CompileMode = "auto"
    precision: Precision = "auto"
    average: AverageConfig = AverageConfig()
    checkpoint_seconds: float = Field(default=60.0, gt=0, description="longest time between two checkpoints")
    checkpoint_steps: int | None = Field(
        default=None, gt=0, description="steps between two checkpoints, besides the time"
    )
    keep_checkpoints: int = Field(default=2, gt=0)
    eval_every: int | None = Field(default=None, gt=0, description="steps between two held-out evaluations")
    max_skipped: int = Field(default=20, ge=0, description="steps that may have a loss or gradient that is not finite")
    tensorboard: bool = True

    def tokens(self) -> int:
        """Tokens of the whole run where every row is full."""
        return self.batch.rows_before(self.steps) * self.sequence_length


@dataclass
class TrainReport:
    """What a run has done; its final weights are in the model that was handed in, ``averaged`` holds their mean."""

    figures: dict[str, Any]
    averaged: dict[str, Tensor] | None


@dataclass
class _Step:
    """The outcome of one step: sums over its micro-batches, divided by their weight where that is meant."""

    loss: float
    grad_norm: float
    rate: float
    tokens: int
    targets: float
    flops: float
    figures: dict[str, float]

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


def train(
    config: TrainConfig,
    model: nn.Module,
    source: BatchSource,
    loss: LossFunction,
    out: Path,
    progress: Progress,
    *,
    held_out: HeldOut | None = None,
    name: str = "training",
    processes: OneProcess | None = None,
) -> TrainReport:
    """Trains ``model`` in place for ``config.steps`` steps and returns what was done, averaged weights included.

    ``out`` is the run's directory.  ``held_out`` is called with the model in evaluation mode and without gradients
    every ``eval_every`` steps and after the last; its figures go into the metrics.  ``processes`` are those that train
    together, over which ``model`` is spread already.  ``HerdError`` where the directory holds another run, where too
    many steps are not finite, or where a checkpoint cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    run = TrainRun(config, model, source, loss, out, processes)
    try:
        with progress.task(name, config.steps) as task:
            task.advance(run.counters.step)
            run.go(task, held_out)
    finally:
        run.log.close()
    return TrainReport(run.figures(), run.average.mean or None)


class TrainRun:
    """The moving parts of a run: built from its directory, moved step by step, saved now and then."""

    def __init__(
        self,
        config: TrainConfig,
        model: nn.Module,
        source: BatchSource,
        loss: LossFunction,
        out: Path,
        processes: OneProcess | None = None,
    ) -> None:
        self.config, self.model, self.source, self.loss, self.out = config, model, source, loss, out
        self.processes = processes or OneProcess()
        self.shape: ModelConfig = cast(ModelConfig, model.config)
        self.device = next(model.parameters()).device
        self.optimizer = _optimizer(config.optimizer, model)
        self.average = RunningAverage(model)
        self.checkpoints = Checkpoints(out / "checkpoints", _identity(config, model), config.keep_checkpoints)
        self.counters = self.checkpoints.load(model, self.optimizer, self.average)
        self.resumed_from = self.counters.step
        self.log = MetricsLog(out, self.counters.metrics_bytes, self.counters.step, config.tensorboard)
        self.eager_because = decide_compile(config.compile, 6.0 * self.shape.matmul_parameters() * config.tokens())
        self.speed = CompiledLayers(model) if self.eager_because is None else nullcontext()

    def go(self, task: Task, held_out: HeldOut | None) -> None:
        """Takes every step that is left."""
        config, counters = self.config, self.counters
        saved_at = time.monotonic()
        while counters.step < config.steps:
            began = time.monotonic()
            with self.speed:
                step = self.take_step(counters.step)
            counters.step += 1
            if config.average.takes(counters.step, config.steps):
                self.average.add()
            seconds = time.monotonic() - began
            last = counters.step == config.steps
            evaluate = held_out is not None and (last or _due(config.eval_every, counters.step))
            self.record(step, seconds, self.evaluate(held_out) if evaluate and held_out else {})
            task.note(f"loss {step.loss:.3f}")
            task.advance()
            late = time.monotonic() - saved_at > config.checkpoint_seconds
            if last or late or _due(config.checkpoint_steps, counters.step):
                counters.metrics_bytes = self.log.sync()
                self.checkpoints.save(counters, self.model, self.optimizer, self.average)
                saved_at = time.monotonic()

    def take_step(self, number: int) -> _Step:
        """One optimiser step over all micro-batches; left out where loss or gradient is not finite."""
        torch.manual_seed(derive(self.config.seed, "train", number))
        rate = learning_rate(self.config.optimizer, number, self.config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        step = self.accumulate(number, rate)
        if step.finite:
            self.optimizer.step()
        else:
            self.counters.skipped += 1
        self.optimizer.zero_grad(set_to_none=True)
        if self.counters.skipped > self.config.max_skipped:
            raise HerdError(
                f"{self.out}: the loss or gradient of {self.counters.skipped} steps was not finite, the last at step "
                f"{number}; a lower learning rate or a longer warm-up may help"
            )
        return step

    def accumulate(self, number: int, rate: float) -> _Step:
        """Gradients of the whole step: sums over the micro-batches, divided once by the sum of their weights."""
        self.model.train()
        sums = {"loss": 0.0, "weight": 0.0}
        counts = {"tokens": 0.0, "flops": 0.0}
        figures: dict[str, float] = {}
        for batch, parts in self.processes.passes(self._forward, self.source.batches(number)):
            sums["loss"] += float(parts.total_sum.detach())
            sums["weight"] += float(parts.weight)
            counts["tokens"] += sum(batch.lengths)
            counts["flops"] += sum(length * self.shape.flops_per_token(length) for length in batch.lengths)
            for key, value in parts.figures.items():
                figures[key] = figures.get(key, 0.0) + value
        sums, figures = self.processes.sum_losses(sums), self.processes.sum_losses(figures)
        counts = self.processes.sum_counts(counts)
        weight = sums["weight"]
        divisor = weight or 1.0  # a step without any target has loss 0 and gradient 0
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        torch._foreach_div_(gradients, divisor)
        norm = self.processes.clip(self.model, self.config.optimizer.clip)
        means = {key: value / divisor for key, value in figures.items()}
        return _Step(sums["loss"] / divisor, norm, rate, int(counts["tokens"]), weight, counts["flops"], means)

    def _forward(self, batch: Batch) -> LossParts:
        with in_precision(self.config.precision, self.device):
            return self.loss(self.model, batch.to(self.device))

    @torch.no_grad()
    def evaluate(self, held_out: HeldOut) -> dict[str, float]:
        """The held-out figures of the present weights."""
        self.model.eval()
        figures = held_out(self.model)
        self.processes.settle(self.model)
        self.model.train()
        return figures

    def record(self, step: _Step, seconds: float, held_out: dict[str, float]) -> None:
        """Counts a step and writes its line."""
        counters = self.counters
        counters.tokens += step.tokens
        counters.targets += step.targets
        counters.flops += step.flops
        counters.seconds += seconds
        line = {
            "loss": step.loss,
            "learning_rate": step.rate,
            "grad_norm": step.grad_norm,
            "tokens": counters.tokens,
            "flops": counters.flops,
            "seconds": round(counters.seconds, 3),
            "tokens_per_second": round(step.tokens / seconds, 1),
            "skipped": counters.skipped,
        }
        self.log.write(counters.step, line | step.figures | held_out)

    def figures(self) -> dict[str, Any]:
        """The run in figures: counters, closing loss and rate, and what the last held-out evaluation said."""
        lines = list(read_jsonl(self.out / "metrics.jsonl"))
        closing = lines[-max(len(lines) // 20, 1) :]
        counters = self.counters
        return {
            **{key: value for key, value in lines[-1].items() if key not in ("step", "loss", "skipped")},
            "steps": counters.step,
            "tokens": counters.tokens,
            "targets": counters.targets,
            "flops": counters.flops,
            "seconds": round(counters.seconds, 3),
            "skipped": counters.skipped,
            "closing_loss": statistics.fmean(line["loss"] for line in closing),
            "tokens_per_second": statistics.median(line["tokens_per_second"] for line in lines),
            "resumed_from": self.resumed_from,
            "eager_because": self.eager_because,
        }


def _due(every: int | None, done: int) -> bool:
    return every is not None and done % every == 0


def _optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.AdamW:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)


def _identity(config: TrainConfig, model: nn.Module) -> str:
    """A digest of all that decides the result; how often a run is saved, watched or evaluated does not."""
    watching = {"checkpoint_seconds", "checkpoint_steps", "keep_checkpoints", "eval_every", "tensorboard"}
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    return digest_value([config.model_dump(mode="json", exclude=watching), shapes])
