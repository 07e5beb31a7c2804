"""Which tensor gets which type: the choices that llama.cpp's files of the same name show."""

import pytest

from herd.formats.gguf.block_types import BF16, F32, Q4_0, Q4_K, Q6_K, Q8_0, BlockType
from herd.formats.gguf.mixture import GGUF_TYPES
from herd.formats.tensors import EMBEDDING, HEAD, NORM, expected_shapes
from herd.model.config import PRESETS, ModelConfig, pocket_config

LLAMA_8B, LLAMA_1B = PRESETS["llama-3.1-8b"], PRESETS["llama-3.2-1b"]


def _chosen(type: str, config: ModelConfig) -> dict[str, BlockType]:
    shapes = expected_shapes(config, reward=False)
    return {name: GGUF_TYPES[type].choose(name, shape, config) for name, shape in shapes.items()}


def test_the_medium_mixture_of_an_8b_model_is_the_published_one() -> None:
    chosen = _chosen("q4_k", LLAMA_8B)
    better = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    for layer in range(32):
        place = f"model.layers.{layer}"
        expected = Q6_K if layer in better else Q4_K
        assert chosen[f"{place}.self_attn.v_proj.weight"] is expected
        assert chosen[f"{place}.mlp.down_proj.weight"] is expected
        assert chosen[f"{place}.self_attn.q_proj.weight"] is Q4_K
        assert chosen[f"{place}.input_layernorm.weight"] is F32
    assert (chosen[EMBEDDING], chosen[HEAD], chosen[NORM]) == (Q4_K, Q6_K, F32)


@pytest.mark.parametrize(
    ("type", "embedding", "head"), [("q4_0", Q4_0, Q6_K), ("q8_0", Q8_0, Q8_0), ("bf16", BF16, BF16)]
)
def test_the_output_matrix_has_six_bits_at_least(type: str, embedding: BlockType, head: BlockType) -> None:
    assert (_chosen(type, LLAMA_8B)[EMBEDDING], _chosen(type, LLAMA_8B)[HEAD]) == (embedding, head)
    assert _chosen(type, LLAMA_1B)[EMBEDDING] is head  # tied: the embedding is the output matrix


def test_rows_that_are_no_whole_blocks_take_a_type_that_fits() -> None:
    chosen = _chosen("q4_k", pocket_config("2m", 4096))  # rows of 192 and 384
    assert {kind.name for kind in chosen.values()} == {"Q8_0", "F32"}
    odd = ModelConfig(vocab_size=8, dim=40, layers=1, heads=2, kv_heads=1, ffn_dim=64)
    assert _chosen("q4_0", odd)[EMBEDDING] is F32
    assert _chosen("q4_0", odd)["model.layers.0.mlp.down_proj.weight"] is Q4_0
