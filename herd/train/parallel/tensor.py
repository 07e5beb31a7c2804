"""Tensor parallel training with sequence parallel: every matrix is cut over the ranks of TP (paper, section 3.3.2).

Between the layers each rank holds its part of the tokens.  A norm's output is gathered once for the three matrices that
read it; what attention and feed-forward write is summed and cut over the tokens again in one step.  Heads are whole, so
attention itself needs no exchange.  The output matrix is cut over the vocabulary, its loss is ``loss``'s.
"""

from functools import partial
from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)

from herd.model.layers import Layer
from herd.model.transformer import Transformer

_TOKENS = (Shard(0),)
_WHOLE = (Replicate(),)


class _GatheringNorm(ParallelStyle):
    """A norm of this rank's tokens whose output is gathered and stays a ``DTensor``.

    As a ``DTensor``, the gradients of all its readers are added up before they are summed over the ranks, once.
    """

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        return distribute_module(module, device_mesh, None, _own_tokens, _gather)  # type: ignore[arg-type]


def _own_tokens(module: nn.Module, inputs: tuple[Any, ...], mesh: DeviceMesh) -> DTensor:
    return DTensor.from_local(inputs[0], mesh, _TOKENS, run_check=False)


def _gather(module: nn.Module, output: DTensor, mesh: DeviceMesh) -> DTensor:
    return output.redistribute(placements=_WHOLE)


def cut_matrices(model: Transformer, mesh: DeviceMesh) -> None:
    """Cuts the weights of ``model`` over the one dimension of ``mesh`` and prepares its modules.

    Afterwards the model takes all tokens on every rank and returns all hidden states as a ``DTensor``; the number of
    tokens must be a multiple of the ranks.  Every process must hold the same whole weights beforehand.
    """
    write_tokens = partial(RowwiseParallel, output_layouts=Shard(0))
    inside = {
        "attention_norm": _GatheringNorm(),
        **{f"attention.{name}": ColwiseParallel() for name in ("q", "k", "v")},
        "attention.out": write_tokens(),
        "ffn_norm": _GatheringNorm(),
        "ffn.gate": ColwiseParallel(),
        "ffn.up": ColwiseParallel(),
        "ffn.down": write_tokens(),
    }
    for layer in model.modules():
        if isinstance(layer, Layer):
            parallelize_module(layer, mesh, inside, src_data_rank=None)
    outside: dict[str, ParallelStyle] = {
        "embedding": write_tokens(input_layouts=Replicate()),
        "norm": _GatheringNorm(),
        "head": ColwiseParallel(),
    }
    parallelize_module(model, mesh, outside, src_data_rank=None)
    model.tie()  # each was cut on its own, and both by the vocabulary
