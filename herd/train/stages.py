"""The stage that trains on documents: initial pre-training, a long-context step, annealing.

    pretrain(PretrainConfig(tokens=3_000_000), shape, tokens, tokenizer, out, progress)
    pretrain(PretrainConfig(tokens=200_000, sequence_length=2048), base, tokens, tokenizer, out, progress)

All three are the one loop with another configuration; the second form goes on from a finished model.  ``out`` becomes
a Hugging Face directory with ``metrics.jsonl``, ``stats.json`` and, where snapshots are averaged, the averaged weights.

On several processes, all of them call it:

    with launched() as launch:
        pretrain(config, shape, tokens, tokenizer, out, progress, MeshConfig(dp=launch.count), launch)
"""

import shutil
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from herd.formats.huggingface import save_model, save_weights
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import digest_file, read_json, write_json
from herd.foundation.progress import Progress
from herd.foundation.seeds import derive
from herd.model.config import ModelConfig
from herd.model.transformer import Transformer
from herd.tokenizer.files import file_of
from herd.train.average import AverageConfig
from herd.train.batch import Batch
from herd.train.beginning import begin_with
from herd.train.compiled import CompileMode
from herd.train.float8 import check_float8
from herd.train.loop import HeldOut, TrainConfig, open_checkpoints, train
from herd.train.parallel.launch import Alone
from herd.train.precision import Precision
from herd.train.pretrain import PretrainSource, held_out_batches
from herd.train.processes import OneProcess, put_weights
from herd.train.recompute import Recompute, RecomputedLayers
from herd.train.schedule import BatchRamp, OptimizerConfig, RampStep
from herd.train.shards import META_FILE
from herd.train.stream import Mix, TokenStream
from herd.train.tokens import open_shards

if TYPE_CHECKING:
    from herd.train.parallel.mesh import MeshConfig


