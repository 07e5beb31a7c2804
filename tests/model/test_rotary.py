"""The rotary embedding against the published scaling rule and its defining property."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from herd.model.config import ModelConfig, RopeScaling
from herd.model.rotary import rotary_angles, rotate, scaled_frequency

SCALING = RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=8192)


@pytest.mark.parametrize(
    ("wavelength", "expected"),
    [
        (1000.0, 1.0),
        (2047.0, 1.0),
        (8193.0, 1 / 8),
        (100_000.0, 1 / 8),
        (4096.0, (1 - 1 / 3) / 8 + 1 / 3),  # L / wavelength = 2, a third of the way from 1 to 4
    ],
)
def test_scaling_keeps_short_waves_slows_long_ones_and_blends_between(wavelength: float, expected: float) -> None:
    frequency = 2 * math.pi / wavelength
    assert scaled_frequency(frequency, SCALING) == pytest.approx(frequency * expected, rel=1e-9)


def _config(**other: object) -> ModelConfig:
    return ModelConfig(vocab_size=300, dim=64, layers=1, heads=2, kv_heads=1, ffn_dim=96, **other)  # type: ignore[arg-type]


@pytest.mark.parametrize("scaling", [None, SCALING])
def test_scores_depend_on_distance_alone(scaling: RopeScaling | None) -> None:
    config = _config(rope_scaling=scaling)
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 2, 32, generator=generator)

    def score(at_query: int, at_key: int) -> torch.Tensor:
        turned = [rotate(x, *rotary_angles(config, torch.tensor([place]))) for x, place in ((q, at_query), (k, at_key))]
        return (turned[0] * turned[1]).sum(-1)

    torch.testing.assert_close(score(17, 5), score(1017, 1005), atol=2e-4, rtol=2e-4)
    assert not torch.allclose(score(17, 5), score(17, 6), atol=1e-2)


def test_halves_are_rotated_against_each_other_by_the_published_angles() -> None:
    config = _config(rope_theta=10_000.0)
    x = torch.zeros(1, 1, 32)
    x[..., 3] = 1.0
    turned = rotate(x, *rotary_angles(config, torch.tensor([7]))).flatten()
    angle = 7 * 10_000.0 ** (-2 * 3 / 32)
    assert turned[3].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert turned[3 + 16].item() == pytest.approx(math.sin(angle), abs=1e-6)
    assert turned.count_nonzero() == 2


def test_frequencies_first_made_in_inference_mode_serve_training() -> None:
    config = _config(rope_theta=12_345.0)
    with torch.inference_mode():
        rotary_angles(config, torch.arange(4))
    x = torch.randn(4, 2, 32, requires_grad=True)
    rotate(x, *rotary_angles(config, torch.arange(4))).sum().backward()
    assert x.grad is not None


def test_a_dry_run_on_fake_tensors_leaves_true_frequencies() -> None:
    config = _config(rope_theta=54_321.0)
    with FakeTensorMode(allow_non_fake_inputs=True):
        rotary_angles(config, torch.arange(4))
    cos, _ = rotary_angles(config, torch.arange(4))
    assert type(cos) is torch.Tensor
    assert cos[1, 0].item() == pytest.approx(math.cos(1.0), abs=1e-6)
