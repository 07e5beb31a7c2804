"""Q4_K, Q5_K and Q6_K: blocks of 256 values whose parts have scales of their own, which are themselves quantised.

Q4_K and Q5_K cut a block into eight parts x = scale * q - shift, with q of four or five bits; Q6_K into sixteen parts
x = scale * q, with q of six bits around 32.  The scales of the parts are whole numbers (six bits, a signed byte)
times one or two half-precision numbers of the block.

The scales are searched for the least squared error: for each part several grids are tried, each with the scale that
least squares gives to its rounding; then the parts' scales are rounded to whole numbers (with shifts the neighbouring
ones are tried too, each with its own best shift) and the values rounded anew on the grid that this leaves.
"""

import torch
from torch import Tensor

from herd.formats.gguf.packing import bytes_of, halves_of, pack_nibbles, unpack_nibbles

_PARTS, _Q4_TOP, _Q5_TOP = 8, 15, 31
_SIX_BITS = 63
_Q6_PARTS, _Q6_LOWEST, _Q6_HIGHEST = 16, -32, 31
_GRIDS = torch.linspace(-1.0, 1.0, 9)
_Q6_GRIDS = torch.linspace(-1.0, 1.0, 11)
"""Grids that are tried: so many steps more than the type's range has lie between zero (or the least x) and the end."""
_TINY = 1e-30


def pack_q4_k(x_NV: Tensor) -> Tensor:
    """(N, 256) float32 to (N, 144) bytes: two half-precision scales, twelve bytes of part scales, 128 of values."""
    scales_NB, q_NPV = _pack_shifted(x_NV, _Q4_TOP)
    return torch.cat((scales_NB, pack_nibbles(q_NPV.view(-1, 4, 64)).flatten(1)), -1)


def unpack_q4_k(data_NB: Tensor) -> Tensor:
    """(N, 144) bytes to (N, 256) float32."""
    return _unpack_shifted(data_NB, unpack_nibbles(data_NB[:, 16:].view(-1, 4, 32)).view(-1, _PARTS, 32))


def pack_q5_k(x_NV: Tensor) -> Tensor:
    """(N, 256) float32 to (N, 176) bytes: as Q4_K, with 32 bytes of fifth bits before the others, one a part."""
    scales_NB, q_NPV = _pack_shifted(x_NV, _Q5_TOP)
    fifth = (q_NPV >> 4 << _part_bits()).sum(1, dtype=torch.uint8)
    return torch.cat((scales_NB, fifth, pack_nibbles((q_NPV & 15).view(-1, 4, 64)).flatten(1)), -1)


def unpack_q5_k(data_NB: Tensor) -> Tensor:
    """(N, 176) bytes to (N, 256) float32."""
    low = unpack_nibbles(data_NB[:, 48:].view(-1, 4, 32)).view(-1, _PARTS, 32)
    fifth = data_NB[:, None, 16:48] >> _part_bits() & 1
    return _unpack_shifted(data_NB, low | fifth << 4)


def _part_bits() -> Tensor:
    return torch.arange(_PARTS, dtype=torch.uint8).view(1, _PARTS, 1)


