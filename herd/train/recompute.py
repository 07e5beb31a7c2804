"""Activation recomputation: the backward pass makes again what the forward pass did not keep.

    with RecomputedLayers(model, "selective"):
        train(config, model, source, loss, out, progress)

``full`` keeps the input of every layer and nothing else of it, at the price of a second forward pass.  ``selective``
keeps the outputs of every second matrix (values of q, v, gate and down) and of attention too, and so does about a third
of the products again.  Values and gradients are those of training without it, bit for bit: the same operators run on
the same numbers once more.  ``herd plan`` counts all three.

Compiled code shows no products from inside: of compiled layers ``selective`` keeps attention alone, and on a GPU, where
attention is compiled too, not even that.
"""

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    SelectiveCheckpointContext,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from herd.model.layers import Layer

Recompute = Literal["none", "selective", "full"]

_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
}


class _EverySecondMatrix:
    """What one pass through one layer keeps: attention, and every other product, the first one included."""

    def __init__(self) -> None:
        self._seen: Counter[bool] = Counter()  # products of the forward pass, and of making it again

    def __call__(self, context: SelectiveCheckpointContext, operator: Any, *_: Any, **__: Any) -> CheckpointPolicy:
        if operator in _ATTENTION:
            return CheckpointPolicy.MUST_SAVE
        if operator is torch.ops.aten.mm.default:
            self._seen[context.is_recompute] += 1
            if self._seen[context.is_recompute] % 2:
                return CheckpointPolicy.MUST_SAVE
        return CheckpointPolicy.PREFER_RECOMPUTE


_KEPT: dict[Recompute, dict[str, Any]] = {
    "full": {},
    "selective": {"context_fn": lambda: create_selective_checkpoint_contexts(_EverySecondMatrix())},
}


class RecomputedLayers:
    """Makes the layers of ``model`` recompute inside a ``with`` block; without gradients they run as always."""

    def __init__(self, model: nn.Module, recompute: Recompute) -> None:
        layers = [module for module in model.modules() if isinstance(module, Layer)]
        self._layers = layers if recompute != "none" else []
        self._kept = _KEPT.get(recompute, {})

    def __enter__(self) -> None:
        for layer in self._layers:
            layer.__dict__["forward"] = functools.partial(_forward, layer.forward, self._kept)

    def __exit__(self, *_: object) -> None:
        for layer in self._layers:
            del layer.__dict__["forward"]


def _forward(forward: Callable[..., Tensor], kept: dict[str, Any], *inputs: Any) -> Tensor:
    """A layer's forward pass; no random number is drawn in it, so that no generator's state needs keeping."""
    if not torch.is_grad_enabled():
        return forward(*inputs)
    out: Tensor = checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **kept)
    return out
