"""How Meta's files hold a model: names, the rotary order of queries and keys, and what each rank has of a tensor.

Meta rotates neighbouring dimensions of a head (2r with 2r + 1), Hugging Face and Herd dimension r with r + D/2; so
the rows of each head's queries and keys are reordered on the way (fact sheet, section 3.1).
"""

import re

from torch import Tensor

from herd.formats.tensors import EMBEDDING, HEAD, NORM
from herd.foundation.errors import HerdError
from herd.model.config import ModelConfig

META_EMBEDDING, META_HEAD, META_NORM = "tok_embeddings.weight", "output.weight", "norm.weight"
DERIVED = "rope.freqs"

_OUTSIDE = {EMBEDDING: META_EMBEDDING, HEAD: META_HEAD, NORM: META_NORM}
_IN_LAYER = {
    "input_layernorm": "attention_norm",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
}
_SPLIT_BY_COLUMNS = ("attention.wo", "feed_forward.w2")


def meta_name(name: str) -> str:
    """Meta's name of a tensor that goes by its Hugging Face name."""
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
    return f"layers.{match[1]}.{_IN_LAYER[match[2]]}.weight" if match else _OUTSIDE[name]


def split_axis(name: str) -> int | None:
    """The axis along which ranks share the tensor of this Meta name; None where each has all of it.

    What makes activations wide is cut by rows (its outputs), what makes them narrow again by columns (its inputs);
    Llama 3 cuts embedding and head by the vocabulary.
    """
    if name.endswith("norm.weight"):
        return None
    return 1 if name.removesuffix(".weight").endswith(_SPLIT_BY_COLUMNS) else 0


def rotated_heads(name: str, config: ModelConfig) -> int | None:
    """How many heads the rows of this Meta tensor hold, where they are rotated."""
    return {"wq": config.heads, "wk": config.kv_heads}.get(name.removesuffix(".weight").rpartition(".")[2])


def to_halves(weight: Tensor, heads: int) -> Tensor:
    """Rows (heads * D, E) from Meta's neighbouring pairs to Hugging Face's halves."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(weight.shape)


def to_pairs(weight: Tensor, heads: int) -> Tensor:
    """Rows (heads * D, E) from Hugging Face's halves to Meta's neighbouring pairs."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(weight.shape)


def rank_shape(name: str, shape: tuple[int, ...], ranks: int) -> tuple[int, ...]:
    """The shape of one rank's part of a Meta tensor; ``HerdError`` where the ranks do not divide it."""
    axis = split_axis(name)
    if axis is None or ranks == 1:
        return shape
    if shape[axis] % ranks:
        raise HerdError(f"tensor {name} of shape {shape} cannot be divided among {ranks} ranks")
    return tuple(size // ranks if place == axis else size for place, size in enumerate(shape))
