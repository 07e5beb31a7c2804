"""The state of a run on disk, whole or absent: weights, optimiser, averaging, and the counters.

    checkpoints = Checkpoints(out / "checkpoints", identity, keep=2, keep_every=1000)
    counters = checkpoints.load(model, optimizer, average)      # on any number of processes
    checkpoints.save(counters, model, optimizer, average)       # returns at once
    checkpoints.wait()

A checkpoint is a directory of safetensors files, one of each process, with ``checkpoint.json``: the counters, and the
digest of every file.  It is copied in memory, written by a thread beside the next steps, flushed and renamed into
place.  Several processes write and read through torch's distributed checkpoint, which knows which slice lies where;
its own pickled index is not used, nothing is unpickled.  Chance and data order need no place in it, since they are
functions of the step, and neither has the number of processes.
"""

import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from herd.foundation.errors import UnfinishedError
from herd.foundation.files import (
    atomic_path,
    digest_file,
    digest_value,
    finish_directory,
    read_json,
    sync_directory,
    write_json,
)
from herd.train.average import RunningAverage
from herd.train.parallel.launch import Alone

_RECORD = "checkpoint.json"
_WHOLE = "state.safetensors"
_PARTIAL = ".partial"


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
    norms: list[float] = field(default_factory=list)
    """Of the gradients of the last steps that were taken: what a spike is measured by."""


class Checkpoints:
    """The checkpoints of one run; ``identity``, plain values by name, says which run they belong to.

    The newest ``keep`` stay, and those whose step is a multiple of ``keep_every``.
    """

    def __init__(
        self,
        directory: Path,
        identity: Mapping[str, Any],
        keep: int = 2,
        keep_every: int | None = None,
        launch: Alone | None = None,
    ) -> None:
        self.directory, self.identity, self.keep, self.keep_every = directory, identity, keep, keep_every
        self.launch = launch or Alone()
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None
        self._sound: Path | None = None  # the checkpoint whose files were compared with their digests
        directory.mkdir(parents=True, exist_ok=True)

    def paths(self) -> list[Path]:
        """Finished checkpoints, newest first."""
        return sorted((path.parent for path in self.directory.glob(f"[0-9]*/{_RECORD}")), reverse=True)

    def save(
        self, counters: Counters, model: nn.Module, optimizer: torch.optim.Optimizer, average: RunningAverage
    ) -> None:
        """Takes the state after ``counters.step`` steps; it is written while the next steps run.

        Raises ``HerdError`` where the checkpoint before could not be written; those before it are still valid.
        """
        self.wait()
        counters.average_count = average.count
        state = {name: _copy(tensor) for name, tensor in _tensors(model, optimizer, average).items()}
        record = {"identity": _digest(self.identity), "run": dict(self.identity), "counters": asdict(counters)}
        self._pending = self._thread.submit(self._write, state, record, f"{counters.step:08d}")

    def wait(self) -> None:
        """Until the last checkpoint is written.  Raises ``HerdError`` where it could not be."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            with self.launch.within("the writing of a checkpoint"):
                pending.result()

    def _write(self, state: dict[str, Tensor], record: dict[str, Any], name: str) -> None:
        final, partial = self.directory / name, self.directory / f".{name}{_PARTIAL}"
        digests: dict[str, str] = {}
        failure: str | None = None
        try:
            partial.mkdir(exist_ok=True)
            digests = self._write_own(state, partial)
        except (OSError, SafetensorError) as error:
            failure = str(error)
        said = self._say((digests, failure))
        failures = [what for _, what in said if what is not None]
        if not failures and self.launch.rank == 0:
            files = {file: digest for each, _ in said for file, digest in each.items()}
            failures = self._finish(partial, final, record | {"files": files})
        failures = [what for each in self._say(failures) for what in each]
        if failures:
            if self.launch.rank == 0:
                shutil.rmtree(partial, ignore_errors=True)
            raise UnfinishedError(
                f"{final}: the checkpoint could not be written ({failures[0]}); those before it are valid"
            )

    def _write_own(self, state: dict[str, Tensor], partial: Path) -> dict[str, str]:
        """Writes what is this process's to write; the digests of its files."""
        if self.launch.count == 1:
            with atomic_path(partial / _WHOLE) as temporary:
                save_file(state, temporary)
            return {_WHOLE: digest_file(partial / _WHOLE)}
        from herd.train.parallel.slices import write_slices  # distributed checkpoints take a second to import

        files = write_slices(state, partial, self.launch)
        return {file.name: digest_file(file) for file in files}

    def _say(self, word: Any) -> list[Any]:
        """Every process's word, told by the writing thread in a group of its own."""
        words = [word] * self.launch.count
        if self.launch.count > 1:
            dist.all_gather_object(words, word, self.launch.background)
        return words

    def _finish(self, partial: Path, final: Path, record: dict[str, Any]) -> list[str]:
        """Puts a written checkpoint in its place and forgets old ones; the failure, if there is one."""
        try:
            write_json(partial / _RECORD, record)
            sync_directory(partial)
            finish_directory(partial, final)
            for number, path in enumerate(self.paths()):
                kept = self.keep_every is not None and int(path.name) % self.keep_every == 0
                if number >= self.keep and not kept:
                    shutil.rmtree(path)
        except OSError as error:
            return [str(error)]
        return []

    def find(self) -> Path | None:
        """The newest checkpoint, None where there is none; all processes ask together, and need no network yet.

        Raises ``HerdError`` where it is of another run, with what differs, or where a file of it is damaged.
        """
        newest = [float(path.name) for path in self.paths()[:1]] or [-1.0]
        step = int(self.launch.exchange(newest)[0][0])
        if step < 0:
            return None
        path = self.directory / f"{step:08d}"
        if path != self._sound:
            record = read_json(path / _RECORD)
            self._check(path, record)
            self._verify(path, record["files"])
            self._sound = path
        return path

    def _check(self, path: Path, record: Mapping[str, Any]) -> None:
        if record.get("identity") != _digest(self.identity):
            what = _difference(record.get("run"), self.identity)
            raise UnfinishedError(
                f"{path}: belongs to a run of another configuration or network{what}; remove it to start again"
            )

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer, average: RunningAverage) -> Counters:
        """Puts the newest state into the three objects; without one they stay as they are.

        Raises ``HerdError`` as ``find`` does.
        """
        if self.launch.rank == 0:
            for leftover in self.directory.glob(".*"):
                shutil.rmtree(leftover, ignore_errors=True)
        path = self.find()
        if path is None:
            return Counters()
        record = read_json(path / _RECORD)
        counters = Counters(**record["counters"])
        average.count = counters.average_count
        self._restore(path, record["files"], model, optimizer, average)
        return counters

    def _verify(self, path: Path, files: Mapping[str, str]) -> None:
        """Compares the digests of all files, each process those of some."""
        named = sorted(files.items())
        bad = -1
        for number in range(self.launch.rank, len(named), self.launch.count):
            name, digest = named[number]
            if not (path / name).is_file() or digest_file(path / name) != digest:
                bad = number
        worst = int(max(number for (number,) in self.launch.exchange([bad])))
        if worst >= 0:
            raise UnfinishedError(
                f"{path / named[worst][0]}: is not what was written (its digest differs); "
                f"remove {path} to go on from the checkpoint before it"
            )

    def _restore(
        self,
        path: Path,
        files: Mapping[str, str],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: RunningAverage,
    ) -> None:
        if self.launch.count == 1 and set(files) == {_WHOLE}:
            with safe_open(path / _WHOLE, framework="pt") as source:
                names = source.keys()
                shapes = {name: torch.Size(source.get_slice(name).get_shape()) for name in names}
                for name, place in _places(shapes, model, optimizer, average).items():
                    place.copy_(source.get_tensor(name))
            return
        from herd.train.parallel.slices import read_slices, stored_shapes

        with self.launch.within("the reading of a checkpoint"):
            read_slices(_places(stored_shapes(path), model, optimizer, average), path, self.launch)