def _pack_shifted(x_NV: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The sixteen bytes of scales and the values (N, P, V) from 0 to ``top`` of blocks with shifts."""
    x_NPV = x_NV.view(-1, _PARTS, 32)
    scale_NP, shift_NP = affine_grid(x_NPV, top)
    scale, scales = _whole_scales(scale_NP)
    shift, shifts = _whole_scales(shift_NP)
    scales, shifts = _best_neighbours(x_NPV, top, scale, scales, shift, shifts)
    q_NPV = _rounded(x_NPV, top, (scale * scales).unsqueeze(-1), (shift * shifts).unsqueeze(-1)).to(torch.uint8)
    return torch.cat((bytes_of(scale), bytes_of(shift), _pack_six_bits(scales, shifts)), -1), q_NPV


def _unpack_shifted(data_NB: Tensor, q_NPV: Tensor) -> Tensor:
    """Values (N, 256) of the scales in a block's first sixteen bytes and its ``q_NPV``."""
    scales, shifts = _unpack_six_bits(data_NB[:, 4:16])
    step = (halves_of(data_NB[:, :2]) * scales).unsqueeze(-1)
    base = (halves_of(data_NB[:, 2:4]) * shifts).unsqueeze(-1)
    return (step * q_NPV - base).flatten(1)


def pack_q6_k(x_NV: Tensor) -> Tensor:
    """(N, 256) float32 to (N, 210) bytes: 128 of low bits, 64 of high bits, 16 part scales, a half-precision scale."""
    x_NPV = x_NV.view(-1, _Q6_PARTS, 16)
    scale_NP = symmetric_grid(x_NPV)
    furthest = scale_NP.gather(-1, scale_NP.abs().argmax(-1, keepdim=True))
    scale = (furthest / -128).half().float()
    scales = torch.where(scale == 0, 0.0, scale_NP / scale).round().clamp(-128, 127)
    step = (scale * scales).unsqueeze(-1)
    q = torch.where(step == 0, 0.0, x_NPV / step).round_().clamp_(_Q6_LOWEST, _Q6_HIGHEST)
    q_NHQV = (q - _Q6_LOWEST).to(torch.uint8).view(-1, 2, 4, 32)  # two halves of four quarters
    low = pack_nibbles((q_NHQV & 15).flatten(2)).flatten(1)
    high = q_NHQV >> 4
    high = high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6
    return torch.cat((low, high.flatten(1), scales.to(torch.int8).view(torch.uint8), bytes_of(scale)), -1)


def unpack_q6_k(data_NB: Tensor) -> Tensor:
    """(N, 210) bytes to (N, 256) float32."""
    low = unpack_nibbles(data_NB[:, :128].view(-1, 2, 64)).view(-1, 2, 4, 32)
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8).view(1, 1, 4, 1)
    high = (data_NB[:, 128:192].view(-1, 2, 1, 32) >> shifts) & 3
    q = (low | high << 4).float() + _Q6_LOWEST
    step = halves_of(data_NB[:, 208:210]) * data_NB[:, 192:208].view(torch.int8)
    return (step.unsqueeze(-1) * q.view(-1, _Q6_PARTS, 16)).flatten(1)


