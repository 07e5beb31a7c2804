"""What the trainings of alignment share: their configuration, opening a model, the one loop, writing the result."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field
from torch import nn

from herd.formats.huggingface import load_model, save_model
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import write_json
from herd.foundation.progress import Progress
from herd.model.transformer import RewardModel, Transformer
from herd.tokenizer.chat import ChatFormat
from herd.tokenizer.tokenizer import Tokenizer
from herd.train.compiled import CompileMode
from herd.train.loop import BatchRamp, BatchSource, LossFunction, OptimizerConfig, TrainConfig, TrainReport, train
from herd.train.precision import Precision
from herd.train.recompute import Recompute, RecomputedLayers


class FitConfig(Config):
    """Optimiser, epochs and size of a step; every training of alignment sets its own defaults."""

    optimizer: OptimizerConfig = OptimizerConfig()
    epochs: int = Field(default=1, gt=0)
    tokens_per_step: int = Field(default=2048, gt=0, description="tokens of a step's dialogues, at most")
    longest: int = Field(default=1024, gt=1, description="dialogues with more tokens are left out and counted")
    seed: int = 7
    compile: CompileMode = "auto"
    precision: Precision = "auto"
    recompute: Recompute = Field(default="none", description="what the backward pass makes again of activations")
    checkpoint_seconds: float = Field(default=60.0, gt=0)


class CountedSource(BatchSource, Protocol):
    """A source that knows how many steps its epochs are."""

    @property
    def steps(self) -> int:
        """Steps of all epochs."""


def load_transformer(directory: Path) -> Transformer:
    """The language model of a directory; ``HerdError`` if it holds a reward model."""
    model = load_model(directory)
    if not isinstance(model, Transformer):
        raise HerdError(f"{directory}: this is a reward model, a language model is needed here")
    return model


def load_reward_model(directory: Path) -> RewardModel:
    """The reward model of a directory; ``HerdError`` if it holds a language model."""
    model = load_model(directory)
    if not isinstance(model, RewardModel):
        raise HerdError(f"{directory}: this is a language model, a reward model is needed here")
    return model


def load_chat(directory: Path) -> ChatFormat:
    """The chat encoder with the tokenizer that lies in a model's directory."""
    return ChatFormat(Tokenizer.load(directory))


def fit(
    config: FitConfig,
    model: nn.Module,
    source: CountedSource,
    loss: LossFunction,
    out: Path,
    progress: Progress,
    name: str,
) -> TrainReport:
    """Trains ``model`` in place over the whole source; resumes what an interrupted call left in ``out/training``."""
    settings = TrainConfig(
        steps=source.steps,
        optimizer=config.optimizer,
        batch=BatchRamp.constant(1),
        sequence_length=config.tokens_per_step,
        seed=config.seed,
        compile=config.compile,
        precision=config.precision,
        checkpoint_seconds=config.checkpoint_seconds,
        tensorboard=False,
    )
    with RecomputedLayers(model, config.recompute):
        return train(settings, model, source, loss, out / "training", progress, name=name)


def finish(
    model: Transformer | RewardModel, tokenizer: Path, out: Path, report: TrainReport, figures: Mapping[str, Any]
) -> None:
    """Writes the model with its tokenizer and ``stats.json``; checkpoints go, ``training/metrics.jsonl`` stays."""
    save_model(model, tokenizer, out)
    write_json(out / "stats.json", {**figures, "training": report.figures})
    shutil.rmtree(out / "training" / "checkpoints", ignore_errors=True)
