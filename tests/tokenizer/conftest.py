"""Tokenizers that the tests of this room share."""

import inspect
import json
import textwrap
from pathlib import Path

import pytest

from herd.tokenizer.bpe import train_bpe
from herd.tokenizer.chat import ChatFormat
from herd.tokenizer.dialects import DIALECTS
from herd.tokenizer.tokenizer import Tokenizer

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def bytewise() -> Tokenizer:
    """No merges at all: every byte is a token, so that expected ids can be written down by hand."""
    return train_bpe([], 512)


@pytest.fixture(scope="session")
def small() -> Tokenizer:
    """Learnt on Python's own sources: 1,024 ids."""
    sources = [inspect.getsource(module) for module in (json, textwrap, inspect)]
    return train_bpe(sources, 1024)


@pytest.fixture(scope="session")
def published() -> Tokenizer:
    """The published 128,000 ranks of Llama 3."""
    path = SHARED / "llama3-tokenizer" / "tokenizer.model"
    if not path.is_file():
        pytest.skip("the published rank file is not here")
    return Tokenizer.load(path)


@pytest.fixture(scope="session")
def published_directory(published: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published tokenizer as we write it."""
    directory = tmp_path_factory.mktemp("published")
    published.save(directory)
    return directory


@pytest.fixture(params=list(DIALECTS))
def chat(request: pytest.FixtureRequest, small: Tokenizer) -> ChatFormat:
    """Each dialect in turn."""
    return ChatFormat(small, request.param)


@pytest.fixture
def meta(small: Tokenizer) -> ChatFormat:
    """Meta's documentation."""
    return ChatFormat(small, "meta")


@pytest.fixture
def published_template(small: Tokenizer) -> ChatFormat:
    """What the published Hugging Face template renders."""
    return ChatFormat(small, "huggingface")
