"""Documents to batches: shifted targets, masks, positions."""

import torch

from herd.model.config import ModelConfig
from herd.model.loss import IGNORE
from herd.model.transformer import Transformer
from herd.train.batch import document_batch, next_token_loss


def test_every_token_is_trained_to_give_the_next_of_its_document() -> None:
    batch = document_batch([[1, 2, 3], [7, 8]])
    assert batch.tokens_N.tolist() == [1, 2, 7]
    assert batch.targets_N.tolist() == [2, 3, 8]
    assert batch.positions_N.tolist() == [0, 1, 0]
    assert batch.lengths == [2, 1]


def test_masks_mark_what_is_to_be_emitted() -> None:
    batch = document_batch([[1, 2, 3, 4]], [[True, False, True, True]])
    assert batch.targets_N.tolist() == [IGNORE, 3, 4]


def test_documents_of_one_token_are_left_out_with_their_masks() -> None:
    batch = document_batch([[5], [1, 2]], [[True], [False, True]])
    assert batch.lengths == [1]
    assert batch.targets_N.tolist() == [2]


def test_moving_takes_everything_along_but_targets() -> None:
    batch = document_batch([[1, 2, 3]])
    batch.extra["weight"] = torch.ones(2)
    moved = batch.to(torch.device("meta"))
    assert {moved.tokens_N.device.type, moved.positions_N.device.type, moved.extra["weight"].device.type} == {"meta"}
    assert moved.targets_N is batch.targets_N
    assert moved.lengths == [2]


def test_a_micro_batch_asks_its_device_for_no_value() -> None:
    """A tensor without values would refuse the answer for which the host would have to wait for a GPU."""
    with torch.device("meta"):
        model = Transformer(ModelConfig(vocab_size=64, dim=32, layers=2, heads=2, kv_heads=1, ffn_dim=48, tied=True))
    batch = document_batch([range(30), range(5)], [[number % 3 > 0 for number in range(30)], [True] * 5])
    parts = next_token_loss(model, batch.to(torch.device("meta")))
    parts.total_sum.backward()
    assert parts.weight == int((batch.targets_N != IGNORE).sum())
    assert all(parameter.grad is not None for parameter in model.parameters())