def affine_grid(x_NPV: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Scale and shift, each (N, P) and not negative, of the grid scale * (0..top) - shift nearest to every part."""
    low = x_NPV.amin(-1, keepdim=True).clamp(max=0)
    width = (x_NPV.amax(-1, keepdim=True) - low).clamp(min=_TINY)
    count, sum_x = x_NPV.shape[-1], x_NPV.sum(-1)
    from_low = (x_NPV - low) / width
    best = torch.full_like(sum_x, -torch.inf)
    scale, shift = torch.zeros_like(sum_x), -low.squeeze(-1)
    for extra in _GRIDS:
        q = (from_low * (top + extra)).round_().clamp_(0, top)
        sum_q, sum_qq, sum_xq = q.sum(-1), (q * q).sum(-1), (q * x_NPV).sum(-1)
        slope = (count * sum_xq - sum_x * sum_q) / (count * sum_qq - sum_q * sum_q).clamp(min=_TINY)
        offset = (slope * sum_q - sum_x) / count
        through_zero = offset <= 0  # a grid may begin below zero but not above it
        slope = torch.where(through_zero, sum_xq / sum_qq.clamp(min=_TINY), slope)
        offset = offset.clamp(min=0)
        gain = slope * sum_xq - offset * sum_x  # how much of the sum of x * x the grid explains
        better = (gain > best) & (slope > 0)
        best = torch.where(better, gain, best)
        scale, shift = torch.where(better, slope, scale), torch.where(better, offset, shift)
    return scale, shift


def symmetric_grid(x_NPV: Tensor) -> Tensor:
    """The scale (N, P), of either sign, of the grid scale * (-32..31) nearest to every part."""
    furthest = x_NPV.gather(-1, x_NPV.abs().argmax(-1, keepdim=True))
    inverse = torch.where(furthest == 0, 0.0, 1 / furthest)
    best, scale = torch.zeros_like(inverse.squeeze(-1)), torch.zeros_like(inverse.squeeze(-1))
    for extra in _Q6_GRIDS:
        q = (x_NPV * (inverse * (_Q6_LOWEST - extra))).round_().clamp_(_Q6_LOWEST, _Q6_HIGHEST)
        sum_qq, sum_xq = (q * q).sum(-1).clamp(min=_TINY), (q * x_NPV).sum(-1)
        gain = sum_xq * sum_xq / sum_qq
        better = gain > best
        best = torch.where(better, gain, best)
        scale = torch.where(better, sum_xq / sum_qq, scale)
    return scale


def _whole_scales(scale_NP: Tensor) -> tuple[Tensor, Tensor]:
    """A block's scale (N, 1), as half precision holds it, and the parts' whole numbers (N, P) up to 63."""
    scale = (scale_NP.amax(-1, keepdim=True) / _SIX_BITS).half().float()
    scales = torch.where(scale == 0, 0.0, scale_NP / scale).round().clamp(0, _SIX_BITS)
    return scale, scales


def _best_neighbours(
    x_NPV: Tensor, top: int, scale: Tensor, scales_NP: Tensor, shift: Tensor, shifts_NP: Tensor
) -> tuple[Tensor, Tensor]:
    """The whole scales and shifts, (N, P) each, of least error among the given scales and those one beside them."""
    inverse = torch.where(shift == 0, 0.0, 1 / shift)
    least = torch.full_like(scales_NP, torch.inf)
    best_scales, best_shifts = scales_NP, shifts_NP
    for aside in (-1, 0, 1):
        scales = (scales_NP + aside).clamp(0, _SIX_BITS)
        step = (scale * scales).unsqueeze(-1)
        q = _rounded(x_NPV, top, step, (shift * shifts_NP).unsqueeze(-1))
        shifts = ((step * q - x_NPV).mean(-1) * inverse).round().clamp(0, _SIX_BITS)
        base = (shift * shifts).unsqueeze(-1)
        error = (step * _rounded(x_NPV, top, step, base) - base - x_NPV).square().sum(-1)
        better = error < least
        least = torch.where(better, error, least)
        best_scales, best_shifts = torch.where(better, scales, best_scales), torch.where(better, shifts, best_shifts)
    return best_scales, best_shifts


def _rounded(x_NPV: Tensor, top: int, step: Tensor, base: Tensor) -> Tensor:
    """The nearest q of the grid step * q - base up to ``top``, zero where the step is."""
    return torch.where(step > 0, (x_NPV + base) / step.clamp(min=_TINY), 0.0).round_().clamp_(0, top)


def _pack_six_bits(scales_NP: Tensor, shifts_NP: Tensor) -> Tensor:
    """Eight scales and eight shifts of six bits in twelve bytes: the second four lend their top bits to the first."""
    s, m = scales_NP.to(torch.uint8), shifts_NP.to(torch.uint8)
    first = s[:, :4] | s[:, 4:] >> 4 << 6
    second = m[:, :4] | m[:, 4:] >> 4 << 6
    return torch.cat((first, second, s[:, 4:] & 15 | (m[:, 4:] & 15) << 4), -1)


def _unpack_six_bits(data_NB: Tensor) -> tuple[Tensor, Tensor]:
    first, second, third = data_NB.split(4, -1)
    scales = torch.cat((first & 63, third & 15 | first >> 6 << 4), -1)
    return scales, torch.cat((second & 63, third >> 4 | second >> 6 << 4), -1)
