"""Packed documents never see each other, and a long row of short documents costs like short documents."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from herd.foundation.errors import HerdError
from herd.model.attention import DocumentAttention, document_positions
from herd.model.config import ModelConfig
from herd.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=97, dim=64, layers=2, heads=4, kv_heads=2, ffn_dim=96)


@pytest.fixture(scope="module")
def model() -> Transformer:
    model = Transformer(CONFIG)
    model.init_weights(5)
    return model


def _tokens(count: int) -> torch.Tensor:
    return torch.randint(0, CONFIG.vocab_size, (count,), generator=torch.Generator().manual_seed(count))


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_packed_logits_are_those_of_each_document_alone(model: Transformer, lengths: list[int]) -> None:
    tokens = _tokens(sum(lengths))
    packed = model.logits(model(tokens, document_positions(lengths), DocumentAttention(lengths)))
    alone = [
        model.logits(model(part, torch.arange(len(part)), DocumentAttention([len(part)])))
        for part in tokens.split(lengths)
    ]
    torch.testing.assert_close(packed, torch.cat(alone), atol=1e-5, rtol=1e-5)


def _dense_reference(lengths: list[int], q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention by its formula, with a mask over all pairs."""
    documents = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    place = torch.arange(len(documents))
    seen = (documents[:, None] == documents[None, :]) & (place[:, None] >= place[None, :])
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, v)


@pytest.mark.parametrize("lengths", [[24], [8, 8, 8], [5, 1, 9, 9, 13, 2]])
def test_values_and_gradients_are_those_of_a_dense_mask(lengths: list[int]) -> None:
    generator = torch.Generator().manual_seed(1)
    shapes = [(sum(lengths), heads, 16) for heads in (4, 2, 2)]
    ours = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours]
    weight = torch.randn(shapes[0], generator=generator)
    out = DocumentAttention(lengths)(0, *ours)
    expected = _dense_reference(lengths, *theirs)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)


def test_a_later_document_changes_no_earlier_logit_and_a_wrong_boundary_does(model: Transformer) -> None:
    lengths = [10, 14]
    tokens = _tokens(24)
    changed = tokens.clone()
    changed[0] = (changed[0] + 1) % CONFIG.vocab_size
    attend, positions = DocumentAttention(lengths), document_positions(lengths)
    before, after = model(tokens, positions, attend), model(changed, positions, attend)
    assert torch.equal(before[10:], after[10:])
    joined = DocumentAttention([24])
    assert not torch.allclose(model(tokens, positions, joined)[10:], model(changed, positions, joined)[10:], atol=1e-4)


def test_cost_is_that_of_the_documents_and_not_of_the_row() -> None:
    rows, length = 8192, 64
    generator = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(rows, 2, 32, generator=generator) for _ in range(3))

    def seconds(lengths: list[int]) -> float:
        attend, best = DocumentAttention(lengths), float("inf")
        for _ in range(3):
            began = time.process_time()
            attend(0, q, k, v)
            best = min(best, time.process_time() - began)
        return best

    assert seconds([length - 1, length + 1] * (rows // length // 2)) < seconds([rows]) / 4


@pytest.mark.parametrize("lengths", [[], [3, 0]])
def test_empty_documents_are_refused(lengths: list[int]) -> None:
    with pytest.raises(HerdError, match="at least one token"):
        DocumentAttention(lengths)
