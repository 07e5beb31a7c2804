"""The order of the rows of queries and keys, which formats disagree on.

Hugging Face and Herd turn row r of a head against row r + D/2, Meta's files and those of llama.cpp row 2r against
row 2r + 1 (fact sheet, section 3.1).
"""

from torch import Tensor

from herd.model.config import ModelConfig


def rotated_heads(name: str, config: ModelConfig) -> int | None:
    """How many heads the rows of the matrix ``name`` (Hugging Face's) belong to; None where none are rotated."""
    if name.endswith("self_attn.q_proj.weight"):
        return config.heads
    return config.kv_heads if name.endswith("self_attn.k_proj.weight") else None


def to_halves(weight: Tensor, heads: int) -> Tensor:
    """Rows (heads * D, E) from neighbouring pairs to halves."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(weight.shape)


def to_pairs(weight: Tensor, heads: int) -> Tensor:
    """Rows (heads * D, E) from halves to neighbouring pairs."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(weight.shape)
