"""The stage that trains on documents: initial pre-training, a long-context step, annealing.

    pretrain(PretrainConfig(tokens=3_000_000), shape, tokens, tokenizer, out, progress)
    pretrain(PretrainConfig(tokens=200_000, sequence_length=2048), base, tokens, tokenizer, out, progress)

All three are the one loop with another configuration; the second form goes on from a finished model.  ``out`` becomes
a Hugging Face directory with ``metrics.jsonl``, ``stats.json`` and, where snapshots are averaged, the averaged weights.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator

from herd.formats.huggingface import load_transformer, save_model
from herd.foundation.config import Config
from herd.foundation.files import write_json
from herd.foundation.progress import Progress
from herd.foundation.seeds import derive
from herd.model.config import ModelConfig
from herd.model.transformer import Transformer
from herd.train.average import AverageConfig
from herd.train.batch import next_token_loss
from herd.train.compiled import CompileMode
from herd.train.loop import TrainConfig, train
from herd.train.precision import Precision
from herd.train.pretrain import PretrainSource, held_out_batches
from herd.train.schedule import BatchRamp, OptimizerConfig, RampStep
from herd.train.stream import Mix, TokenStream
from herd.train.tokens import open_shards


class RowsFrom(Config):
    """From this share of the run's tokens on, a step takes ``rows`` rows."""

    share: float = Field(ge=0, lt=1)
    rows: int = Field(gt=0)


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
    average: AverageConfig = AverageConfig()
    micro_tokens: int = Field(4096, gt=0)
    held_out_tokens: int = Field(40_000, gt=0, description="held-out tokens of each domain that are measured")
    compile: CompileMode = "auto"
    precision: Precision = "auto"
    checkpoint_seconds: float = Field(60.0, gt=0)
    seed: int = 0

    @model_validator(mode="after")
    def _ramp_ascends(self) -> "PretrainConfig":
        shares = [step.share for step in self.batch]
        if not shares or shares[0] != 0 or sorted(set(shares)) != shares:
            raise ValueError("batch must begin at share 0 and its shares must ascend")
        return self

    def schedule(self) -> TrainConfig:
        """The loop's configuration: shares of tokens become steps."""
        ramp, step = [], 0
        ends = [following.share for following in self.batch[1:]] + [1.0]
        for stretch, end in zip(self.batch, ends, strict=True):
            ramp.append(RampStep(step=step, rows=stretch.rows))
            step += max(round((end - stretch.share) * self.tokens / (stretch.rows * self.sequence_length)), 1)
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
            checkpoint_seconds=self.checkpoint_seconds,
        )


def pretrain(
    config: PretrainConfig, start: ModelConfig | Path, tokens: Path, tokenizer: Path, out: Path, progress: Progress
) -> None:
    """Trains a fresh network of shape ``start``, or goes on from the model in ``start``, on ``tokens``' shards."""
    model = _begin(start, config)
    schedule = config.schedule()
    stream = TokenStream(
        config.mix.sources(open_shards(tokens), schedule.tokens()), config.seed, config.sequence_length
    )
    held_out = HeldOutLoss(tokens, stream, config)
    source = PretrainSource(stream, schedule.batch, config.micro_tokens)
    report = train(schedule, model, source, next_token_loss, out, progress, held_out=held_out, name=out.name)
    figures = dict(report.figures)
    if report.averaged is not None:
        model.load_state_dict(report.averaged, strict=False)
        figures["averaged"] = held_out(model)
    save_model(model, tokenizer, out)
    write_json(out / "stats.json", figures | {"parameters": model.config.parameters, **_mix_figures(stream, schedule)})
    shutil.rmtree(out / "checkpoints", ignore_errors=True)


def _begin(start: ModelConfig | Path, config: PretrainConfig) -> Transformer:
    if isinstance(start, ModelConfig):
        model = Transformer(start)
        model.init_weights(derive(config.seed, "weights"))
        return model
    model = load_transformer(start)
    longest = max(model.config.max_positions, config.sequence_length)
    model.config = model.config.with_context(longest, model.config.rope_scaling)
    return model


def _mix_figures(stream: TokenStream, schedule: TrainConfig) -> dict[str, Any]:
    shares: dict[str, float] = {}
    for source, share in zip(stream.sources, stream.shares, strict=True):
        shares[source.shard.name] = shares.get(source.shard.name, 0.0) + share
    samples = schedule.batch.rows_before(schedule.steps)
    return {"mix": shares, "epochs": stream.epochs(samples), "sequence_length": schedule.sequence_length}


class HeldOutLoss:
    """Held-out nats per token of every domain, and their mean in the proportions of the training mix."""

    def __init__(self, tokens: Path, stream: TokenStream, config: PretrainConfig) -> None:
        self.shares: dict[str, float] = {}
        shards = open_shards(tokens, "heldout") if any((tokens / "heldout").glob("*.bin")) else {}
        for source, share in zip(stream.sources, stream.shares, strict=True):
            if len(shards.get(source.shard.name, ())):
                self.shares[source.shard.name] = self.shares.get(source.shard.name, 0.0) + share
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

    @staticmethod
    def _mean(model: Transformer, batches: list[Any]) -> float:
        parts = [next_token_loss(model, batch) for batch in batches]
        return sum(float(part.total_sum) for part in parts) / max(sum(part.weight for part in parts), 1.0)
