"""Peak memory of one process's training step, counted by PyTorch's own tracker on a machine that has none of them.

    count_memory(PRESETS["llama-3.1-8b"], MeshConfig(tp=2, dp=4), Step(rows=1, length=8192, micro_batches=2))

As in ``dry_run`` the process takes its place among processes that do not exist, with weights that have shapes and no
values; the steps are those of the one loop.  The tracker sees every storage that an operator makes, and when it goes.
It is what the predictions of ``herd plan`` are held against.
"""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.distributed.tensor import DTensor

from herd.model.attention import document_positions
from herd.model.config import ModelConfig
from herd.model.transformer import Transformer
from herd.train.batch import Batch
from herd.train.loop import TrainConfig, TrainRun
from herd.train.parallel.dry_run import NoQuestions, place_among
from herd.train.parallel.mesh import Mesh, MeshConfig
from herd.train.parallel.pipeline import processes_of
from herd.train.precision import Precision
from herd.train.processes import OneProcess
from herd.train.recompute import Recompute, RecomputedLayers

_ONE = {torch.bool: True, torch.long: 1}


@dataclass(frozen=True)
class Step:
    """What a process goes through in one optimiser step: ``micro_batches`` of ``rows`` rows of ``length`` tokens."""

    rows: int
    length: int
    micro_batches: int = 1
    recompute: Recompute = "none"
    precision: Precision = "fp32"


def count_memory(model: ModelConfig, config: MeshConfig, step: Step, rank: int = 0) -> int:
    """Most bytes that ``rank`` holds at once in a step with eager layers, as the tracker counts them on a CPU.

    No process group may exist yet.  The combination need not be a proven one.
    """
    with ExitStack() as stack:
        processes = OneProcess()
        if config.ranks > 1:
            stack.enter_context(place_among(config.ranks, rank))
            processes = processes_of(Mesh(config, "cpu"))
            processes.sum_losses({"": 0.0})  # groups over several dimensions are made while tensors have values
            processes.sum_counts({"": 0.0})
        with torch.device("meta"):
            part: Any = processes.spread(Transformer(model))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(NoQuestions())
        out = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        part.to_empty(device="cpu")
        if isinstance(part, Transformer):
            part.tie()
        return _peak(_run(part, processes, _batches(step, config.cp), step.precision, out), step.recompute)


def _run(part: Any, processes: OneProcess, batches: list[Batch], precision: Precision, out: Path) -> TrainRun:
    training = TrainConfig(steps=2, compile="off", precision=precision, tensorboard=False)
    return TrainRun(training, part, _Batches(batches), processes.next_token_loss, out, processes)


def _batches(step: Step, cp: int) -> list[Batch]:
    """Documents as long as a row, under CP a part of a chunk: one that goes on in the next chunk has a mask, of values.

    All tokens are targets.
    """
    chunks = 2 * cp if cp > 1 else 1
    lengths = [step.length // chunks] * chunks * step.rows

    def tokens() -> Tensor:
        return torch.zeros(sum(lengths), dtype=torch.long)

    return [Batch(tokens(), document_positions(lengths), tokens(), lengths) for _ in range(step.micro_batches)]


class _Batches:
    """Two micro-batches in the first step, all in the second."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = list(batches)

    def batches(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""
        return self._batches[: None if step else 2]


def _peak(run: TrainRun, recompute: Recompute) -> int:
    """Of the second step, since the optimiser has no moments in the first.

    And since ``DTensor`` asks in the first for the whole shape of each operator's result, by fake tensors of its own:
    the tracker takes them for real where all are fake.
    """
    tracker = _Tracker()
    tracker.track_external(run.model, run.optimizer)
    with RecomputedLayers(run.model, recompute):
        for number in range(2):
            with tracker:  # the peak is counted from each entry on
                run.take_step(number)
    assert run.log is not None
    run.log.close()
    return int(tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"])


class _Tracker(MemTracker):
    """Counts storages, not modules: those statistics know no module that is called again before its backward pass.

    Asked for a value, a tensor without any says one: every token has a target, and every norm is finite.
    """

    def _pre_fw_hook(self, *_: object) -> None: ...

    def _post_fw_hook(self, *_: object) -> None: ...

    def _pre_bw_hook(self, *_: object) -> None: ...

    def _post_bw_hook(self, *_: object) -> None: ...

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operator is torch.ops.aten._local_scalar_dense.default and DTensor not in types:
            return _ONE.get(args[0].dtype, 1.0)
        return super().__torch_dispatch__(operator, types, args, kwargs)
