"""The divisors of frequencies, against their definition written out."""

import math

import pytest
import torch

from herd.formats.gguf.rotary import find_scaling, rope_factors
from herd.foundation.errors import HerdError
from herd.model.config import PRESETS, ModelConfig, RopeScaling

LLAMA_8B = PRESETS["llama-3.1-8b"]


def test_divisors_are_those_of_the_release() -> None:
    """The release's rule, by wavelength: short waves stay, long ones are divided by 8, those between are blended."""
    scaling = RopeScaling(factor=8.0)
    factors = rope_factors(128, 500_000.0, scaling).tolist()
    for pair, factor in enumerate(factors):
        wavelength = 2 * math.pi * 500_000.0 ** (2 * pair / 128)
        if wavelength < 8192 / 4:
            assert factor == 1
        elif wavelength > 8192:
            assert factor == pytest.approx(8)
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            assert factor == pytest.approx(1 / ((1 - smooth) / 8 + smooth))
    assert sum(1 < factor < 8 for factor in factors) > 1


@pytest.mark.parametrize("preset", ["llama-3.1-8b", "llama-3.2-1b", "llama-3.2-3b"])
def test_the_published_scalings_are_found_without_a_note(preset: str) -> None:
    config = PRESETS[preset]
    assert config.rope_scaling is not None
    factors = rope_factors(config.head_dim, config.rope_theta, config.rope_scaling)
    assert find_scaling("a.gguf", factors, config, None) == config.rope_scaling


def test_a_note_is_believed_only_where_it_fits() -> None:
    unusual = RopeScaling(16.0, 2.0, 5.0, 300)
    factors = rope_factors(LLAMA_8B.head_dim, LLAMA_8B.rope_theta, unusual)
    assert find_scaling("a.gguf", factors, LLAMA_8B, unusual) == unusual
    for noted in (None, RopeScaling(8.0, 2.0, 5.0, 300)):
        with pytest.raises(HerdError, match=r"^a\.gguf holds a scaling .* not Llama 3\.1's$"):
            find_scaling("a.gguf", factors, LLAMA_8B, noted)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0])
def test_senseless_divisors_are_refused(value: float) -> None:
    with pytest.raises(HerdError, match="holds a scaling"):
        find_scaling("a.gguf", torch.full((64,), value), LLAMA_8B, None)
    with pytest.raises(HerdError, match=r"has shape \(63,\), 64 divisors"):
        find_scaling("a.gguf", torch.ones(63), LLAMA_8B, None)


def test_a_model_without_rotary_scaling_may_carry_ones() -> None:
    config = ModelConfig(vocab_size=8, dim=16, layers=1, heads=2, kv_heads=1, ffn_dim=8)
    assert find_scaling("a.gguf", torch.ones(4), config, None) is None
