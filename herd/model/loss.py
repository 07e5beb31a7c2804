"""Cross-entropy and log-probabilities over a large vocabulary in bounded memory.

The logits of N tokens over V entries are the largest tensor of training.  Here they exist for one chunk of tokens at a
time: the gradient is taken while the chunk's logits are at hand (cross-entropy) or after making them again
(log-probabilities).  Values and gradients are those of the plain formula, up to the order of summation.

Under autocast all products, those of the gradients too, are made in its type, and sums over chunks stay in fp32.
Targets may lie on the host while the hidden states are on a GPU: which tokens have one is then known without waiting.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from herd.model.transfer import send

IGNORE = -100
_CHUNKS = {"cpu": 512, "cuda": 4096}
"""Tokens whose logits exist at a time.  A GPU reads and writes the head's whole gradient once a chunk."""


def chunk_tokens(hidden_NE: Tensor) -> int:
    """Tokens of a chunk where ``hidden_NE`` is."""
    return _CHUNKS.get(hidden_NE.device.type, 512)


def in_product_type(hidden_ME: Tensor, head_VE: Tensor) -> tuple[Tensor, Tensor]:
    """Both factors in autocast's type where it is on.

    Autocast itself knows neither products that are written into a given tensor nor backward passes, and would convert
    the head once a chunk.
    """
    device = hidden_ME.device.type
    if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return hidden_ME, head_VE
    dtype = torch.get_autocast_dtype(device)
    return hidden_ME.to(dtype), head_VE.to(dtype)


def _chunk_logits(hidden_ME: Tensor, head_VE: Tensor) -> Tensor:
    return (hidden_ME @ head_VE.T).float()


class _SummedCrossEntropy(torch.autograd.Function):
    """Sum of -log p(target); the gradients are made in the forward pass and only scaled in the backward pass."""

    @staticmethod
    def forward(ctx: Any, hidden_ME: Tensor, head_VE: Tensor, targets_M: Tensor, chunk: int) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden_ME.device)
        needs_hidden, needs_head = ctx.needs_input_grad[:2]
        ctx.types = hidden_ME.dtype, head_VE.dtype
        hidden_ME, head_VE = in_product_type(hidden_ME, head_VE)
        grad_hidden = torch.empty_like(hidden_ME) if needs_hidden else None
        grad_head = torch.zeros_like(head_VE, dtype=torch.float32) if needs_head else None
        for start in range(0, len(targets_M), chunk):
            part = slice(start, start + chunk)
            grad_part = None if grad_hidden is None else grad_hidden[part]
            total -= _add_chunk(hidden_ME[part], head_VE, targets_M[part, None], grad_part, grad_head)
        ctx.save_for_backward(grad_hidden, grad_head)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        grad_hidden, grad_head = ctx.saved_tensors
        hidden_type, head_type = ctx.types
        if grad_hidden is not None:
            grad_hidden = grad_hidden.to(hidden_type) * grad.to(hidden_type)
        if grad_head is not None:
            grad_head = (grad_head * grad).to(head_type)
        return grad_hidden, grad_head, None, None


def _add_chunk(
    hidden_ME: Tensor, head_VE: Tensor, targets_M1: Tensor, grad_hidden_ME: Tensor | None, grad_head_VE: Tensor | None
) -> Tensor:
    """Summed log p(target) of one chunk; fills its gradient of the hidden states and adds to that of the head.

    A function of its own, so that a chunk's logits are gone before those of the next are made.
    """
    logits_MV = _chunk_logits(hidden_ME, head_VE)
    below_M1 = logits_MV.gather(1, targets_M1) - logits_MV.amax(1, keepdim=True)
    probs_MV = torch.softmax(logits_MV, dim=-1, out=logits_MV)  # in place: this is the largest tensor there is
    # The most probable token's log p is never far from 0, and from it that of the target is so many logits away.
    total = (below_M1 + probs_MV.amax(1, keepdim=True).log()).sum()
    if grad_hidden_ME is None and grad_head_VE is None:
        return total
    grad_MV = probs_MV  # d(-log p)/d logits = softmax - one at the target
    grad_MV.scatter_add_(1, targets_M1, torch.full_like(targets_M1, -1.0, dtype=torch.float32))
    add_gradients(grad_MV.to(hidden_ME.dtype), hidden_ME, head_VE, grad_hidden_ME, grad_head_VE)
    return total


def add_gradients(
    grad_MV: Tensor, hidden_ME: Tensor, head_VE: Tensor, grad_hidden_ME: Tensor | None, grad_head_VE: Tensor | None
) -> None:
    """What a chunk's gradient of the logits gives to its hidden states and to the head."""
    if grad_hidden_ME is not None:
        torch.mm(grad_MV, head_VE, out=grad_hidden_ME)
    if grad_head_VE is not None:
        _add_product(grad_head_VE, grad_MV, hidden_ME)


