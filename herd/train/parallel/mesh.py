"""The mesh of a run's processes, and everything about it that is refused before a tensor or a group is made.

    config = MeshConfig(tp=2, dp=2)
    check_mesh(config, ranks=4, model=shape, sequence_length=512, batch=ramp)
    mesh = Mesh(config, "cuda")             # after torch.distributed.init_process_group
    mesh.index("tp"), mesh.group("tp"), mesh.submesh("shard", "cp")

Ranks are numbered in the paper's order [TP, CP, PP, DP] (section 3.3.2): neighbours share a tensor-parallel group,
which talks most, and data-parallel partners are furthest apart, which can wait longest.
"""

import math
from typing import Literal

import torch.distributed as dist
from pydantic import Field
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.model.config import ModelConfig
from herd.train.parallel.order import Interleaving, split_layers
from herd.train.schedule import BatchRamp

Dimension = Literal["replica", "shard", "pp", "cp", "tp"]
_OUTERMOST_FIRST: tuple[Dimension, ...] = ("replica", "shard", "pp", "cp", "tp")

Kind = Literal["tp", "cp", "pp", "fsdp", "hybrid", "replicate"]

PROVEN: frozenset[frozenset[Kind]] = frozenset(
    frozenset(kinds)
    for kinds in (
        (),
        ("fsdp",),
        ("hybrid",),
        ("replicate",),
        ("tp",),
        ("tp", "fsdp"),
        ("tp", "replicate"),
        ("tp", "hybrid"),
        ("cp",),
        ("cp", "fsdp"),
        ("cp", "hybrid"),
        ("cp", "replicate"),
        ("tp", "cp"),
        ("pp",),
        ("pp", "fsdp"),
        ("pp", "replicate"),
        ("pp", "hybrid"),
        ("pp", "cp"),
        ("pp", "tp"),
        ("tp", "cp", "fsdp"),
        ("tp", "pp", "fsdp"),
        ("cp", "pp", "fsdp"),
        ("tp", "cp", "replicate"),
        ("tp", "pp", "replicate"),
        ("cp", "pp", "replicate"),
        ("tp", "pp", "hybrid"),
        ("cp", "pp", "hybrid"),
        ("tp", "cp", "pp"),
        ("tp", "cp", "pp", "fsdp"),
    )
)
"""The combinations of kinds that ``tests/train/parallel`` holds against a single process; all others are refused."""


