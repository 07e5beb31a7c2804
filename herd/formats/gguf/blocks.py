"""Values to GGUF's blocks and back.

    data_B = encode(matrix, Q4_K)                    # uint8, Q4_K.size(matrix.shape) of them
    values_N = decode(data_B, Q4_K)                  # float32, flat

Both go through the tensor in short stretches, so that what they need besides their result stays in the processor's
cache.  Q8_0 and Q4_0 give the bytes of ggml's reference quantisers; ``k_blocks`` searches its scales its own way; Q4_1,
Q5_0 and Q5_1, which other tools write, are only read.  Arithmetic is in float32 throughout.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from herd.formats.gguf.block_types import BF16, F16, F32, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, BlockType
from herd.formats.gguf.k_blocks import pack_q4_k, pack_q5_k, pack_q6_k, unpack_q4_k, unpack_q5_k, unpack_q6_k
from herd.formats.gguf.packing import bytes_of, halves_of, pack_nibbles, unpack_bits, unpack_nibbles

_STRETCH = 1 << 17
"""Values that are packed or unpacked at once."""

PLAIN = {F32: torch.float32, F16: torch.float16, BF16: torch.bfloat16}
"""The types that are a torch type as it stands."""


def encode(values: Tensor, kind: BlockType) -> Tensor:
    """The bytes of ``values``, flat; finite values whose rows are whole blocks are the caller's care."""
    if kind in PLAIN:
        return values.to(PLAIN[kind]).contiguous().view(-1).view(torch.uint8)
    blocks = values.contiguous().view(-1, kind.values)
    out = torch.empty(blocks.shape[0], kind.bytes, dtype=torch.uint8)
    step = _STRETCH // kind.values
    for start in range(0, blocks.shape[0], step):
        out[start : start + step] = _PACK[kind](blocks[start : start + step].float())
    return out.view(-1)


def decode(data_B: Tensor, kind: BlockType, dtype: torch.dtype = torch.float32) -> Tensor:
    """The values behind flat bytes: a view in their own type for the plain ones, a fresh ``dtype`` for the others."""
    if kind in PLAIN:
        return data_B.view(PLAIN[kind])
    blocks = data_B.view(-1, kind.bytes)
    out = torch.empty(blocks.shape[0], kind.values, dtype=dtype)
    step = _STRETCH // kind.values
    for start in range(0, blocks.shape[0], step):
        out[start : start + step] = _UNPACK[kind](blocks[start : start + step])
    return out.view(-1)


def _inverse(scale: Tensor) -> Tensor:
    """1 / scale, and 0 for blocks of zeros."""
    return torch.where(scale == 0, 0.0, 1 / scale)


def _pack_q8_0(x_NV: Tensor) -> Tensor:
    """One half-precision scale, 32 signed bytes; rounded half away from zero."""
    scale = x_NV.abs().amax(-1, keepdim=True) / 127
    scaled = x_NV * _inverse(scale)
    whole = scaled.abs().floor()
    rounded = (whole + (scaled.abs() - whole >= 0.5)).copysign(scaled)
    return torch.cat((bytes_of(scale), rounded.to(torch.int8).view(torch.uint8)), -1)


def _unpack_q8_0(data_NB: Tensor) -> Tensor:
    return halves_of(data_NB[:, :2]) * data_NB[:, 2:].view(torch.int8)


def _pack_q4_0(x_NV: Tensor) -> Tensor:
    """One half-precision scale, 32 values of four bits around 8; the value furthest from zero becomes 0 exactly."""
    furthest = x_NV.gather(-1, x_NV.abs().argmax(-1, keepdim=True)) + 0.0  # the reference knows no negative zero
    scale = furthest / -8
    q = (x_NV * _inverse(scale) + 8.5).to(torch.uint8).clamp(max=15)
    return torch.cat((bytes_of(scale), pack_nibbles(q)), -1)


def _unpack_q4_0(data_NB: Tensor) -> Tensor:
    return halves_of(data_NB[:, :2]) * (unpack_nibbles(data_NB[:, 2:]).float() - 8)


def _unpack_q4_1(data_NB: Tensor) -> Tensor:
    """Scale and least value, and 32 values of four bits above it."""
    return halves_of(data_NB[:, :2]) * unpack_nibbles(data_NB[:, 4:]) + halves_of(data_NB[:, 2:4])


def _unpack_q5_0(data_NB: Tensor) -> Tensor:
    """A scale, the fifth bits, and the four low bits of 32 values around 16."""
    q = unpack_nibbles(data_NB[:, 6:]) | unpack_bits(data_NB[:, 2:6]) << 4
    return halves_of(data_NB[:, :2]) * (q.float() - 16)


def _unpack_q5_1(data_NB: Tensor) -> Tensor:
    """Scale and least value, the fifth bits, and the four low bits of 32 values above it."""
    q = unpack_nibbles(data_NB[:, 8:]) | unpack_bits(data_NB[:, 4:8]) << 4
    return halves_of(data_NB[:, :2]) * q + halves_of(data_NB[:, 2:4])


_Move = Callable[[Tensor], Tensor]

_PACK: Mapping[BlockType, _Move] = {
    Q8_0: _pack_q8_0,
    Q4_0: _pack_q4_0,
    Q4_K: pack_q4_k,
    Q5_K: pack_q5_k,
    Q6_K: pack_q6_k,
}
"""From (blocks, values) in float32 to (blocks, bytes)."""
_UNPACK: Mapping[BlockType, _Move] = {
    Q8_0: _unpack_q8_0,
    Q4_0: _unpack_q4_0,
    Q4_1: _unpack_q4_1,
    Q5_0: _unpack_q5_0,
    Q5_1: _unpack_q5_1,
    Q4_K: unpack_q4_k,
    Q5_K: unpack_q5_k,
    Q6_K: unpack_q6_k,
}
"""From (blocks, bytes) to (blocks, values) in float32."""
