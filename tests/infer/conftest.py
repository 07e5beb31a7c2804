"""A tiny model and tokenizer: random weights, but logits so large that its answers differ and its choices are firm."""

from collections.abc import Callable

import pytest
import torch

from herd.infer.engine import Engine, EngineConfig
from herd.model.transformer import Transformer
from herd.tokenizer.tokenizer import Tokenizer
from tests.small import small_model

MakeEngine = Callable[..., Engine]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    ranks = {bytes([byte]): byte for byte in range(256)}
    for pair in (b"th", b"in", b"er", b'":', b'{"', "é".encode(), b"ab", b" the"):
        ranks[pair] = len(ranks)
    return Tokenizer(ranks)


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer) -> Transformer:
    model = small_model(tokenizer.vocab_size, seed=5, rope_theta=1000.0, max_positions=256, tied=False)
    chance = torch.Generator().manual_seed(5)
    with torch.no_grad():
        model.embedding.weight.normal_(generator=chance)
        model.head.weight.normal_(std=0.5, generator=chance)  # logits of a standard deviation near 3
    return model


@pytest.fixture
def make_engine(model: Transformer, tokenizer: Tokenizer) -> MakeEngine:
    def make(**options: int) -> Engine:
        return Engine(model, tokenizer, EngineConfig(**{"page_size": 4, "batch": 8, **options}))

    return make
