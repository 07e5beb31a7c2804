"""A tiny model with its tokenizer, as a Hugging Face directory and as GGUF files of every type."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from herd.formats.gguf.writer import GgufSink
from herd.formats.huggingface import save_model
from herd.formats.huggingface_source import HuggingFaceSource
from herd.formats.tensors import move_tensors
from herd.foundation.progress import Progress
from herd.model.config import ModelConfig, RopeScaling
from herd.model.transformer import Transformer
from herd.tokenizer.tokenizer import Tokenizer

SCALING = RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=64)
MakeModel = Callable[..., Path]


def tiny_tokenizer() -> Tokenizer:
    ranks = {bytes([byte]): byte for byte in range(256)}
    for token in (b"th", b"in", b"er", b" the", "é".encode(), b"he", b"ing", b" t"):
        ranks[token] = len(ranks)
    return Tokenizer(ranks)


def tiny_model(**changes: object) -> Transformer:
    """Random weights whose logits are so large that the likeliest token is likeliest by far."""
    config = ModelConfig(
        vocab_size=tiny_tokenizer().vocab_size,
        dim=256,
        layers=2,
        heads=4,
        kv_heads=2,
        ffn_dim=512,
        max_positions=256,
        rope_scaling=SCALING,
    )
    model = Transformer(replace(config, **changes))  # type: ignore[arg-type]
    model.init_weights(seed=5, induction=False)
    chance = torch.Generator().manual_seed(5)
    with torch.no_grad():
        model.embedding.weight.normal_(generator=chance)
        model.head_weight.normal_(std=0.3, generator=chance)
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5, generator=chance)
    return model


@pytest.fixture
def huggingface(tmp_path: Path) -> MakeModel:
    """Writes a model's Hugging Face directory, tokenizer included, and gives its path."""

    def make(name: str = "model", dtype: torch.dtype | None = None, **changes: object) -> Path:
        tiny_tokenizer().save(tmp_path / "tokenizer")
        save_model(tiny_model(**changes), tmp_path / "tokenizer", tmp_path / name, dtype)
        return tmp_path / name

    return make


def to_gguf(directory: Path, type: str) -> Path:
    """Converts a Hugging Face directory into a GGUF file beside it."""
    out = directory.parent / f"{directory.name}-{type}.gguf"
    move_tensors(HuggingFaceSource(directory), GgufSink(out, type), Progress.silent())
    return out
