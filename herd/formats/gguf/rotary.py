"""The scaling of the rotary frequencies as GGUF stores it.

The stretched frequencies of Llama 3.1 are not described by numbers in the metadata but by a tensor of divisors, one for
every pair of rows; the four numbers behind it are found again by trying.  The order of the rows, which GGUF's llama
architecture shares with Meta's files, is in ``herd.formats.rotary_order``.
"""

import numpy as np
import torch
from torch import Tensor

from herd.foundation.errors import HerdError
from herd.model.config import ModelConfig, RopeScaling
from herd.model.rotary import scaled_frequency

_TOLERANCE = 1e-5


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
