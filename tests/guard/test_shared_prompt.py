"""Sharing the beginning of dialogues changes neither loss nor gradient."""

import torch

from herd.guard.shared_prompt import shared_prompt_batch, shared_prompt_loss
from herd.model.config import ModelConfig
from herd.model.transformer import Transformer
from herd.tokenizer.chat import EncodedChat
from herd.train.batch import document_batch, next_token_loss

_SHAPE = ModelConfig(vocab_size=64, dim=32, layers=2, heads=4, kv_heads=2, ffn_dim=48, max_positions=64, tied=True)


def _dialogues() -> list[EncodedChat]:
    generator = torch.Generator().manual_seed(3)
    common = torch.randint(0, 64, (17,), generator=generator).tolist()
    found = []
    for length, learnt in ((9, 3), (4, 1), (15, 2), (4, 4)):
        ids = common + torch.randint(0, 64, (length,), generator=generator).tolist()
        mask = [False] * (len(ids) - learnt) + [True] * learnt
        found.append(EncodedChat(ids, mask, mask))
    return found


def _model() -> Transformer:
    model = Transformer(_SHAPE).double()
    model.init_weights(1)
    return model


def test_loss_and_gradient_are_those_of_whole_dialogues() -> None:
    dialogues = _dialogues()
    shared, whole = _model(), _model()
    batch = shared_prompt_batch(dialogues)
    parts = shared_prompt_loss(shared, batch)
    reference = next_token_loss(whole, document_batch([d.ids for d in dialogues], [d.mask for d in dialogues]))
    assert sum(batch.lengths) < sum(len(d.ids) for d in dialogues) - 3 * 16 + 4
    assert parts.weight == reference.weight == 10
    torch.testing.assert_close(parts.total_sum, reference.total_sum, rtol=1e-5, atol=1e-5)
    parts.total_sum.backward()
    reference.total_sum.backward()
    for (name, one), (_, other) in zip(shared.named_parameters(), whole.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_a_dialogue_is_not_moved_by_its_company() -> None:
    dialogues = _dialogues()
    alone = shared_prompt_loss(_model(), shared_prompt_batch(dialogues[:1])).total_sum
    rest = shared_prompt_loss(_model(), shared_prompt_batch(dialogues[1:])).total_sum
    together = shared_prompt_loss(_model(), shared_prompt_batch(dialogues)).total_sum
    torch.testing.assert_close(together, alone + rest, rtol=1e-5, atol=1e-5)
