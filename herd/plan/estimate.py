"""The cost of a training run, of generation and of a whole recipe.

``training(shape, tokens, length, rows, rate)`` is exact in FLOPs (``ModelConfig.flops_per_token``), and an estimate
in seconds and bytes; the constants say where they were measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from herd.model.config import ModelConfig

# Share of the machine's matrix-product peak that a compiled training step reaches on two cores, by parameters.
# Small models lose to the cost of each operator, not to arithmetic.
_EFFICIENCY = ((5e5, 0.22), (1.3e6, 0.34), (3e6, 0.45), (5.8e6, 0.52), (15.7e6, 0.62), (54.7e6, 0.70))
_BYTES_PER_PARAMETER = 16  # fp32 weight, gradient and AdamW's two moments
_ACTIVATIONS_PER_TOKEN_AND_LAYER = 34  # in units of dim, fp32 training without recomputation
_RUNTIME_BYTES = 450e6  # interpreter, PyTorch and its thread pools


@dataclass(frozen=True)
class Estimate:
    """Planned cost of one stage: FLOPs of its networks, wall seconds, peak bytes."""

    flops: float = 0.0
    seconds: float = 0.0
    memory_bytes: float = 0.0


def efficiency(params: float) -> float:
    """Share of the matrix-product peak that training reaches at ``params`` parameters, by log interpolation."""
    sizes, shares = zip(*_EFFICIENCY, strict=True)
    return float(np.interp(np.log(params), np.log(sizes), shares))


def training(shape: ModelConfig, tokens: int, length: int, batch_tokens: int, peak: float) -> Estimate:
    """A run of ``tokens`` tokens in documents of ``length``; ``peak`` is the machine's FLOP/s in matrix products."""
    flops = shape.flops_per_token(length) * tokens
    activations = 4 * batch_tokens * (shape.layers * shape.dim * _ACTIVATIONS_PER_TOKEN_AND_LAYER + shape.vocab_size)
    memory = _RUNTIME_BYTES + _BYTES_PER_PARAMETER * shape.parameters + activations
    return Estimate(flops, flops / (peak * efficiency(shape.parameters)), memory)


def generation(shape: ModelConfig, written: int, read: int, tokens_per_second: float) -> Estimate:
    """Decoding ``written`` tokens in all behind ``read`` ones: a third of training's FLOPs each, attention left out.

    The time is that of decoding, at a rate bound by operators and not by FLOPs.
    """
    flops = shape.forward_flops(written + read, 0)
    return Estimate(flops, written / tokens_per_second, _RUNTIME_BYTES + 4 * shape.parameters)


def total(estimates: Sequence[Estimate]) -> Estimate:
    """Stages run one after another: FLOPs and seconds add up, memory is that of the largest."""
    return Estimate(
        sum(one.flops for one in estimates),
        sum(one.seconds for one in estimates),
        max((one.memory_bytes for one in estimates), default=0.0),
    )