class RowsFrom(Config):
    """From this share of the run's tokens on, a step takes ``rows`` rows."""

    share: float = Field(ge=0, lt=1)
    rows: int = Field(gt=0)
    length: int | None = Field(
        default=None, gt=1, description="tokens of a row; the run's sequence_length is a multiple of it"
    )

    def step_from(self, step: int, sequence_length: int) -> RampStep:
        """The ramp's change at ``step`` in whole rows of ``sequence_length``; ``HerdError`` where it has none."""
        length = self.length or sequence_length
        pieces = sequence_length // length
        if sequence_length % length or self.rows % pieces:
            raise HerdError(
                f"batch: from share {self.share:g} on, {self.rows} rows of {length} tokens are no whole number of rows "
                f"of {sequence_length}"
            )
        return RampStep(step=step, rows=self.rows // pieces, pieces=pieces)


class MixFrom(Config):
    """From this share of the run's tokens on, the next step being the first, the data come from another mix."""

    share: float = Field(gt=0, lt=1)
    mix: Mix


class PretrainConfig(Config):
    """One stretch of training on documents.

    The paper's batch ramp (section 3.4.1) is told in tokens, so that a stretch of any length keeps its proportions.
    """

    tokens: int = Field(gt=0, description="tokens to train on, rounded up to whole steps")
    sequence_length: int = Field(256, gt=1)
    batch: tuple[RowsFrom, ...] = (RowsFrom(share=0, rows=8),)
    warmup: float = Field(0.02, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    optimizer: OptimizerConfig = OptimizerConfig()
    mix: Mix = Mix()
    curriculum: tuple[MixFrom, ...] = Field((), description="mixes that take over on the way")
    average: AverageConfig = AverageConfig()
    micro_tokens: int = Field(4096, gt=0)
    held_out_tokens: int = Field(40_000, gt=0, description="held-out tokens of each domain that are measured")
    compile: CompileMode = "auto"
    precision: Precision = "auto"
    recompute: Recompute = Field("none", description="what the backward pass makes again of a layer's activations")
    spike: float | None = Field(20.0, gt=1, description="a step whose gradient is so many times as long is left out")
    checkpoint_seconds: float = Field(60.0, gt=0)
    checkpoint_steps: int | None = Field(None, gt=0, description="steps between two checkpoints, besides the time")
    keep_checkpoints: int = Field(2, gt=0, description="newest checkpoints that stay")
    keep_every: int | None = Field(None, gt=0, description="steps between two checkpoints that stay for good")
    max_skipped: int = Field(20, ge=0, description="steps that may be left out before the run ends")
    seed: int = 0

    @model_validator(mode="after")
    def _shares_ascend(self) -> "PretrainConfig":
        shares = [step.share for step in self.batch]
        if not shares or shares[0] != 0 or sorted(set(shares)) != shares:
            raise ValueError("batch must begin at share 0 and its shares must ascend")
        changes = [change.share for change in self.curriculum]
        if sorted(set(changes)) != changes:
            raise ValueError("the shares of curriculum must ascend")
        return self

    @model_validator(mode="after")
    def _warms_up_by_a_share(self) -> "PretrainConfig":
        if self.optimizer.warmup_steps:
            raise ValueError("optimizer.warmup_steps has no place here: warmup gives the share of the steps")
        return self

    def schedule(self) -> TrainConfig:
        """The loop's configuration: shares of tokens become steps; ``HerdError`` for a batch that is never reached."""
        ramp, step = [], 0
        ends = [following.share for following in self.batch[1:]] + [1.0]
        for stretch, end in zip(self.batch, ends, strict=True):
            ramp.append(stretch.step_from(step, self.sequence_length))
            step += self._steps(stretch, end)
        return TrainConfig(
            steps=step,
            optimizer=self.optimizer.model_copy(update={"warmup_steps": round(self.warmup * step)}),
            batch=BatchRamp(ramp=tuple(ramp)),
            sequence_length=self.sequence_length,
            micro_tokens=self.micro_tokens,
            seed=self.seed,
            compile=self.compile,
            precision=self.precision,
            average=self.average,
            spike=self.spike,
            checkpoint_seconds=self.checkpoint_seconds,
            checkpoint_steps=self.checkpoint_steps,
            keep_checkpoints=self.keep_checkpoints,
            keep_every=self.keep_every,
            max_skipped=self.max_skipped,
        )

    def _steps(self, stretch: RowsFrom, end: float) -> int:
        """Steps of one batch of the ramp, which must have tokens for one; a run without a ramp is rounded up to it."""
        length = stretch.length or self.sequence_length
        tokens, batch = (end - stretch.share) * self.tokens, stretch.rows * length
        steps = round(tokens / batch)
        if steps == 0 and len(self.batch) > 1:
            raise HerdError(
                f"batch: {stretch.rows} rows of {length} tokens are {batch:,} tokens a step, but from "
                f"share {stretch.share:g} to {end:g} of {self.tokens:,} tokens there are {tokens:,.0f}: never reached"
            )
        return max(steps, 1)


def pretrain(
    config: PretrainConfig,
    start: ModelConfig | Path,
    tokens: Path,
    tokenizer: Path,
    out: Path,
    progress: Progress,
    mesh: "MeshConfig | None" = None,
    launch: Alone | None = None,
) -> None:
    """Trains a fresh network of shape ``start``, or goes on from the model in ``start``, on ``tokens``' shards.

    Where ``launch`` brought several processes together, ``mesh`` says what each of them holds; without it all share
    the rows and the weights.  Raises ``HerdError`` before any weight is made: for a mesh or tokens that do not fit, for
    checkpoints of another run or damaged ones.
    """
    launch, schedule = launch or Alone(), config.schedule()
    if config.precision == "float8":
        check_float8(launch.device, launch.count)
    beginning = begin_with(start, derive(config.seed, "weights"), config.sequence_length)
    _check_vocabulary(tokens, tokenizer, beginning.shape, start)
    processes = _processes(mesh, launch, beginning.shape, schedule)
    checkpoints = open_checkpoints(schedule, beginning.shape, out, launch)
    checkpoints.find()
    stream = _stream(config, schedule, tokens)
    held_out: HeldOut = HeldOutLoss(tokens, stream, config, processes)
    source = PretrainSource(stream, schedule.batch, config.micro_tokens, processes.data_index, processes.data_parts)
    with launch.within("the making of the weights"):
        model = processes.begin(beginning, launch.device)
    with RecomputedLayers(model, config.recompute):
        report = train(
            schedule,
            model,
            source,
            processes.next_token_loss,
            out,
            progress,
            held_out=held_out,
            name=out.name,
            processes=processes,
            launch=launch,
            checkpoints=checkpoints,
        )
    figures = dict(report.figures)
    if report.averaged is not None:
        put_weights(report.averaged, model)
        with launch.within("the evaluation of the averaged weights"):
            figures["averaged"] = held_out(model)
            processes.settle(model)
    _save(model, processes, launch, tokenizer, out)
    if launch.rank > 0:
        return
    figures["parameters"] = beginning.shape.parameters
    write_json(out / "stats.json", figures | _mix_figures(stream, schedule))
    if config.keep_every is None:
        shutil.rmtree(out / "checkpoints", ignore_errors=True)


def mesh_of(
    launch: Alone,
    tp: int,
    cp: int,
    pp: int,
    dp: int | None,
    replicas: int,
    stages: int = 1,
    together: int | None = None,
) -> "MeshConfig | None":
    """The mesh of degrees that a user names, ``dp`` left open being all others; None for a process alone."""
    if launch.count == 1 and {tp, cp, pp, dp or 1, replicas} == {1}:
        return None
    from herd.train.parallel.mesh import MeshConfig  # sharding takes seconds to import

    others = max(launch.count // (tp * cp * pp), 1)
    return MeshConfig(tp=tp, cp=cp, pp=pp, dp=dp or others, replicas=replicas, stages=stages, together=together)


def _check_vocabulary(tokens: Path, tokenizer: Path, shape: ModelConfig, start: ModelConfig | Path) -> None:
    """The model is saved with the tokenizer, and one that somebody else began may know fewer tokens than the shards."""
    meta = read_json(tokens / META_FILE)
    if meta.get("tokenizer", "") not in ("", digest_file(file_of(tokenizer))):
        raise HerdError(f"{tokens}: was made with another tokenizer than {tokenizer}")
    known = meta.get("vocab_size", 0)
    if known > shape.vocab_size:
        model = start if isinstance(start, Path) else "the model"
        raise HerdError(
            f"{tokens}: was made with a vocabulary of {known} tokens, but {model} knows {shape.vocab_size}; "
            "tokenize the documents with the model's own tokenizer"
        )


def _stream(config: PretrainConfig, schedule: TrainConfig, tokens: Path) -> TokenStream:
    """The samples of a run; a change of the mix waits for the step that begins at its share of the tokens or later."""
    rows_before = schedule.batch.rows_before
    total, mixes = rows_before(schedule.steps), {0: config.mix}
    for change in config.curriculum:
        first = rows_before(bisect_left(range(schedule.steps), change.share * total, key=rows_before))
        if first == total or first in mixes:
            raise HerdError(
                f"curriculum: the mix from share {change.share} on gets no step of its own among {schedule.steps}"
            )
        mixes[first] = change.mix
    shards, ends = open_shards(tokens), [*mixes, total][1:]
    sources = {
        first: mix.sources(shards, (end - first) * config.sequence_length)
        for (first, mix), end in zip(mixes.items(), ends, strict=True)
    }
    return TokenStream(sources.pop(0), config.seed, config.sequence_length, sources)


def _processes(mesh: "MeshConfig | None", launch: Alone, shape: ModelConfig, schedule: TrainConfig) -> OneProcess:
    if mesh is None and launch.count == 1:
        return OneProcess()
    from herd.train.parallel.mesh import Mesh, MeshConfig, check_mesh

    mesh = mesh or MeshConfig(dp=launch.count)
    check_mesh(mesh, launch.count, shape, schedule.sequence_length, schedule.batch)
    from herd.train.parallel.pipeline import processes_of

    return processes_of(Mesh(mesh, launch.device.type))


def _save(model: Any, processes: OneProcess, launch: Alone, tokenizer: Path, out: Path) -> None:
    """Writes the directory; from several processes, the first one takes each tensor as it is gathered."""
    if launch.count == 1:
        save_model(model, tokenizer, out)
        return
    weights = _gather(processes.each_weight(model), launch)
    if launch.rank == 0:
        save_weights(weights, model.config, tokenizer, out)
    else:
        deque(weights, maxlen=0)  # they only give their parts


def _gather(weights: Iterator[tuple[str, Tensor]], launch: Alone) -> Iterator[tuple[str, Tensor]]:
    while True:
        with launch.within("the gathering of the weights"):
            named = next(weights, None)
        if named is None:
            return
        yield named


def _mix_figures(stream: TokenStream, schedule: TrainConfig) -> dict[str, Any]:
    samples = schedule.batch.rows_before(schedule.steps)
    return {
        "mix": stream.mix(samples),
        "epochs": stream.epochs(samples),
        "sequence_length": schedule.sequence_length,
    }


class HeldOutLoss:
    """Held-out nats per token of every domain, and their mean in the proportions of the whole run's mix."""

    def __init__(
        self, tokens: Path, stream: TokenStream, config: PretrainConfig, processes: OneProcess | None = None
    ) -> None:
        self.processes, schedule = processes or OneProcess(), config.schedule()
        shards = open_shards(tokens, "heldout") if any((tokens / "heldout").glob("*.bin")) else {}
        mix = stream.mix(schedule.batch.rows_before(schedule.steps))
        self.shares = {name: share for name, share in mix.items() if len(shards.get(name, ()))}
        self.batches = {
            name: list(
                held_out_batches(shards[name], config.sequence_length, config.micro_tokens, config.held_out_tokens)
            )
            for name in self.shares
        }

    @torch.no_grad()
    def __call__(self, model: Transformer) -> dict[str, float]:
        """``held_out/DOMAIN`` and ``held_out``; empty where no domain of the mix has held-out documents."""
        losses = {name: self._mean(model, batches) for name, batches in self.batches.items()}
        if not losses:
            return {}
        mean = sum(self.shares[name] * loss for name, loss in losses.items()) / sum(self.shares.values())
        return {"held_out": mean, **{f"held_out/{name}": loss for name, loss in losses.items()}}

    def _mean(self, model: Transformer, batches: list[Batch]) -> float:
        """Every process measures all batches, so that parts of one network are summed, and equal ones cancel out."""
        device = next(model.parameters()).device
        parts = [self.processes.next_token_loss(model, batch.to(device)) for batch in batches]
        own = {"loss": sum(float(part.total_sum) for part in parts), "weight": sum(part.weight for part in parts)}
        sums = self.processes.sum_losses(own)
        return sums["loss"] / max(sums["weight"], 1.0)
