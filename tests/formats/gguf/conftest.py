"""A tiny model with its tokenizer, as a Hugging Face directory and as GGUF files of every type."""

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


def tiny_tokenizer() -> Tokenizer:
    ranks = {bytes([byte]): byte for byte in range(256)}
    for token in (b" t", b"he", b"in", b"er", b" the", "é".encode(), b"ing", b"th"):
        ranks[token] = len(ranks)
    return Tokenizer(ranks)


def tiny_model(**changes: object) -> Transformer:
    """Random weights with large logits, whose likeliest token is always whole text by itself: others show no others."""
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
        model.head_weight[128:256] = 0  # the bytes that are no character, and the control tokens
        model.head_weight[-256:] = 0
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5, generator=chance)
    return model


class Models:
    """Directories and files of the tiny model, each made once; whoever changes a file takes a copy of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Path] = {}
        tiny_tokenizer().save(folder / "tokenizer")

    def directory(self, dtype: torch.dtype | None = None, **changes: object) -> Path:
        """A Hugging Face directory, tokenizer included."""
        key = f"{dtype} {changes}"
        if key not in self._made:
            self._made[key] = self._folder / f"model-{len(self._made)}"
            save_model(tiny_model(**changes), self._folder / "tokenizer", self._made[key], dtype)
        return self._made[key]

    def file(self, type: str, dtype: torch.dtype | None = None, **changes: object) -> Path:
        """The directory as a GGUF file."""
        directory = self.directory(dtype, **changes)
        out = directory.parent / f"{directory.name}-{type}.gguf"
        return out if out.is_file() else to_gguf(directory, out, type)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("gguf"))


def to_gguf(directory: Path, out: Path, type: str) -> Path:
    """Converts a Hugging Face directory into the file ``out``."""
    move_tensors(HuggingFaceSource(directory), GgufSink(out, type), Progress.silent())
    return out
