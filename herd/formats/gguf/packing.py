"""Small moves of bits that several block types share."""

import torch
from torch import Tensor


def bytes_of(scales: Tensor) -> Tensor:
    """Scales (…, n) as half-precision numbers, two bytes each."""
    return scales.to(torch.float16).view(torch.uint8)


def halves_of(data: Tensor) -> Tensor:
    """Half-precision numbers of bytes (…, 2 n), in float32."""
    return data.contiguous().view(torch.float16).float()


def pack_nibbles(q: Tensor) -> Tensor:
    """Values below 16, (…, 2 n): the first half becomes the low four bits of n bytes, the second the high ones."""
    low, high = q.chunk(2, -1)
    return low | high << 4


def unpack_nibbles(data: Tensor) -> Tensor:
    """Inverse of ``pack_nibbles``."""
    return torch.cat((data & 15, data >> 4), -1)


def unpack_bits(data: Tensor) -> Tensor:
    """The bits of bytes (…, n), lowest first, as (…, 8 n) zeros and ones."""
    return (data[..., None] >> torch.arange(8, dtype=torch.uint8) & 1).flatten(-2)