def _add_product(total_VE: Tensor, grad_MV: Tensor, hidden_ME: Tensor) -> None:
    if grad_MV.dtype == total_VE.dtype:
        total_VE.addmm_(grad_MV.T, hidden_ME)
    else:
        total_VE += grad_MV.T @ hidden_ME


class _LogProbs(torch.autograd.Function):
    """log p(target) of every token; the backward pass makes each chunk's logits a second time."""

    @staticmethod
    def forward(ctx: Any, hidden_ME: Tensor, head_VE: Tensor, targets_M: Tensor, chunk: int) -> Tensor:
        ctx.types = hidden_ME.dtype, head_VE.dtype
        hidden_ME, head_VE = in_product_type(hidden_ME, head_VE)
        out_M = torch.empty(len(targets_M), dtype=torch.float32, device=hidden_ME.device)
        for start in range(0, len(targets_M), chunk):
            part = slice(start, start + chunk)
            out_M[part] = _target_log_probs(hidden_ME[part], head_VE, targets_M[part, None])
        ctx.save_for_backward(hidden_ME, head_VE, targets_M)
        ctx.chunk = chunk
        return out_M

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_M: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden_ME, head_VE, targets_M = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden_ME)
        grad_head = torch.zeros_like(head_VE, dtype=torch.float32)
        for start in range(0, len(targets_M), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            grad_MV = _logits_gradient(hidden_ME[part], head_VE, targets_M[part, None], grad_M[part, None].float())
            add_gradients(grad_MV, hidden_ME[part], head_VE, grad_hidden[part], grad_head)
            del grad_MV  # before the next chunk's logits are made
        hidden_type, head_type = ctx.types
        return grad_hidden.to(hidden_type), grad_head.to(head_type), None, None


def _target_log_probs(hidden_ME: Tensor, head_VE: Tensor, targets_M1: Tensor) -> Tensor:
    logits_MV = _chunk_logits(hidden_ME, head_VE)
    return torch.log_softmax(logits_MV, dim=-1, out=logits_MV).gather(1, targets_M1).squeeze(1)


def _logits_gradient(hidden_ME: Tensor, head_VE: Tensor, targets_M1: Tensor, grad_M1: Tensor) -> Tensor:
    """Gradient of the logits (M, V) for a gradient of each token's log p(target)."""
    logits_MV = _chunk_logits(hidden_ME, head_VE)
    grad_MV = torch.softmax(logits_MV, dim=-1, out=logits_MV).mul_(-grad_M1)
    grad_MV.scatter_add_(1, targets_M1, grad_M1)
    return grad_MV.to(hidden_ME.dtype)


def with_targets(hidden_NE: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """The tokens that carry a target, and their places (None where all do): the others need no logits at all."""
    wanted_N, device = targets_N != IGNORE, hidden_NE.device
    if bool(wanted_N.all()):
        return hidden_NE, send(targets_N, device), None
    places_M = wanted_N.nonzero().squeeze(1)
    targets_M, places_M = send(targets_N.index_select(0, places_M), device), send(places_M, device)
    return hidden_NE.index_select(0, places_M), targets_M, places_M


def chunked_cross_entropy(
    hidden_NE: Tensor, head_VE: Tensor, targets_N: Tensor, chunk: int | None = None
) -> tuple[Tensor, int]:
    """Summed cross-entropy in nats (fp32 scalar) and the number of targets; ``IGNORE`` (-100) marks tokens without one.

    No target at all gives a zero that still has a gradient graph.  At most ``chunk`` x V logits exist at a time; where
    it is not given, 512 x V on a CPU and 4,096 x V on a GPU.
    """
    hidden_ME, targets_M, _ = with_targets(hidden_NE, targets_N)
    chunk = chunk or chunk_tokens(hidden_ME)
    return _SummedCrossEntropy.apply(hidden_ME, head_VE, targets_M, chunk), len(targets_M)


def token_log_probs(hidden_NE: Tensor, head_VE: Tensor, targets_N: Tensor, chunk: int | None = None) -> Tensor:
    """log p(target) in nats for every token, (N,) in fp32, zero where ``targets_N`` is ``IGNORE``; differentiable."""
    hidden_ME, targets_M, places_M = with_targets(hidden_NE, targets_N)
    log_probs_M = _LogProbs.apply(hidden_ME, head_VE, targets_M, chunk or chunk_tokens(hidden_ME))
    if places_M is None:
        return log_probs_M
    return log_probs_M.new_zeros(len(targets_N)).index_copy(0, places_M, log_probs_M)
