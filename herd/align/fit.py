"""What the trainings of alignment share: their configuration, opening a model, the one loop, writing the result."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import Field

from herd.formats.huggingface import load_model, save_model
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import write_json
from herd.foundation.progress import Progress
from herd.model.config import ModelConfig
from herd.model.transformer import RewardModel, Transformer
from herd.tokenizer.chat import ChatFormat
from herd.tokenizer.tokenizer import Tokenizer
from herd.train.compiled import CompileMode
from herd.train.loop import BatchRamp, BatchSource, LossFunction, OptimizerConfig, TrainConfig, TrainReport, train
from herd.train.parallel.launch import Alone
from herd.train.precision import Precision
from herd.train.processes import OneProcess, put_weights
from herd.train.recompute import Recompute, RecomputedLayers

Item = TypeVar("Item")
Network = TypeVar("Network", Transformer, RewardModel)


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


@dataclass(frozen=True)
class Team:
    """The processes of a training: how they were started, and what each of them holds."""

    launch: Alone
    processes: OneProcess

    def own(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's part of what is only read, not trained on."""
        return items[self.launch.rank :: self.launch.count]

    def sums(self, values: Sequence[float]) -> list[float]:
        """The values of all processes, place by place; every process must ask."""
        return [sum(each) for each in zip(*self.launch.exchange(values, "the sums of figures"), strict=True)]


def gather_team(launch: Alone | None = None, replicas: int = 1, shape: ModelConfig | None = None) -> Team:
    """The processes of ``launch`` as data parallel ones that train a network of ``shape``; without it this one alone.

    They share the items of every step; ``replicas`` copies of the weights are kept, each cut over the others (FSDP).
    Raises ``HerdError`` where the copies do not divide the processes.
    """
    launch = launch or Alone()
    if launch.count == replicas == 1:
        return Team(launch, OneProcess())
    from herd.train.parallel.mesh import Mesh, MeshConfig, check_mesh  # sharding takes seconds to import
    from herd.train.parallel.processes import ManyProcesses

    assert shape is not None, "several processes train a network"
    mesh = MeshConfig(dp=launch.count, replicas=replicas)
    check_mesh(mesh, launch.count, shape, 1, BatchRamp.constant(launch.count))
    return Team(launch, ManyProcesses(Mesh(mesh, launch.device.type)))


def fit(
    config: FitConfig,
    model: Network,
    source: CountedSource,
    loss: LossFunction,
    out: Path,
    progress: Progress,
    name: str,
    team: Team,
) -> tuple[Network, TrainReport]:
    """Trains ``model`` over the whole source; resumes what an interrupted call left in ``out/training``.

    Returns the trained network, whole on every process, and what was done.  ``model`` itself is used up.
    """
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
    processes, launch = team.processes, team.launch
    with launch.within("the spreading of the weights"):
        spread = processes.spread(model.to(launch.device))
    with RecomputedLayers(spread, config.recompute):
        report = train(
            settings,
            spread,
            source,
            loss,
            out / "training",
            progress,
            name=name,
            processes=processes,
            launch=launch,
        )
    if launch.count == 1:
        return model, report
    with launch.within("the gathering of the weights"):
        weights = processes.whole_weights(spread)
    whole = type(model)(model.config)
    put_weights(weights, whole)
    return whole.to(launch.device), report


def finish(
    model: Transformer | RewardModel,
    tokenizer: Path,
    out: Path,
    report: TrainReport,
    figures: Mapping[str, Any],
    team: Team,
) -> None:
    """Writes the model with its tokenizer and ``stats.json``; checkpoints go, ``training/metrics.jsonl`` stays."""
    if team.launch.rank > 0:
        return
    save_model(model, tokenizer, out)
    write_json(out / "stats.json", {**figures, "training": report.figures})
    shutil.rmtree(out / "training" / "checkpoints", ignore_errors=True)
