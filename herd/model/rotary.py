"""Rotary position embedding, with the frequency scaling of Llama 3.1.

The halves of a head are rotated against each other (dimension r with r + D/2), as Hugging Face stores its weights;
Meta's files rotate neighbours and are permuted on import.  Angles are taken in fp32: at position 131,071 a
half-precision angle would be off by whole turns.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from herd.model.config import ModelConfig, RopeScaling


def scaled_frequency(frequency: float, scaling: RopeScaling) -> float:
    """A frequency (radians a token) scaled as in Llama 3.1: short waves kept, long ones slowed, others blended."""
    wavelength = 2 * math.pi / frequency
    turns = scaling.original_max_positions / wavelength
    kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept = min(max(kept, 0.0), 1.0)
    return (1 - kept) * frequency / scaling.factor + kept * frequency


@lru_cache(maxsize=32)
def _frequencies(head_dim: int, theta: float, scaling: RopeScaling | None, device: torch.device) -> Tensor:
    frequencies = [theta ** (-index / head_dim) for index in range(0, head_dim, 2)]
    if scaling is not None:
        frequencies = [scaled_frequency(frequency, scaling) for frequency in frequencies]
    # The cached tensor must serve training and inference alike, and a dry run on fake tensors must not leave its own.
    with torch.inference_mode(False), _disable_current_modes():
        return torch.tensor(frequencies, dtype=torch.float32, device=device)


def rotary_angles(config: ModelConfig, positions_N: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every token's angles, fp32, each (N, D/2); positions count from the document's start."""
    frequencies_R = _frequencies(config.head_dim, config.rope_theta, config.rope_scaling, positions_N.device)
    angles_NR = positions_N.float()[:, None] * frequencies_R
    return angles_NR.cos(), angles_NR.sin()


def rotate(x_NHD: Tensor, cos_NR: Tensor, sin_NR: Tensor) -> Tensor:
    """Turns every pair (r, r + D/2) of every head by its token's angle; computed in fp32."""
    first_NHR, second_NHR = x_NHD.float().chunk(2, dim=-1)
    cos, sin = cos_NR[:, None, :], sin_NR[:, None, :]
    turned = torch.cat((first_NHR * cos - second_NHR * sin, second_NHR * cos + first_NHR * sin), dim=-1)
    return turned.to(x_NHD.dtype)
