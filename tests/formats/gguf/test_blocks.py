"""Block types against the ``gguf`` package, whose code is not ours: every byte means the same to both."""

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from hypothesis import given, settings
from hypothesis import strategies as st

from herd.formats.gguf.block_types import (
    BF16,
    BY_NUMBER,
    F16,
    F32,
    Q4_0,
    Q4_1,
    Q4_K,
    Q5_0,
    Q5_1,
    Q5_K,
    Q6_K,
    Q8_0,
    BlockType,
)
from herd.formats.gguf.blocks import decode, encode

QUANTISED = (Q8_0, Q4_0, Q4_K, Q5_K, Q6_K)
ONLY_READ = (Q4_1, Q5_0, Q5_1)
ROWS, WIDTH = 64, 1024


def _number(kind: BlockType) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType(kind.number)


def _normal() -> torch.Tensor:
    return torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(1)) * 0.02


def _sparse() -> torch.Tensor:
    chance = torch.Generator().manual_seed(2)
    drawn = torch.randn(ROWS, WIDTH, generator=chance) * (torch.rand(ROWS, WIDTH, generator=chance) < 0.05)
    return drawn + 0.0  # no negative zeros, on which ggml's C code and its Python twin disagree


SAMPLES = {
    "normal": _normal(),
    "heavy": _normal() ** 3,
    "uniform": torch.rand(ROWS, WIDTH, generator=torch.Generator().manual_seed(3)) - 0.3,
    "positive": torch.rand(ROWS, WIDTH, generator=torch.Generator().manual_seed(4)) + 1,
    "sparse": _sparse(),
    "zero": torch.zeros(ROWS, WIDTH),
    "constant": torch.full((ROWS, WIDTH), -0.7),
    "tiny": _normal() * 1e-30,
    "large": _normal() * 1e5,
}


def _error(kind: BlockType, x: torch.Tensor) -> float:
    return float((decode(encode(x, kind), kind).view(x.shape) - x).norm() / x.norm())


@pytest.mark.parametrize("kind", BY_NUMBER.values(), ids=lambda kind: kind.name)
def test_names_numbers_and_sizes_are_the_formats(kind: BlockType) -> None:
    assert _number(kind).name == kind.name
    assert gguf.GGML_QUANT_SIZES[_number(kind)] == (kind.values, kind.bytes)


@pytest.mark.parametrize("kind", [F32, F16, BF16, *QUANTISED], ids=lambda kind: kind.name)
@pytest.mark.parametrize("sample", SAMPLES)
def test_others_read_the_values_that_we_mean(kind: BlockType, sample: str) -> None:
    data = encode(SAMPLES[sample], kind)
    assert len(data) == kind.size((ROWS, WIDTH))
    theirs = dequantize(data.numpy().reshape(ROWS, -1), _number(kind))
    assert np.array_equal(theirs, decode(data, kind).float().view(ROWS, WIDTH).numpy())


@pytest.mark.parametrize("kind", [Q8_0, Q4_0], ids=lambda kind: kind.name)
@pytest.mark.parametrize("sample", SAMPLES)
def test_simple_blocks_have_the_reference_quantisers_bytes(kind: BlockType, sample: str) -> None:
    with np.errstate(all="ignore"):
        theirs = quantize(SAMPLES[sample].numpy(), _number(kind))
    assert np.array_equal(theirs.ravel(), encode(SAMPLES[sample], kind).numpy())


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(QUANTISED + ONLY_READ), st.integers(0, 2**32 - 1))
def test_any_bytes_mean_the_same_to_both(kind: BlockType, seed: int) -> None:
    data = np.random.default_rng(seed).integers(0, 256, (4, kind.bytes * 2), dtype=np.uint8)
    with np.errstate(all="ignore"):
        theirs = dequantize(data, _number(kind))
    assert np.array_equal(theirs, decode(torch.from_numpy(data).view(-1), kind).view(4, -1).numpy(), equal_nan=True)


@pytest.mark.parametrize("kind", ONLY_READ, ids=lambda kind: kind.name)
def test_blocks_that_others_write_are_read(kind: BlockType) -> None:
    data = torch.from_numpy(quantize(SAMPLES["uniform"].numpy(), _number(kind)))
    values = decode(data.view(-1), kind).view(ROWS, WIDTH)
    assert np.array_equal(dequantize(data.numpy(), _number(kind)), values.numpy())
    assert float((values - SAMPLES["uniform"]).norm() / SAMPLES["uniform"].norm()) < 0.06


# Relative errors of ggml's own quantisers on these samples, without an importance matrix; taken once from its library.
GGML_ERRORS = {
    (Q4_K, "normal"): 0.07103,
    (Q4_K, "heavy"): 0.12063,
    (Q4_K, "uniform"): 0.04460,
    (Q4_K, "positive"): 0.02214,
    (Q4_K, "sparse"): 0.04254,
    (Q5_K, "normal"): 0.03611,
    (Q5_K, "heavy"): 0.10441,
    (Q5_K, "uniform"): 0.02254,
    (Q5_K, "positive"): 0.01106,
    (Q5_K, "sparse"): 0.03598,
    (Q6_K, "normal"): 0.01771,
    (Q6_K, "heavy"): 0.16448,
    (Q6_K, "uniform"): 0.01492,
    (Q6_K, "positive"): 0.00989,
    (Q6_K, "sparse"): 0.00612,
}


@pytest.mark.parametrize(("kind", "sample"), GGML_ERRORS, ids=lambda case: getattr(case, "name", case))
def test_searched_scales_are_no_worse_than_ggmls(kind: BlockType, sample: str) -> None:
    assert _error(kind, SAMPLES[sample]) <= GGML_ERRORS[kind, sample] * 1.002


@pytest.mark.parametrize("kind", QUANTISED, ids=lambda kind: kind.name)
@pytest.mark.parametrize("sample", ["zero", "constant", "tiny"])
def test_extreme_blocks_stay_finite_and_near(kind: BlockType, sample: str) -> None:
    x = SAMPLES[sample]
    back = decode(encode(x, kind), kind).view(x.shape)
    assert bool(torch.isfinite(back).all())
    assert float((back - x).abs().max()) <= 0.01 * float(x.abs().max()) + 1e-20


def test_a_wider_grid_is_a_better_one() -> None:
    errors = [_error(kind, SAMPLES["normal"]) for kind in (Q4_0, Q4_K, Q5_K, Q6_K, Q8_0)]
    assert errors == sorted(errors, reverse=True)


def test_encoding_takes_half_precision_and_views() -> None:
    x = SAMPLES["normal"].to(torch.bfloat16)
    assert torch.equal(encode(x, Q6_K), encode(x.float(), Q6_K))
    assert torch.equal(encode(x.T, Q8_0), encode(x.T.contiguous(), Q8_0))
