"""A byte-level tokenizer and a network of a few thousand parameters: real parts, small enough for a unit test."""

from pathlib import Path

import pytest

from herd.formats.huggingface import save_model
from herd.model.transformer import Transformer
from herd.tokenizer.chat import ChatFormat
from herd.tokenizer.tokenizer import Tokenizer
from tests.small import small_model


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer({bytes([byte]): byte for byte in range(256)})


@pytest.fixture(scope="session")
def chat(tokenizer: Tokenizer) -> ChatFormat:
    return ChatFormat(tokenizer)


@pytest.fixture
def model(tokenizer: Tokenizer) -> Transformer:
    return small_model(tokenizer.vocab_size, seed=3, max_positions=1024)


@pytest.fixture
def base(tmp_path: Path, model: Transformer, tokenizer: Tokenizer) -> Path:
    """The directory of a base model."""
    tokenizer.save(tmp_path / "tokenizer")
    save_model(model, tmp_path / "tokenizer", tmp_path / "base")
    return tmp_path / "base"


def question(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def answer(text: str) -> dict:
    return {"role": "assistant", "content": text}


def call(name: str, arguments: str) -> dict:
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}


def result(text: str) -> dict:
    return {"role": "tool", "tool_call_id": "1", "content": text}