class MeshConfig(Config):
    """The degrees of parallelism, and how the ranks of data parallelism keep the weights.

    ``replicas`` copies of the weights are kept, each sharded over ``dp / replicas`` ranks: 1 is FSDP, ``dp`` plain
    replication, anything between hybrid sharding.
    """

    tp: int = Field(default=1, gt=0, description="ranks that share every matrix")
    cp: int = Field(default=1, gt=0, description="ranks that share every sequence")
    pp: int = Field(default=1, gt=0, description="ranks that share the layers")
    dp: int = Field(default=1, gt=0, description="ranks that share the rows of a step")
    replicas: int = Field(default=1, gt=0, description="copies of the weights among the ranks of dp")
    reshard: bool = Field(default=True, description="free gathered weights between forward and backward pass")
    stages: int = Field(default=1, gt=0, description="runs of layers that each rank of pp holds; several interleave")
    together: int | None = Field(
        default=None, gt=0, description="micro-batches that go through a stage one after another; as many as pp if open"
    )

    @property
    def ranks(self) -> int:
        """Processes in all."""
        return self.tp * self.cp * self.pp * self.dp

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of parallelism in use."""
        used: set[Kind] = {name for name in ("tp", "cp", "pp") if getattr(self, name) > 1}
        if self.dp > 1:
            used.add("fsdp" if self.replicas == 1 else "replicate" if self.replicas == self.dp else "hybrid")
        return frozenset(used)

    @property
    def interleaving(self) -> Interleaving:
        """How the ranks of PP work together; ``HerdError`` where they cannot."""
        return Interleaving(self.pp, self.stages, self.together or self.pp)

    def degree(self, dimension: Dimension) -> int:
        """Ranks along one dimension of the mesh."""
        degrees = {"replica": self.replicas, "shard": self.dp // self.replicas}
        return degrees[dimension] if dimension in degrees else int(getattr(self, dimension))

    def describe(self) -> str:
        """The degrees in a few words."""
        return f"tp {self.tp} x cp {self.cp} x pp {self.pp} x dp {self.dp}"


def check_mesh(config: MeshConfig, ranks: int, model: ModelConfig, sequence_length: int, batch: BatchRamp) -> None:
    """Raises ``HerdError`` where ``ranks`` processes cannot train ``model`` so, or where that is not proven."""
    if config.ranks != ranks:
        raise HerdError(f"mesh: {config.describe()} are {config.ranks} ranks, but {ranks} processes were started")
    if config.dp % config.replicas:
        raise HerdError(f"mesh: dp {config.dp} is not divisible by replicas {config.replicas}")
    _check_model(config, model)
    _check_sequence(config, sequence_length)
    for change in batch.ramp:
        if change.rows % config.dp:
            raise HerdError(
                f"mesh: the batch of {change.rows} rows from step {change.step} on is not divisible by dp {config.dp}"
            )
    if config.kinds not in PROVEN:
        raise HerdError(
            f"mesh: {' with '.join(sorted(config.kinds))} is not among the combinations that are proven "
            f"(docs/parallel.md): {list_proven()}"
        )


def _check_model(config: MeshConfig, model: ModelConfig) -> None:
    divided = {
        "heads": model.heads,
        "key-value heads": model.kv_heads,
        "feed-forward columns": model.ffn_dim,
        "vocabulary entries": model.vocab_size,
    }
    for name, count in divided.items():
        if count % config.tp:
            raise HerdError(f"mesh: the model's {count} {name} are not divisible by tp {config.tp}")
    if config.pp == 1 and config.stages > 1:
        raise HerdError(f"mesh: {config.stages} stages a rank need more than one rank of pp")
    split_layers(model.layers, config.interleaving.stages)


def _check_sequence(config: MeshConfig, length: int) -> None:
    if config.cp > 1 and length % (2 * config.cp):
        raise HerdError(f"mesh: the sequence of {length} tokens is not divisible by 2 x cp = {2 * config.cp} chunks")
    if length // config.cp % config.tp:
        share = "" if config.cp == 1 else f", cut to {length // config.cp} by cp {config.cp},"
        raise HerdError(
            f"mesh: the sequence of {length} tokens{share} is not divisible by tp {config.tp} (sequence parallel)"
        )


def list_proven() -> str:
    """The proven combinations, small ones first."""
    names = [" + ".join(sorted(kinds)) for kinds in PROVEN if kinds]
    return ", ".join(sorted(names, key=lambda name: (name.count("+"), name))) or "none"


class Mesh:
    """This process's place among the others; every process of the run makes it, at the same time.

    Dimensions of one rank are left out of the mesh, since groups of one talk to nobody but cost a set-up each.
    """

    def __init__(self, config: MeshConfig, device_type: str) -> None:
        assert dist.get_world_size() == config.ranks, "check_mesh comes first"
        self.config = config
        self.names = [name for name in _OUTERMOST_FIRST if self._is_kept(name)] or ["shard"]
        self.devices: DeviceMesh = init_device_mesh(
            device_type, tuple(config.degree(name) for name in self.names), mesh_dim_names=tuple(self.names)
        )
        self.joined: dict[tuple[str, ...], DeviceMesh] = {}

    def _is_kept(self, name: Dimension) -> bool:
        copies_of_whole_weights = name == "shard" and self.config.replicas > 1 and self.config.cp == 1
        return self.config.degree(name) > 1 or copies_of_whole_weights

    def index(self, name: Dimension) -> int:
        """This process's number along a dimension."""
        return self.devices.get_local_rank(name) if name in self.names else 0

    def group(self, name: Dimension) -> dist.ProcessGroup | None:
        """The processes that differ from this one along one dimension; None where it is alone there."""
        return self.devices.get_group(name) if name in self.names else None

    def submesh(self, *names: Dimension) -> DeviceMesh | None:
        """The mesh of the processes that differ from this one along ``names``, as one dimension; None where alone."""
        kept = tuple(name for name in _OUTERMOST_FIRST if name in names and name in self.names)
        if not kept or math.prod(self.config.degree(name) for name in kept) == 1:
            return None
        if len(kept) == 1:
            return self.devices[kept[0]]
        if kept not in self.joined:
            self.joined[kept] = self.devices[kept]._flatten("_".join(kept))
        return self.joined[kept]

    @property
    def data_index(self) -> int:
        """Which of the ``dp`` parts of a step's rows this process trains on."""
        return self.index("replica") * self.config.degree("shard") + self.index("shard")
