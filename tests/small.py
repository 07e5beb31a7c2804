"""Networks of a few thousand parameters with random weights: real parts, small enough for a unit test."""

from typing import Any

from herd.model.config import ModelConfig
from herd.model.transformer import Transformer


def small_model(vocab_size: int, seed: int, **shape: Any) -> Transformer:
    """A tied network of two layers and 32 dimensions; ``shape`` changes any field of its ``ModelConfig``."""
    fields = {"dim": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ffn_dim": 64, "tied": True} | shape
    model = Transformer(ModelConfig(vocab_size=vocab_size, **fields))
    model.init_weights(seed)
    return model
