"""Shapes and counts against the published numbers (fact sheet, 3.1) and against modules built on the meta device."""

import pytest
import torch

from herd.foundation.errors import HerdError
from herd.model.config import POCKET_SIZES, PRESETS, ModelConfig, RopeScaling, pocket_config
from herd.model.transformer import Transformer

PUBLISHED = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-2-7b": 6_738_415_616,
}


@pytest.mark.parametrize("name", PRESETS)
def test_published_parameter_counts_are_exact(name: str) -> None:
    with torch.device("meta"):
        model = Transformer(PRESETS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[name]
    assert PRESETS[name].parameters == PUBLISHED[name]


@pytest.mark.parametrize("size", POCKET_SIZES)
def test_pocket_sizes_are_called_what_they_count(size: str) -> None:
    config = pocket_config(size, vocab_size=4096)
    millions = config.parameters / 1e6
    assert size == (f"{millions:.1f}m" if millions < 0.95 else f"{round(2 * millions) / 2:g}m")
    assert config.tied
    assert config.head_dim >= 32
    assert config.layers >= 4
    assert config.kv_heads < config.heads or config.heads == 1


def test_counts_split_into_layers_embedding_and_products() -> None:
    config = PRESETS["llama-3.1-8b"]
    embeddings = 2 * config.vocab_size * config.dim
    assert config.non_embedding_parameters() == config.parameters - embeddings
    norms = (2 * config.layers + 1) * config.dim
    assert config.matmul_parameters() == config.parameters - embeddings // 2 - norms
    assert config.flops_per_token(0) == 6 * config.matmul_parameters()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"heads": 3}, "dim 64 is not divisible by heads 3"),
        ({"kv_heads": 3}, "heads 4 is not divisible by kv_heads 3"),
        ({"dim": 20}, "head dimension 5"),
        ({"layers": 0}, "layers is 0"),
    ],
)
def test_impossible_shapes_are_refused_with_their_numbers(change: dict[str, int], sentence: str) -> None:
    shape = {"vocab_size": 300, "dim": 64, "layers": 1, "heads": 4, "kv_heads": 2, "ffn_dim": 96} | change
    with pytest.raises(HerdError, match=sentence):
        ModelConfig(**shape)


def test_unknown_pocket_size_names_the_known_ones() -> None:
    with pytest.raises(HerdError, match=r"'2b'.*0\.5m, 0\.8m"):
        pocket_config("2b", 4096)


def test_scaling_that_shrinks_is_refused() -> None:
    with pytest.raises(HerdError, match="factor"):
        RopeScaling(factor=0.5)