def _digest(identity: Mapping[str, Any]) -> str:
    return digest_value(list(identity.values()))


def _difference(before: Any, now: Any, name: str = "") -> str:
    """The first value that differs, in brackets; nothing where it is not known what was before."""
    if isinstance(before, dict) and isinstance(now, Mapping):
        found = (_difference(before.get(key), now[key], f"{name}.{key}".strip(".")) for key in now)
        return next(filter(None, found), "")
    return f" ({name} was {before}, now it is {now})" if name and before != now else ""


def _tensors(model: nn.Module, optimizer: torch.optim.Optimizer, average: RunningAverage) -> dict[str, Tensor]:
    """All that a checkpoint holds, by name."""
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[f"model/{name}"] = parameter.detach()
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}/{name}"] = value
    return tensors | {f"average/{name}": value for name, value in average.mean.items()}


def _places(
    stored: Mapping[str, torch.Size], model: nn.Module, optimizer: torch.optim.Optimizer, average: RunningAverage
) -> dict[str, Tensor]:
    """Where each stored tensor goes on this process: the weights themselves, and room that is made for the rest."""
    parameters = dict(model.named_parameters())
    places = {f"model/{name}": parameter.detach() for name, parameter in parameters.items()}
    for stored_name, shape in stored.items():
        kind, _, name = stored_name.partition("/")
        if kind == "model" or name not in parameters:
            continue
        parameter = parameters[name]
        like_it = shape == parameter.shape
        room = torch.zeros_like(parameter).detach() if like_it else torch.zeros(shape, device=parameter.device)
        if kind == "average":
            average.mean[name] = room
        else:
            optimizer.state[parameter][kind.removeprefix("optimizer.")] = room
        places[stored_name] = room
    return places


def _copy(tensor: Tensor) -> Tensor:
    """A copy on the CPU, spread over the processes as the tensor is."""
    if isinstance(tensor, DTensor):
        local = tensor.to_local().detach().to("cpu", copy=True).contiguous()
        mesh, placements = tensor.device_mesh, tensor.placements
        return DTensor.from_local(local, mesh, placements, run_check=False, shape=tensor.shape, stride=tensor.stride())
    return tensor.detach().to("cpu", copy=True).contiguous()
