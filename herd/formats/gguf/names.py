"""What GGUF's llama architecture calls the tensors of a model.

    gguf_name("model.layers.3.mlp.up_proj.weight")       # 'blk.3.ffn_up.weight'

Both kinds of name end in ``.weight``; there are no biases.
"""

import re

from herd.formats.tensors import EMBEDDING, HEAD, NORM

ROPE_FACTORS = "rope_freqs.weight"
"""Divisors of the rotary frequencies; a model without scaled frequencies has no such tensor."""

_OUTSIDE = {EMBEDDING: "token_embd.weight", NORM: "output_norm.weight", HEAD: "output.weight"}
_IN_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def split_layer(name: str) -> tuple[int, str] | None:
    """Layer and place of a layer's tensor (``(3, 'mlp.up_proj')``); None for the others."""
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
    return (int(match[1]), match[2]) if match else None


def gguf_name(name: str) -> str:
    """GGUF's name of a tensor that Hugging Face calls ``name``."""
    layer = split_layer(name)
    return f"blk.{layer[0]}.{_IN_LAYER[layer[1]]}.weight" if layer else _OUTSIDE[name]
