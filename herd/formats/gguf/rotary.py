"""Rotary embedding as GGUF stores it: the order of the rows, and the scaling of the frequencies as a tensor.

Hugging Face turns row r of a head against row r + D/2, GGUF's llama architecture (like Meta's files) each row against
its neighbour.  The stretched frequencies of Llama 3.1 are not described by numbers in the metadata but by a tensor of
divisors, one for every pair of rows; the four numbers behind it are found again by trying.
"""

import numpy as np
import torch
from torch import Tensor

from herd.foundation.errors import HerdError
from herd.model.config import ModelConfig, RopeScaling
from herd.model.rotary import scaled_frequency

_TOLERANCE = 1e-5


def rotated_heads(name: str, config: ModelConfig) -> int | None:
    """How many heads the rows of the matrix ``name`` (Hugging Face's) belong to; None where none are rotated."""
    if name.endswith("self_attn.q_proj.weight"):
        return config.heads
    return config.kv_heads if name.endswith("self_attn.k_proj.weight") else None


def to_neighbours(weight: Tensor, heads: int) -> Tensor:
    """Rows of a query or key matrix (heads * D, E) from halves to neighbouring pairs."""
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def to_halves(weight: Tensor, heads: int) -> Tensor:
    """Inverse of ``to_neighbours``."""
    return weight.view(heads, -1, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def rope_factors(head_dim: int, theta: float, scaling: RopeScaling) -> Tensor:
    """By how much every frequency is divided, float32 (D/2,)."""
    plain = [theta ** (-index / head_dim) for index in range(0, head_dim, 2)]
    return torch.tensor([frequency / scaled_frequency(frequency, scaling) for frequency in plain])


def find_scaling(place: str, factors: Tensor, config: ModelConfig, noted: RopeScaling | None) -> RopeScaling | None:
    """The scaling behind a tensor of divisors: the one that the file notes, that of the published models, or none.

    ``place`` names file and tensor for the ``HerdError`` where neither gives these divisors.
    """
    if factors.shape != (config.head_dim // 2,):
        raise HerdError(f"{place} has shape {tuple(factors.shape)}, {config.head_dim // 2} divisors are needed")
    if noted is None and bool((factors == 1).all()):
        return None
    largest = float(factors.max())
    published = RopeScaling(factor=largest) if 1 <= largest < np.inf else None
    for scaling in (noted, published):
        if scaling is not None:
            ours = rope_factors(config.head_dim, config.rope_theta, scaling)
            if torch.allclose(ours, factors.float(), rtol=_TOLERANCE, atol=0):
                return scaling
    raise HerdError(f"{place} holds a scaling of the rotary frequencies that is not Llama 3.1's")
