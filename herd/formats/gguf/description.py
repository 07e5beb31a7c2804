"""The shape of a llama model as GGUF's metadata, and back.

What our network cannot do (experts, other rotary scalings, heads of their own width) is refused by its key.  The four
numbers of Llama 3.1's rotary scaling have no keys in the format; they are noted under ``herd.`` beside the tensor that
other readers use, see ``rotary``.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from herd.formats.gguf.blocks import decode
from herd.formats.gguf.container import GgufFile, Value
from herd.formats.gguf.names import ROPE_FACTORS, gguf_name
from herd.formats.gguf.rotary import find_scaling
from herd.formats.tensors import EMBEDDING, HEAD
from herd.foundation.errors import HerdError
from herd.model.config import ModelConfig, RopeScaling

ARCHITECTURE = "llama"
_QUANTIZATION_VERSION = 2
_SCALING = "herd.rope_scaling."
_SCALING_KEYS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_positions")


def describe(config: ModelConfig, name: str, file_type: int) -> dict[str, Value]:
    """The metadata of a model called ``name``, without its tokenizer."""
    metadata: dict[str, Value] = {
        "general.architecture": ARCHITECTURE,
        "general.type": "model",
        "general.name": name,
        "general.file_type": file_type,
        "general.quantization_version": _QUANTIZATION_VERSION,
        "llama.vocab_size": config.vocab_size,
        "llama.context_length": config.max_positions,
        "llama.embedding_length": config.dim,
        "llama.block_count": config.layers,
        "llama.feed_forward_length": config.ffn_dim,
        "llama.attention.head_count": config.heads,
        "llama.attention.head_count_kv": config.kv_heads,
        "llama.attention.layer_norm_rms_epsilon": config.norm_eps,
        "llama.rope.freq_base": config.rope_theta,
        "llama.rope.dimension_count": config.head_dim,
    }
    if config.rope_scaling is not None:
        metadata |= {f"{_SCALING}{key}": getattr(config.rope_scaling, key) for key in _SCALING_KEYS}
    return metadata


def read_config(file: GgufFile) -> ModelConfig:
    """The shape that a file's metadata describes; ``HerdError`` names the key that is missing or cannot be."""
    _refuse_what_is_not_ours(file)
    embedding = file.tensors.get(gguf_name(EMBEDDING))
    if embedding is None:
        raise HerdError(f"{file.path}: tensor {gguf_name(EMBEDDING)} is missing")
    heads = file.get("llama.attention.head_count", int)
    shape: dict[str, Any] = {
        "vocab_size": file.get("llama.vocab_size", int, embedding.shape[0]),
        "dim": file.get("llama.embedding_length", int),
        "layers": file.get("llama.block_count", int),
        "heads": heads,
        "kv_heads": file.get("llama.attention.head_count_kv", int, heads),
        "ffn_dim": file.get("llama.feed_forward_length", int),
        "max_positions": file.get("llama.context_length", int),
    }
    theta, eps = _real(file, "llama.rope.freq_base", 10_000.0), _real(file, "llama.attention.layer_norm_rms_epsilon")
    if shape["layers"] > len(file.tensors):  # before every layer's tensors are listed
        raise HerdError(f"{file.path}: llama.block_count is {shape['layers']}, there are {len(file.tensors)} tensors")
    with _naming(file.path):
        config = ModelConfig(**shape, rope_theta=theta, norm_eps=eps, tied=gguf_name(HEAD) not in file.tensors)
    _check_heads(file, config)
    return config.with_context(config.max_positions, _scaling(file, config))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Puts the file's name before what is wrong with a shape."""
    try:
        yield
    except HerdError as error:
        raise HerdError(f"{path}: {error}") from None


def _refuse_what_is_not_ours(file: GgufFile) -> None:
    architecture = file.get("general.architecture", str)
    if architecture != ARCHITECTURE:
        raise HerdError(f"{file.path}: general.architecture is {architecture!r}, only {ARCHITECTURE!r} is read")
    for key, allowed, what in (
        ("split.count", (0, 1), "is one part of a model in several files, which have to be merged first"),
        ("llama.expert_count", (0,), "is a mixture of experts"),
        ("llama.rope.scaling.type", ("none",), "scales its rotary frequencies in a way that is not Llama 3.1's"),
    ):
        if file.metadata.get(key, allowed[0]) not in allowed:
            raise HerdError(f"{file.path}: {what} ({key} is {file.metadata[key]!r})")


def _check_heads(file: GgufFile, config: ModelConfig) -> None:
    for key in ("llama.rope.dimension_count", "llama.attention.key_length", "llama.attention.value_length"):
        if (found := file.get(key, int, config.head_dim)) != config.head_dim:
            raise HerdError(f"{file.path}: {key} is {found}, embedding and heads ask for {config.head_dim}")


def _real(file: GgufFile, key: str, default: float | None = None) -> float:
    """A number that was rounded to float32, as the shortest decimal that rounds to the same: 1e-05 comes back."""
    value = file.get(key, float, default)
    if not math.isfinite(value):
        raise HerdError(f"{file.path}: {key} is {value}, a finite number is needed")
    return float(str(np.float32(value)))


def _scaling(file: GgufFile, config: ModelConfig) -> RopeScaling | None:
    stored = file.tensors.get(ROPE_FACTORS)
    if stored is None:
        return None
    factors = decode(file.data(ROPE_FACTORS), stored.kind).view(stored.shape)
    return find_scaling(f"{file.path}: tensor {ROPE_FACTORS}", factors, config, _noted_scaling(file))


def _noted_scaling(file: GgufFile) -> RopeScaling | None:
    if any(f"{_SCALING}{key}" not in file.metadata for key in _SCALING_KEYS):
        return None
    factor, low, high = (_real(file, f"{_SCALING}{key}") for key in _SCALING_KEYS[:3])
    original = file.get(f"{_SCALING}{_SCALING_KEYS[3]}", int)
    with _naming(file.path):
        return RopeScaling(factor, low, high, original)
