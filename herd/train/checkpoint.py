"""The state of a run on disk, whole or absent: weights, optimiser, averaging, and the counters.

A checkpoint is one safetensors file with the counters as JSON in its header: nothing is unpickled, any tool reads it,
and writing it is one atomic rename.  Chance and data order need no place in it, they are functions of the step.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from herd.foundation.errors import HerdError
from herd.foundation.files import atomic_path
from herd.train.average import RunningAverage

_SUFFIX = ".safetensors"


@dataclass
class Counters:
    """What a run has done so far."""

    step: int = 0
    tokens: int = 0
    targets: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0
    skipped: int = 0
    average_count: int = 0
    metrics_bytes: int = 0


class Checkpoints:
    """The checkpoints of one run, newest first; ``identity`` says which run they belong to."""

    def __init__(self, directory: Path, identity: str, keep: int = 2) -> None:
        self.directory, self.identity, self.keep = directory, identity, keep
        directory.mkdir(parents=True, exist_ok=True)

    def paths(self) -> list[Path]:
        """Finished checkpoints, newest first; what an interrupted writer left is removed."""
        for leftover in self.directory.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        return sorted(self.directory.glob(f"*{_SUFFIX}"), reverse=True)

    def save(
        self, counters: Counters, model: nn.Module, optimizer: torch.optim.Optimizer, average: RunningAverage
    ) -> None:
        """Writes the state after ``counters.step`` steps and forgets all but the newest ``keep``."""
        counters.average_count = average.count
        tensors = _tensors(model, optimizer, average)
        path = self.directory / f"{counters.step:08d}{_SUFFIX}"
        header = {"identity": self.identity, "counters": json.dumps(asdict(counters))}
        try:
            with atomic_path(path) as temporary:
                save_file(tensors, temporary, metadata=header)
        except (OSError, SafetensorError) as error:
            raise HerdError(f"{path}: the checkpoint could not be written ({error})") from None
        for old in self.paths()[self.keep :]:
            old.unlink()

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer, average: RunningAverage) -> Counters:
        """Puts the newest state into the three objects; without one they stay as they are.

        A checkpoint of another configuration or network, or an unreadable one, is a ``HerdError``.
        """
        paths = self.paths()
        if not paths:
            return Counters()
        header, tensors = _read(paths[0])
        if header.get("identity") != self.identity:
            raise HerdError(
                f"{paths[0]}: belongs to a run of another configuration or network; remove it to start again"
            )
        counters = Counters(**json.loads(header["counters"]))
        _restore(tensors, model, optimizer)
        average.count = counters.average_count
        average.mean = _group(tensors, "average")
        return counters


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as source:
            return source.metadata() or {}, {name: source.get_tensor(name) for name in source.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise HerdError(f"{path}: the checkpoint is not readable ({error})") from None


def _tensors(model: nn.Module, optimizer: torch.optim.Optimizer, average: RunningAverage) -> dict[str, Tensor]:
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[f"model/{name}"] = parameter.detach()
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}/{name}"] = value
    tensors |= {f"average/{name}": value for name, value in average.mean.items()}
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def _group(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}/"): value for name, value in tensors.items() if name.startswith(f"{prefix}/")}


@torch.no_grad()
def _restore(tensors: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    kinds = {name.split("/", 1)[0] for name in tensors if name.startswith("optimizer.")}
    moments = {kind.removeprefix("optimizer."): _group(tensors, kind) for kind in kinds}
    for name, parameter in model.named_parameters():
        parameter.copy_(tensors[f"model/{name}"])
        state: dict[str, Any] = {key: held[name].to(parameter.device) for key, held in moments.items() if name in held}
        if state:
            optimizer.state[parameter] = state
