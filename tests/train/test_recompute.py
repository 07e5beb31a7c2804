"""Recomputation changes no bit of a loss or of a gradient.  What it keeps is measured in ``tests/plan/test_memory``."""

import pytest
import torch
from torch import Tensor, nn

from herd.model.attention import DocumentAttention
from herd.model.config import ModelConfig
from herd.model.transformer import RewardModel, Transformer
from herd.train.batch import document_batch, next_token_loss
from herd.train.compiled import CompiledLayers, compiler_available
from herd.train.precision import Precision, in_precision
from herd.train.recompute import Recompute, RecomputedLayers

SHAPE = ModelConfig(vocab_size=97, dim=64, layers=3, heads=4, kv_heads=2, ffn_dim=160, tied=True)
LENGTHS = [21, 40, 3]
BATCH = document_batch([[(7 * number) % 97 for number in range(length + 1)] for length in LENGTHS])
KINDS: tuple[Recompute, ...] = ("selective", "full")


def network() -> Transformer:
    model = Transformer(SHAPE)
    model.init_weights(3)
    return model


def step(model: nn.Module, recompute: Recompute, precision: Precision = "fp32") -> list[Tensor]:
    """Loss and gradients of one step, through a language model's loss or a reward model's sum of squares."""
    model.zero_grad()
    with RecomputedLayers(model, recompute):
        with in_precision(precision, torch.device("cpu")):
            if isinstance(model, RewardModel):
                loss = model(BATCH.tokens_N, BATCH.positions_N, DocumentAttention(BATCH.lengths)).square().sum()
            else:
                loss = next_token_loss(model, BATCH).total_sum
        loss.backward()
    return [loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


@pytest.mark.parametrize("recompute", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_bit_changes(recompute: Recompute, precision: Precision) -> None:
    model = network()
    assert equal(step(model, recompute, precision), step(model, "none", precision))
    assert all("forward" not in vars(layer) for layer in model.layers)


@pytest.mark.parametrize("recompute", KINDS)
def test_no_bit_of_a_reward_models_gradient_changes(recompute: Recompute) -> None:
    model = RewardModel.from_transformer(network(), seed=1)
    assert equal(step(model, recompute), step(model, "none"))


@pytest.mark.slow
@pytest.mark.skipif(compiler_available() is not None, reason="no C++ compiler to compile layers with")
@pytest.mark.parametrize("recompute", KINDS)
def test_no_bit_of_compiled_layers_changes(recompute: Recompute) -> None:
    model = network()
    with CompiledLayers(model):
        assert equal(step(model, recompute), step(model, "none"))


def test_layers_run_a_second_time_and_only_where_there_are_gradients() -> None:
    model, calls = network(), []
    model.layers[0].ffn_norm.register_forward_hook(lambda *_: calls.append(1))
    step(model, "full")
    assert len(calls) == 2
    with torch.no_grad(), RecomputedLayers(model, "full"):
        next_token_loss(model, BATCH)
    assert len(calls) == 3
