"""Documents to batches: shifted targets, masks, positions."""

import torch

from herd.model.loss import IGNORE
from herd.train.batch import document_batch


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


def test_moving_takes_everything_along() -> None:
    batch = document_batch([[1, 2, 3]])
    batch.extra["weight"] = torch.ones(2)
    moved = batch.to(torch.device("meta"))
    devices = {moved.tokens_N.device.type, moved.targets_N.device.type, moved.extra["weight"].device.type}
    assert devices == {"meta"}
    assert moved.lengths == [2]
