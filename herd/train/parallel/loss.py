"""Cross-entropy over a vocabulary whose columns lie on several processes: what ``herd.model.loss`` does on one.

Each process makes the logits of its own columns, one chunk of tokens at a time; the processes exchange three numbers a
token (maximum, sum of exponentials, the target's logit), never logits.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor, Partial

from herd.model.loss import add_gradients, chunk_tokens, in_product_type, with_targets


class _SummedCrossEntropy(torch.autograd.Function):
    """Sum of -log p(target), alike on all processes; the gradients are made in the forward pass.

    That of the hidden states is this process's share: the sum over the processes is the whole.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_ME: Tensor, head_WE: Tensor, targets_M: Tensor, group: dist.ProcessGroup, chunk: int
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden_ME.device)
        ctx.types = hidden_ME.dtype, head_WE.dtype
        hidden_ME, head_WE = in_product_type(hidden_ME, head_WE)
        columns_M = targets_M - dist.get_rank(group) * len(head_WE)
        grad_hidden, grad_head = torch.empty_like(hidden_ME), torch.zeros_like(head_WE, dtype=torch.float32)
        for start in range(0, len(targets_M), chunk):
            part = slice(start, start + chunk)
            log_prob, grad_MW = _chunk(hidden_ME[part], head_WE, columns_M[part, None], group)
            total -= log_prob
            add_gradients(grad_MW, hidden_ME[part], head_WE, grad_hidden[part], grad_head)
            del grad_MW  # before the next chunk's logits are made
        ctx.save_for_backward(grad_hidden, grad_head)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        grad_hidden, grad_head = ctx.saved_tensors
        hidden_type, head_type = ctx.types
        grad_hidden = grad_hidden.to(hidden_type) * grad.to(hidden_type)
        return grad_hidden, (grad_head * grad).to(head_type), None, None, None


def _chunk(hidden_ME: Tensor, head_WE: Tensor, columns_M1: Tensor, group: dist.ProcessGroup) -> tuple[Tensor, Tensor]:
    """Summed log p(target) of a chunk, alike on all processes, and the gradient of this process's logits (M, W).

    ``columns_M1`` are the targets counted from this process's first column; most lie outside of it.
    """
    logits_MW = (hidden_ME @ head_WE.T).float()
    own_M1 = (columns_M1 >= 0) & (columns_M1 < len(head_WE))
    columns_M1 = columns_M1.clamp(0, len(head_WE) - 1)
    largest_M1 = logits_MW.amax(1, keepdim=True)
    dist.all_reduce(largest_M1, dist.ReduceOp.MAX, group)
    logits_MW -= largest_M1
    targets_M1 = logits_MW.gather(1, columns_M1) * own_M1
    exponentials_MW = logits_MW.exp_()
    sums_M2 = torch.cat([exponentials_MW.sum(1, keepdim=True), targets_M1], dim=1)
    dist.all_reduce(sums_M2, dist.ReduceOp.SUM, group)
    whole_M1, targets_M1 = sums_M2.split(1, dim=1)
    grad_MW = exponentials_MW.div_(whole_M1)  # d(-log p)/d logits = softmax - one at the target
    grad_MW.scatter_add_(1, columns_M1, -own_M1.float())
    return (targets_M1 - whole_M1.log()).sum(), grad_MW.to(hidden_ME.dtype)


def spread_cross_entropy(hidden_NE: Tensor, head_VE: Tensor, targets_N: Tensor) -> tuple[Tensor, int]:
    """``herd.model.loss.chunked_cross_entropy`` where the rows of ``head_VE`` are a ``DTensor`` over processes.

    ``hidden_NE`` is a ``DTensor`` that every process holds whole.  The logits of one chunk of tokens exist at a time,
    over this process's part of the vocabulary.
    """
    hidden_ME, targets_M, _ = with_targets(_with_own_gradient(hidden_NE), targets_N)
    return _summed(hidden_ME, head_VE, targets_M), len(targets_M)


def spread_cross_entropy_of_all(hidden_NE: Tensor, head_VE: Tensor, targets_N: Tensor) -> tuple[Tensor, int]:
    """The same where every token has a target: no value is looked at, so tensors without values will do."""
    return _summed(_with_own_gradient(hidden_NE), head_VE, targets_N), len(targets_N)


def _with_own_gradient(hidden_NE: Tensor) -> Tensor:
    assert isinstance(hidden_NE, DTensor)
    return hidden_NE.to_local(grad_placements=[Partial()])


def _summed(hidden_ME: Tensor, head_VE: Tensor, targets_M: Tensor) -> Tensor:
    assert isinstance(head_VE, DTensor)
    group = head_VE.device_mesh.get_group()
    total: Tensor = _SummedCrossEntropy.apply(hidden_ME, head_VE.to_local(), targets_M, group, chunk_tokens(hidden_ME))
    return total
