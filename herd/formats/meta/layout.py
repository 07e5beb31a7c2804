"""How Meta's files hold a model: the names of its tensors, and what each model-parallel rank has of them.

The order of the rows of queries and keys differs too: see ``herd.formats.rotary_order``.
"""

import re

from herd.formats.tensors import EMBEDDING, HEAD, NORM
from herd.foundation.errors import HerdError

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


def rank_shape(name: str, shape: tuple[int, ...], ranks: int) -> tuple[int, ...]:
    """The shape of one rank's part of a Meta tensor; ``HerdError`` where the ranks do not divide it."""
    axis = split_axis(name)
    if axis is None or ranks == 1:
        return shape
    if shape[axis] % ranks:
        raise HerdError(f"tensor {name} of shape {shape} cannot be divided among {ranks} ranks")
    return tuple(size // ranks if place == axis else size for place, size in enumerate(shape))
