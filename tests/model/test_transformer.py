"""What the network promises beyond its parity with the reference (tests/formats): start, seeds, rewards, exactness."""

import math

import pytest
import torch
import torch.nn.functional as F

from herd.model.attention import DocumentAttention, document_positions
from herd.model.config import ModelConfig, pocket_config
from herd.model.layers import RMSNorm
from herd.model.loss import chunked_cross_entropy
from herd.model.transformer import RewardModel, Transformer

CONFIG = ModelConfig(vocab_size=61, dim=32, layers=2, heads=2, kv_heads=1, ffn_dim=48)


def _model(config: ModelConfig = CONFIG, seed: int = 1) -> Transformer:
    model = Transformer(config)
    model.init_weights(seed)
    return model


@pytest.mark.parametrize("size", ["0.5m", "3m"])
def test_an_untrained_model_knows_nothing(size: str) -> None:
    model = Transformer(pocket_config(size, 2048))
    model.init_weights(1, induction=False)
    tokens = torch.randint(0, 2048, (65,), generator=torch.Generator().manual_seed(0))
    hidden = model(tokens[:-1], torch.arange(64), DocumentAttention([64]))
    plain = F.cross_entropy(hidden @ model.head_weight.T, tokens[1:], reduction="sum")
    total, count = chunked_cross_entropy(hidden, model.head_weight, tokens[1:])
    assert plain.item() / 64 == pytest.approx(math.log(2048), rel=0.03)
    assert total.item() / count == pytest.approx(plain.item() / 64, rel=1e-5)


def test_weights_depend_on_seed_and_name_alone() -> None:
    one, same, other = _model().state_dict(), _model().state_dict(), _model(seed=2).state_dict()
    deeper = _model(ModelConfig(vocab_size=61, dim=32, layers=3, heads=2, kv_heads=1, ffn_dim=48)).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["layers.0.ffn.up.weight"], other["layers.0.ffn.up.weight"])
    assert torch.equal(one["layers.1.attention.q.weight"], deeper["layers.1.attention.q.weight"])


def test_norm_is_taken_in_fp32() -> None:
    norm = RMSNorm(4, eps=0.0).half()
    large = torch.tensor([[3000.0, 100.0, -2000.0, 10.0]], dtype=torch.half)  # whose squares half precision cannot hold
    expected = large.double() / large.double().pow(2).mean().sqrt()
    torch.testing.assert_close(norm(large).double(), expected, atol=1e-3, rtol=1e-3)


def test_tied_head_is_the_embedding_and_learns_from_both_sides() -> None:
    model = _model(ModelConfig(vocab_size=61, dim=32, layers=1, heads=2, kv_heads=1, ffn_dim=48, tied=True))
    assert model.head_weight is model.embedding.weight
    assert sum(parameter.numel() for parameter in model.parameters()) == model.config.parameters
    total, _ = chunked_cross_entropy(
        model(torch.tensor([1, 2]), torch.arange(2), DocumentAttention([2])), model.head_weight, torch.tensor([2, 3])
    )
    total.backward()
    assert model.embedding.weight.grad is not None
    assert model.embedding.weight.grad[40].abs().sum() > 0  # never an input: its gradient comes through the head


def test_a_reward_sees_its_own_dialogue_up_to_its_token() -> None:
    reward = RewardModel.from_transformer(_model(), seed=3)
    lengths = [6, 9]
    tokens = torch.arange(15) % CONFIG.vocab_size
    rewards = reward(tokens, document_positions(lengths), DocumentAttention(lengths))
    assert rewards.shape == (15,)
    changed = tokens.clone()
    changed[8] += 1  # the third token of the second dialogue
    after = reward(changed, document_positions(lengths), DocumentAttention(lengths))
    assert torch.equal(rewards[:8], after[:8])
    assert not torch.equal(rewards[8:], after[8:])


def test_a_reward_model_starts_as_a_copy() -> None:
    base = _model()
    reward = RewardModel.from_transformer(base, seed=3)
    tokens, attend = torch.arange(7), DocumentAttention([7])
    assert torch.equal(base(tokens, tokens, attend), reward.transformer(tokens, tokens, attend))
    with torch.no_grad():
        reward.transformer.norm.weight.zero_()
    assert base.norm.weight.sum() == CONFIG.dim
