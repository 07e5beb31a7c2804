"""The loop's questions answered for processes on a mesh.

processes = ManyProcesses(Mesh(config, device.type))
model = processes.begin(begin_with(shape, seed=7, length=512), device)
train(schedule, model, source, processes.next_token_loss, out, progress, processes=processes)
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from herd.model.layers import Attend
from herd.model.loss import IGNORE, chunked_cross_entropy
from herd.model.transformer import Transformer
from herd.train.batch import Batch, CrossEntropy, LossParts, next_token_loss
from herd.train.beginning import Beginning
from herd.train.flex import document_attention
from herd.train.parallel.context import ContextAttention, ContextShare
from herd.train.parallel.data import release_weights, shard_weights
from herd.train.parallel.loss import spread_cross_entropy
from herd.train.parallel.mesh import Dimension, Mesh, MeshConfig
from herd.train.parallel.tensor import cut_matrices
from herd.train.processes import OneProcess


class ManyProcesses(OneProcess):
    """This process among those of a mesh; all of them ask the same questions in the same order."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.rank = dist.get_rank()
        self.data_index, self.data_parts = mesh.data_index, mesh.config.dp
        self.cross_entropy: CrossEntropy = spread_cross_entropy if mesh.config.tp > 1 else chunked_cross_entropy
        self.eager_because = _reason_for_eager_layers(mesh.config)
        self._device = torch.device(mesh.devices.device_type)

    def begin(self, beginning: Beginning, device: torch.device) -> nn.Module:
        """A network that was cut before it had values, and of these only what this process keeps."""
        with torch.device("meta"):
            model = self.spread(Transformer(beginning.shape))
        model.to_empty(device=device)
        if isinstance(model, Transformer):
            model.tie()  # emptied one by one, the two are two parameters
        fill_parts(model, beginning)
        return model

    def spread(self, model: nn.Module) -> nn.Module:
        """Cuts the weights of ``model``, which every process holds whole and alike, first over TP, then over DP.

        They may have no values yet.
        """
        self._cut_matrices(model)
        shard_weights(model, self.mesh)
        return model

    def next_token_loss(self, model: Any, batch: Batch) -> LossParts:
        """This process's part of the next-token loss of ``batch``."""
        own, attend = self.share(pad_batch(batch, self.token_multiple))
        return next_token_loss(model, own, self.cross_entropy, attend)

    @property
    def token_multiple(self) -> int:
        """What the tokens of a batch must be a multiple of, so that the ranks of CP and TP can share them."""
        cp, tp = self.mesh.config.cp, self.mesh.config.tp
        return 2 * cp * tp if cp > 1 else tp

    def share(self, batch: Batch) -> tuple[Batch, Attend]:
        """The tokens of ``batch`` that this process trains on, and what they may see."""
        group = self.mesh.group("cp")
        if group is None:
            return batch, document_attention(batch.lengths, batch.tokens_N.device)
        share = ContextShare(len(batch.tokens_N), group, batch.tokens_N.device)
        return share.cut_batch(batch), ContextAttention(batch.lengths, share)

    def _cut_matrices(self, model: nn.Module) -> None:
        tensor = self.mesh.submesh("tp")
        if tensor is not None:
            assert isinstance(model, Transformer), "only the transformer has a plan for tensor parallelism"
            cut_matrices(model, tensor)

    def sum_losses(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over all ranks but those of TP, which have the same tokens."""
        return self._sum(values, ("replica", "shard", "pp", "cp"))

    def sum_counts(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over the ranks of DP: those of one row count the same batch."""
        return self._sum(values, ("replica", "shard"))

    def _sum(self, values: Mapping[str, float], over: Sequence[Dimension]) -> dict[str, float]:
        ranks = self.mesh.submesh(*over)
        if ranks is None or not values:
            return dict(values)
        sums = torch.tensor(list(values.values()), dtype=torch.float64, device=self._device)
        dist.all_reduce(sums, group=ranks.get_group())
        return dict(zip(values, sums.tolist(), strict=True))

    def clip(self, model: nn.Module, limit: float) -> float:
        """The norm is that of all parameters on all ranks: each sums the squares that it holds, and all are summed."""
        squares = torch.zeros((), dtype=torch.float32, device=self._device)
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad = placed_like(parameter, parameter.grad)
                squares += _own_squares(parameter.grad) if self.counts(parameter) else 0.0
        dist.all_reduce(squares)
        norm = squares.sqrt()
        nn.utils.clip_grads_with_norm_(model.parameters(), limit, norm)
        return float(norm)

    def counts(self, parameter: nn.Parameter) -> bool:
        """Whether this process's share of a parameter belongs to the norm of all."""
        return True

    def settle(self, model: nn.Module) -> None:
        """An evaluation leaves the output matrix gathered."""
        release_weights(model)

    @torch.no_grad()
    def each_weight(
        self, model: nn.Module, weights: Mapping[str, Tensor] | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Whole tensors on the CPU of every process, one after another."""
        for name, tensor in (dict(model.named_parameters()) if weights is None else weights).items():
            yield name, whole_tensor(tensor).cpu()


def whole_tensor(tensor: Tensor) -> Tensor:
    """A spread tensor gathered; every process that has a part of it must ask."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


@torch.no_grad()
def fill_parts(model: nn.Module, beginning: Beginning) -> None:
    """Gives every parameter of ``model``, spread or whole, the values that it begins with on this process."""
    for name, parameter in model.named_parameters():
        own: Tensor = parameter
        offset: Sequence[int] = (0,) * parameter.ndim
        if isinstance(parameter, DTensor):
            own = parameter.to_local()
            _, offset = compute_local_shape_and_global_offset(
                parameter.shape, parameter.device_mesh, parameter.placements
            )
        if own.numel():
            beginning.fill(own, name, parameter.shape, offset)


def _reason_for_eager_layers(config: MeshConfig) -> str | None:
    """None where layers may be compiled.

    Torch 2.13 compiles DTensors anew for every number of tokens, and loses gradients between two compiled halves.
    """
    if config.tp > 1:
        return "layers whose matrices are cut over processes cannot be compiled"
    return "compiled layers are not proven in a pipeline" if config.pp > 1 else None


def placed_like(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient laid out as its parameter: without FSDP, that of a norm is a sum over TP still to be taken."""
    if isinstance(parameter, DTensor) and isinstance(gradient, DTensor):
        return gradient.redistribute(placements=parameter.placements)
    return gradient


def _own_squares(gradient: Tensor) -> Tensor:
    """This process's share of a gradient's sum of squares; what several processes hold alike is divided by them."""
    if not isinstance(gradient, DTensor):
        return gradient.float().square().sum()
    alike = [gradient.device_mesh.size(place) for place, kind in enumerate(gradient.placements) if kind.is_replicate()]
    return gradient.to_local().float().square().sum() / math.prod(alike)


def pad_batch(batch: Batch, multiple: int) -> Batch:
    """The batch with a document of tokens without targets at its end, so that its length is a multiple."""
    missing = -len(batch.tokens_N) % multiple
    if not missing:
        return batch
    new = batch.tokens_N.new_zeros
    return Batch(
        torch.cat([batch.tokens_N, new(missing)]),
        torch.cat([batch.positions_N, torch.arange(missing, device=batch.positions_N.device)]),
        torch.cat([batch.targets_N, batch.targets_N.new_full((missing,), IGNORE)]),
        [*batch.lengths, missing],
        batch.extra,
    )
