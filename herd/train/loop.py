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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from herd.foundation.config import Config
from herd.foundation.errors import Interrupted, UnfinishedError
from herd.foundation.files import read_json, read_jsonl, write_json
from herd.foundation.progress import Progress, Task
from herd.foundation.seeds import derive
from herd.model.config import ModelConfig
from herd.train.average import AverageConfig, RunningAverage
from herd.train.batch import Batch, BatchSource, LossFunction, LossParts
from herd.train.checkpoint import Checkpoints
from herd.train.compiled import CompiledLayers, CompileMode, decide_compile
from herd.train.float8 import check_float8, multiply_in_float8
from herd.train.metrics import MetricsLog
from herd.train.parallel.launch import Alone
from herd.train.precision import Precision, in_precision
from herd.train.processes import OneProcess
from herd.train.schedule import BatchRamp, OptimizerConfig, learning_rate
from herd.train.stopping import stop_asked

HeldOut = Callable[[Any], dict[str, float]]

_NORMS = 64


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
    keep_checkpoints: int = Field(default=2, gt=0, description="newest checkpoints that stay")
    keep_every: int | None = Field(default=None, gt=0, description="steps between two checkpoints that stay for good")
    eval_every: int | None = Field(default=None, gt=0, description="steps between two held-out evaluations")
    spike: float | None = Field(
        default=None,
        gt=1,
        description=f"a gradient this many times as long as the median of the last {_NORMS} is a spike",
    )
    max_skipped: int = Field(default=20, ge=0, description="steps that may be left out: not finite, or a spike")
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
    launch: Alone | None = None,
    checkpoints: Checkpoints | None = None,
) -> TrainReport:
    """Trains ``model`` in place for ``config.steps`` steps and returns what was done, averaged weights included.

    ``out`` is the run's directory.  ``held_out`` is called with the model in evaluation mode and without gradients
    every ``eval_every`` steps and after the last; its figures go into the metrics.  ``processes`` are those that train
    together, over which ``model`` is spread already; ``launch`` is how they were started.  ``checkpoints`` are those
    of ``open_checkpoints``, where the caller has looked at them already.

    ``HerdError`` where the directory holds another run or a damaged checkpoint, where too many steps are left out, or
    where a checkpoint cannot be written; ``Interrupted`` after SIGTERM, with a checkpoint of the last step, and where
    another process is lost.
    """
    out.mkdir(parents=True, exist_ok=True)
    run = TrainRun(config, model, source, loss, out, processes, launch, checkpoints)
    try:
        with progress.task(name, config.steps) as task:
            task.advance(run.counters.step)
            run.go(task, held_out)
    finally:
        if run.log is not None:
            run.log.close()
    return TrainReport(run.figures(), run.average.mean or None)


