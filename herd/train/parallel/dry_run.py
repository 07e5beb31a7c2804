"""One process's view of a run on any number of accelerators, on a machine that has none.

    mesh = MeshConfig(tp=8, pp=16, dp=128, stages=8, reshard=False)
    view = dry_run(PRESETS["llama-3.1-405b"], mesh, rank=37, rows=16, length=8192)

The process takes its place among processes that do not exist: its weights have shapes but no values, its collectives
return at once.  What it makes, cuts, computes, sends and receives is what the real run does, since it is the same code;
``dry_run`` only writes it down.  ``bench/dry_run.py`` prints it.
"""

import math
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.pipelining.schedules import InferenceMode, _PipelineScheduleRuntime
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import _clear_sharding_prop_cache
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from herd.model.attention import document_positions
from herd.model.config import ModelConfig
from herd.model.transformer import Transformer
from herd.train.batch import Batch
from herd.train.parallel.loss import spread_cross_entropy_of_all
from herd.train.parallel.mesh import Dimension, Mesh, MeshConfig
from herd.train.parallel.pipeline import processes_of

_KINDS = {
    "_allgather_base_": "all-gather",
    "all_gather_into_tensor": "all-gather",
    "_reduce_scatter_base_": "reduce-scatter",
    "reduce_scatter_tensor": "reduce-scatter",
    "allreduce_": "all-reduce",
    "all_reduce": "all-reduce",
    "send": "send",
    "recv_": "receive",
}


@dataclass(frozen=True)
class Shard:
    """One parameter: its whole shape, and the shape of this process's part."""

    name: str
    whole: tuple[int, ...]
    own: tuple[int, ...]


@dataclass
class View:
    """What one process holds and what it exchanges in the forward and backward passes of one step.

    ``collectives`` counts by (kind, ranks over which); ``moved`` has the bytes of the larger side of each.
    """

    place: dict[str, int]
    shards: list[Shard]
    collectives: Counter[tuple[str, str]] = field(default_factory=Counter)
    moved: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def parameters(self) -> int:
        """Parameters that this process keeps."""
        return sum(math.prod(shard.own) for shard in self.shards)


def dry_run(model: ModelConfig, config: MeshConfig, rank: int, rows: int, length: int) -> View:
    """The view of ``rank`` over one step of ``rows`` micro-batches of one row of ``length`` tokens each.

    No process group may exist yet.  The combination need not be a proven one; that the shapes fit shows only that.
    """
    with place_among(config.ranks, rank):
        return _view(model, Mesh(config, "cpu"), rows, length)


@contextmanager
def place_among(ranks: int, rank: int) -> Iterator[None]:
    """A place among ``ranks`` processes that do not exist; none may be held yet, and nothing of it is left behind."""
    hook = sys.excepthook  # PyTorch's own puts the rank before every later word on an uncaught error
    dist.init_process_group("fake", rank=rank, world_size=ranks, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()
        sys.excepthook = hook
        _clear_sharding_prop_cache()  # DTensor remembers meshes by their shapes, with the names of groups now gone


def _view(model: ModelConfig, mesh: Mesh, rows: int, length: int) -> View:
    processes = processes_of(mesh)
    with torch.device("meta"):
        part: Any = processes.spread(Transformer(model))
    places: tuple[Dimension, ...] = ("tp", "cp", "pp", "shard", "replica")
    view = View(
        {name: mesh.index(name) for name in places},
        [_shard(name, parameter) for name, parameter in part.named_parameters()],
    )
    processes.cross_entropy = spread_cross_entropy_of_all if mesh.config.tp > 1 else _plain_cross_entropy
    with FakeTensorMode(allow_non_fake_inputs=True), NoQuestions():
        part.to_empty(device="cpu")
        tokens_N = torch.zeros(length, dtype=torch.long)
        # Documents as long as a chunk of CP: the mask of one that goes on in the next chunk needs values.
        chunks = 2 * mesh.config.cp
        lengths = [length // chunks] * chunks
        batch = Batch(tokens_N, document_positions(lengths), tokens_N, lengths)
        with _Counting(mesh, view):
            for _ in processes.passes(lambda given: processes.next_token_loss(part, given), [batch] * rows):
                pass
    return view


def _plain_cross_entropy(hidden_NE: Tensor, head_VE: Tensor, targets_N: Tensor) -> tuple[Tensor, int]:
    """Stands for the chunked one, which looks at targets; where the vocabulary is whole neither exchanges anything."""
    return F.cross_entropy(F.linear(hidden_NE, head_VE), targets_N, reduction="sum"), len(targets_N)


def _shard(name: str, parameter: Tensor) -> Shard:
    own = parameter.to_local() if isinstance(parameter, DTensor) else parameter
    return Shard(name, tuple(parameter.shape), tuple(own.shape))


class NoQuestions:
    """Lets a pipeline take the shapes that it was told: its ranks would ask each other, and nobody answers here."""

    def __enter__(self) -> None:
        self._asking = _PipelineScheduleRuntime._warmup_p2p
        _PipelineScheduleRuntime._warmup_p2p = _take_as_told  # type: ignore[method-assign, assignment]

    def __exit__(self, *_: object) -> None:
        _PipelineScheduleRuntime._warmup_p2p = self._asking  # type: ignore[method-assign]


def _take_as_told(schedule: Any, stages: list[Any], *_: object) -> None:
    for stage in stages:
        stage._inference_mode = InferenceMode.STATIC


class _Counting(TorchDispatchMode):
    """Writes every collective into a view; the names of groups are those of the mesh."""

    def __init__(self, mesh: Mesh, view: View) -> None:
        super().__init__()
        self._view, self._labels = view, _labels(mesh)

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        result = operator(*args, **given)
        space, _, name = operator._schema.name.partition("::")
        if space in ("c10d", "_c10d_functional") and name in _KINDS:
            key = (_KINDS[name], self._over(args))
            sizes = [leaf.nbytes for leaf in tree_leaves((args, given, result)) if isinstance(leaf, Tensor)]
            self._view.collectives[key] += 1
            self._view.moved[key] += max(sizes)
        return result

    def _over(self, args: Any) -> str:
        for leaf in tree_leaves(args):
            name = dist.ProcessGroup.unbox(leaf).group_name if isinstance(leaf, torch.ScriptObject) else leaf
            if isinstance(name, str) and name in self._labels:
                return self._labels[name]
        return "others"


def _labels(mesh: Mesh) -> dict[str, str]:
    """Group names to the dimensions of the mesh that they run over."""
    labels: dict[str, str] = {}
    for name in mesh.names:
        group = mesh.group(name)
        assert group is not None
        labels[group.group_name] = f"{name} ({group.size()})"
    for names, joined in mesh.joined.items():
        labels[joined.get_group().group_name] = f"{' x '.join(names)} ({joined.size()})"
    return labels
