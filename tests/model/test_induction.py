"""A network that was never trained copies what was said once, near and far; shapes without room start plainly."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from herd.model.attention import DocumentAttention
from herd.model.config import ModelConfig, pocket_config
from herd.model.induction import draw_circuit, has_room
from herd.model.transformer import Transformer

HALF = 64


def draw(config: ModelConfig, induction: bool = True) -> Transformer:
    model = Transformer(config)
    model.init_weights(seed=3, induction=induction)
    return model


def some_tokens(count: int, vocabulary: int, seed: int) -> torch.Tensor:
    return torch.randint(0, vocabulary, (count,), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def predict(model: Transformer, tokens: torch.Tensor) -> torch.Tensor:
    """Logits (N, V) of a document."""
    return model.logits(model(tokens, torch.arange(len(tokens)), DocumentAttention([len(tokens)])))


def second_time(model: Transformer, between: int) -> tuple[float, float]:
    """Loss in nats on tokens said again after ``between`` others, and the share that is predicted first.

    The first three are left out: nothing says that a repetition begins.
    """
    vocabulary = model.config.vocab_size
    said, other = some_tokens(HALF, vocabulary, 1), some_tokens(between, vocabulary, 2)
    logits = predict(model, torch.cat([said, other, said]))[HALF + between + 2 : -1]
    right = (logits.argmax(-1) == said[3:]).float().mean().item()
    return F.cross_entropy(logits, said[3:]).item(), right


@pytest.mark.parametrize(("size", "far"), [("0.5m", 100), ("0.8m", 1000), ("1m", 1800), ("3m", 1800)])
def test_every_pocket_size_copies_before_training(size: str, far: int) -> None:
    config = pocket_config(size, 2048)
    model, plain = draw(config), draw(config, induction=False)
    loss, right = second_time(model, between=0)
    plain_loss, plain_right = second_time(plain, between=0)
    assert right > 0.7 > plain_right + 0.5
    assert loss < plain_loss - 2
    assert second_time(model, between=far)[1] > 0.5


def test_three_tokens_in_agreement_outweigh_many_places_that_share_two() -> None:
    """After ``a b c`` comes what followed ``a b c`` once, not what followed ``b c`` twenty times."""
    a, b, c, once, often = 11, 22, 33, 44, 55
    tokens = some_tokens(400, 2048, 5)
    tokens[::20], tokens[1::20], tokens[2::20] = b, c, often
    tokens[50:54] = torch.tensor([a, b, c, once])
    tokens[-3:] = torch.tensor([a, b, c])
    assert predict(draw(pocket_config("1m", 2048)), tokens)[-1].argmax() == once


def test_the_circuit_costs_text_without_repetition_little() -> None:
    tokens = some_tokens(256, 4096, 2)
    loss = F.cross_entropy(predict(draw(pocket_config("3m", 4096)), tokens)[:-1], tokens[1:]).item()
    assert loss < torch.log(torch.tensor(4096.0)).item() + 0.6


def test_the_directions_are_orthonormal_and_fill_the_stream() -> None:
    config = pocket_config("1m", 512)
    circuit = draw_circuit(config, seed=5)
    rows = torch.cat([circuit.shared_E[None], *circuit.memories_SME, circuit.own_RE])
    torch.testing.assert_close(rows @ rows.T, torch.eye(config.dim), atol=1e-5, rtol=0)
    torch.testing.assert_close(circuit.sketch_MD @ circuit.sketch_MD.T, torch.eye(10), atol=1e-5, rtol=0)


@pytest.mark.parametrize("change", [{"tied": False}, {"layers": 2}, {"kv_heads": 2}, {"heads": 1}])
def test_shapes_without_room_start_plainly(change: dict[str, int]) -> None:
    config = replace(pocket_config("1m", 512), **change)  # type: ignore[arg-type]
    assert not has_room(config)
    with_, without = draw(config).state_dict(), draw(config, induction=False).state_dict()
    assert all(torch.equal(value, without[name]) for name, value in with_.items())