def open_checkpoints(config: TrainConfig, shape: ModelConfig, out: Path, launch: Alone) -> Checkpoints:
    """The checkpoints of a run in ``out``; their ``find`` refuses them before a network is made, ``train`` after it."""
    identity = _identity(config, shape)
    return Checkpoints(out / "checkpoints", identity, config.keep_checkpoints, config.keep_every, launch)


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
        launch: Alone | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.config, self.model, self.source, self.loss, self.out = config, model, source, loss, out
        self.processes, self.launch = processes or OneProcess(), launch or Alone()
        self.shape: ModelConfig = cast(ModelConfig, model.config)
        self.device = next(model.parameters()).device
        if config.precision == "float8":
            check_float8(self.device, self.launch.count)
            multiply_in_float8(model)
        self.optimizer = _optimizer(config.optimizer, model)
        self.average = RunningAverage(model)
        self.checkpoints = checkpoints or open_checkpoints(config, self.shape, out, self.launch)
        self.counters = self.checkpoints.load(model, self.optimizer, self.average)
        self.resumed_from = self.counters.step
        self.log: MetricsLog | None = None
        if self.launch.rank == 0:
            self.log = MetricsLog(out, self.counters.metrics_bytes, self.counters.step, config.tensorboard)
            self.began = _began(out / "checkpoints" / "began.json")
        self.own_seconds = 0.0
        flops = 6.0 * self.shape.matmul_parameters() * config.tokens()
        self.eager_because = self.processes.eager_because or decide_compile(config.compile, flops, self.device.type)
        self.speed = CompiledLayers(model) if self.eager_because is None else nullcontext()

    def go(self, task: Task, held_out: HeldOut | None) -> None:
        """Takes every step that is left."""
        config, counters = self.config, self.counters
        saved_at = time.monotonic()
        with stop_asked() as stop:
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
                evaluated = self.evaluate(held_out) if evaluate and held_out else {}
                late = time.monotonic() - saved_at > config.checkpoint_seconds
                said = self.launch.exchange([late, stop.is_set(), self.own_seconds])
                stopping = any(asked for _, asked, _ in said) and not last
                self.record(step, seconds, evaluated | _stragglers([own for _, _, own in said]))
                task.note(f"loss {step.loss:.3f}")
                task.advance()
                due = _due(config.checkpoint_steps, counters.step) or _due(config.keep_every, counters.step)
                if last or stopping or due or said[0][0]:
                    self.save()
                    saved_at = time.monotonic()
                if stopping:
                    self.checkpoints.wait()
                    raise Interrupted(f"{self.out}: stopped by SIGTERM and saved after step {counters.step}", 143)
        self.checkpoints.wait()

    def save(self) -> None:
        """Takes a checkpoint of the present state."""
        if self.log is not None:
            self.counters.metrics_bytes = self.log.sync()
        self.checkpoints.save(self.counters, self.model, self.optimizer, self.average)

    def take_step(self, number: int) -> _Step:
        """One optimiser step over all micro-batches; left out where loss or gradient is not finite."""
        torch.manual_seed(derive(self.config.seed, "train", number))
        rate = learning_rate(self.config.optimizer, number, self.config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        step = self.accumulate(number, rate)
        if step.finite and not self.is_spike(step.grad_norm):
            self.optimizer.step()
        else:
            self.counters.skipped += 1
        self.optimizer.zero_grad(set_to_none=True)
        if self.counters.skipped > self.config.max_skipped:
            what = "was not finite" if self.config.spike is None else "was not finite or a spike"
            raise UnfinishedError(
                f"{self.out}: the loss or gradient of {self.counters.skipped} steps {what}, the last at step "
                f"{number}; a lower learning rate or a longer warm-up may help"
            )
        return step

    def is_spike(self, norm: float) -> bool:
        """Whether a gradient's norm before clipping is ``spike`` times the median of the last steps that were taken."""
        if self.config.spike is None:
            return False
        norms = self.counters.norms
        if len(norms) == _NORMS and norm > self.config.spike * statistics.median(norms):
            return True
        self.counters.norms = [*norms[1 - _NORMS :], norm]
        return False

    def accumulate(self, number: int, rate: float) -> _Step:
        """Gradients of the whole step: sums over the micro-batches, divided once by the sum of their weights."""
        self.model.train()
        sums = {"loss": 0.0, "weight": 0.0}
        counts = {"tokens": 0.0, "flops": 0.0}
        figures: dict[str, float] = {}
        losses: list[Tensor] = []
        began, within = time.monotonic(), self.launch.within
        batches = self.source.batches(number)
        with within(f"the passes of step {number}"):
            for batch, parts in self.processes.passes(self._forward, batches):
                losses.append(parts.total_sum.detach())
                sums["weight"] += float(parts.weight)
                lengths = [] if batch.idle else batch.lengths
                counts["tokens"] += sum(lengths)
                counts["flops"] += sum(length * self.shape.flops_per_token(length) for length in lengths)
                for key, value in parts.figures.items():
                    figures[key] = figures.get(key, 0.0) + value
            # Asked for once, after the last pass: each answer would make the host wait for a GPU.
            for value in torch.stack(losses).tolist():
                sums["loss"] += value
        self.own_seconds = time.monotonic() - began
        with within(f"the sums of step {number}"):
            sums, figures = self.processes.sum_losses(sums), self.processes.sum_losses(figures)
            counts = self.processes.sum_counts(counts)
        weight = sums["weight"]
        divisor = weight or 1.0  # a step without any target has loss 0 and gradient 0
        # No list of them stays: where the norm lays one out anew, the old one must be free.
        torch._foreach_div_([each.grad for each in self.model.parameters() if each.grad is not None], divisor)
        with within(f"the norm of step {number}"):
            norm = self.processes.clip(self.model, self.config.optimizer.clip)
        means = {key: value / divisor for key, value in figures.items()}
        return _Step(sums["loss"] / divisor, norm, rate, int(counts["tokens"]), weight, counts["flops"], means)

    def _forward(self, batch: Batch) -> LossParts:
        with in_precision(self.config.precision, self.device):
            parts = self.loss(self.model, batch.to(self.device))
        return parts.without_weight() if batch.idle else parts

    @torch.no_grad()
    def evaluate(self, held_out: HeldOut) -> dict[str, float]:
        """The held-out figures of the present weights."""
        self.model.eval()
        with self.launch.within(f"the evaluation after step {self.counters.step}"):
            figures = held_out(self.model)
            self.processes.settle(self.model)
        self.model.train()
        return figures

    def record(self, step: _Step, seconds: float, others: dict[str, float]) -> None:
        """Counts a step and writes its line."""
        counters = self.counters
        counters.tokens += step.tokens
        counters.targets += step.targets
        counters.flops += step.flops
        counters.seconds += seconds
        if self.log is None:
            return
        line = {
            "loss": step.loss,
            "learning_rate": step.rate,
            "grad_norm": step.grad_norm,
            "tokens": counters.tokens,
            "flops": counters.flops,
            "seconds": round(counters.seconds, 3),
            "tokens_per_second": round(step.tokens / seconds, 1),
            "skipped": counters.skipped,
            "goodput": round(min(counters.seconds / max(time.time() - self.began, 1e-9), 1.0), 4),
        }
        self.log.write(counters.step, line | step.figures | others)

    def figures(self) -> dict[str, Any]:
        """The run in figures: counters, closing loss and rate, and what the last held-out evaluation said."""
        lines = list(read_jsonl(self.out / "metrics.jsonl"))
        closing = [line["loss"] for line in lines[-max(len(lines) // 20, 1) :] if line["loss"] is not None]
        counters = self.counters
        return {
            **{key: value for key, value in lines[-1].items() if key not in ("step", "loss", "skipped")},
            "steps": counters.step,
            "tokens": counters.tokens,
            "targets": counters.targets,
            "flops": counters.flops,
            "seconds": round(counters.seconds, 3),
            "skipped": counters.skipped,
            "closing_loss": statistics.fmean(closing) if closing else None,
            "tokens_per_second": statistics.median(line["tokens_per_second"] for line in lines),
            "resumed_from": self.resumed_from,
            "eager_because": self.eager_because,
        }


def _due(every: int | None, done: int) -> bool:
    return every is not None and done % every == 0


def _stragglers(seconds: list[float]) -> dict[str, float]:
    """Which process was slowest to compute its part of a step, and how many times as long as the median it took."""
    if len(seconds) == 1:
        return {}
    slowest = max(range(len(seconds)), key=seconds.__getitem__)
    return {"slowest_rank": slowest, "straggling": round(seconds[slowest] / statistics.median(seconds), 3)}


def _began(file: Path) -> float:
    """When the run was first begun, in seconds since 1970; resumed, it remembers."""
    if not file.exists():
        write_json(file, time.time())
    return float(read_json(file))


def _optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.AdamW:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)


def _identity(config: TrainConfig, shape: ModelConfig) -> dict[str, Any]:
    """All that decides the result; how often a run is saved, watched or evaluated does not."""
    watching = {"checkpoint_seconds", "checkpoint_steps", "keep_checkpoints", "keep_every", "eval_every", "tensorboard"}
    return {"training": config.model_dump(mode="json", exclude=watching), "network": asdict(shape)}
