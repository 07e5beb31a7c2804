"""Samples to batches: targets stay within their document, every token is used, the ramp counts rows."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from herd.foundation.files import write_json
from herd.model.attention import DocumentAttention
from herd.model.config import ModelConfig
from herd.model.transformer import Transformer
from herd.train.batch import Batch, next_token_loss
from herd.train.pretrain import PretrainSource, held_out_batches, sample_batch
from herd.train.schedule import BatchRamp, RampStep
from herd.train.stream import Sample, Source, TokenStream
from herd.train.tokens import TokenShard

BEGIN, END = 0, 1
LENGTHS = [9, 31, 14, 6, 3, 50, 2]


@pytest.fixture
def shard(tmp_path: Path) -> TokenShard:
    """Documents whose ordinary tokens are all different."""
    documents, following = [], 10
    for length in LENGTHS:
        documents.append([BEGIN, *range(following, following + length - 2), END])
        following += length - 2
    (tmp_path / "train").mkdir()
    np.concatenate([np.array(each, dtype="<u2") for each in documents]).tofile(tmp_path / "train" / "general.bin")
    np.save(tmp_path / "train" / "general.index.npy", np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int64))
    write_json(tmp_path / "meta.json", {"dtype": "uint16"})
    return TokenShard(tmp_path / "train" / "general.bin")


def pairs(batch: Batch) -> list[tuple[int, int]]:
    return [pair for pair in zip(batch.tokens_N.tolist(), batch.targets_N.tolist(), strict=True) if pair[1] != -100]


def check_shape(batch: Batch) -> None:
    assert batch.tokens_N.dtype == batch.targets_N.dtype == torch.int64
    assert len(batch.tokens_N) == len(batch.targets_N) == len(batch.positions_N) == sum(batch.lengths)
    assert min(batch.lengths) > 0
    assert batch.positions_N.tolist() == [place for length in batch.lengths for place in range(length)]


def test_targets_stay_within_their_document() -> None:
    # Two documents, and the first token of a third that is there only as a target, but is none across the boundary.
    batch = sample_batch([Sample(np.array([0, 10, 11, 1, 0, 12, 1, 0]), [4, 3, 1], "general")])
    assert batch.tokens_N.tolist() == [0, 10, 11, 1, 0, 12, 1]
    assert batch.targets_N.tolist() == [10, 11, 1, -100, 12, 1, -100]
    assert batch.positions_N.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert batch.lengths == [4, 3]


def test_a_document_that_goes_on_gives_its_next_token_as_target() -> None:
    first = Sample(np.array([0, 10, 11, 1, 0]), [4, 1], "general")
    cut = Sample(np.array([20, 21, 22, 23, 24]), [5], "general")
    batch = sample_batch([first, cut])
    assert batch.targets_N.tolist() == [10, 11, 1, -100, 21, 22, 23, 24]
    assert batch.lengths == [4, 4]


def test_an_epoch_of_batches_holds_every_transition_once(shard: TokenShard) -> None:
    length = 23
    assert shard.tokens % length == 0
    stream = TokenStream([Source(shard, 1.0)], 4, length)
    source = PretrainSource(stream, BatchRamp.constant(1), micro_tokens=length)
    seen: Counter[tuple[int, int]] = Counter()
    for step in range(shard.tokens // length):
        for batch in source.batches(step):
            check_shape(batch)
            assert len(batch.tokens_N) == length
            seen.update(pairs(batch))
    documents = [shard.document(number).tolist() for number in range(len(shard))]
    expected = Counter(pair for each in documents for pair in pairwise(each))
    assert seen == expected


def test_rows_cut_into_pieces_hold_every_transition_once_and_no_longer_document(shard: TokenShard) -> None:
    stream = TokenStream([Source(shard, 1.0)], 4, 115)
    ramp = BatchRamp(ramp=(RampStep(step=0, rows=1, pieces=5), RampStep(step=1, rows=1)))
    [cut], [whole] = (PretrainSource(stream, ramp, micro_tokens=115).batches(step) for step in (0, 1))
    check_shape(cut)
    assert len(cut.tokens_N) == len(whole.tokens_N) == 115
    assert max(whole.lengths) > 23 == max(cut.lengths)
    assert np.cumsum(cut.lengths).tolist()[-1] == 115
    assert {23, 46, 69, 92} <= set(np.cumsum(cut.lengths).tolist())
    documents = [shard.document(number).tolist() for number in range(len(shard))]
    expected = Counter(pair for each in documents for pair in pairwise(each))
    assert Counter(pairs(cut)) == Counter(pairs(whole)) == expected


def test_the_ramp_takes_the_next_samples_and_skips_none(shard: TokenShard) -> None:
    stream = TokenStream([Source(shard, 1.0)], 4, 8)
    ramp = BatchRamp(ramp=(RampStep(step=0, rows=2), RampStep(step=3, rows=5)))
    source = PretrainSource(stream, ramp, micro_tokens=16)
    rows = [[len(batch.tokens_N) // 8 for batch in source.batches(step)] for step in range(5)]
    assert rows == [[2], [2], [2], [2, 2, 1], [2, 2, 1]]
    taken = torch.cat([batch.tokens_N for step in range(5) for batch in source.batches(step)])
    expected = np.concatenate([stream.sample(number).tokens[:-1] for number in range(16)])
    assert taken.tolist() == expected.tolist()


def test_a_row_larger_than_a_micro_batch_goes_alone(shard: TokenShard) -> None:
    source = PretrainSource(TokenStream([Source(shard, 1.0)], 4, 50), BatchRamp.constant(3), micro_tokens=20)
    assert [len(batch.tokens_N) for batch in source.batches(0)] == [50, 50, 50]


@pytest.mark.parametrize("length", [4, 16, 200])
def test_held_out_documents_are_measured_once_and_whole(shard: TokenShard, length: int) -> None:
    seen: Counter[int] = Counter()
    for batch in held_out_batches(shard, length, micro_tokens=40):
        check_shape(batch)
        assert max(batch.lengths) <= length
        assert len(batch.tokens_N) <= max(40, length)
        seen.update(batch.targets_N.tolist())
    assert seen == Counter(int(token) for number in range(len(shard)) for token in shard.document(number)[1:])


def test_held_out_stops_at_its_limit(shard: TokenShard) -> None:
    targets = sum(len(batch.targets_N) for batch in held_out_batches(shard, 16, 40, limit_tokens=30))
    assert targets == LENGTHS[0] + LENGTHS[1] - 2


def test_packing_does_not_change_a_document_s_loss(shard: TokenShard) -> None:
    """The loss of packed rows is the sum of the losses of their pieces alone."""
    torch.manual_seed(0)
    model = Transformer(ModelConfig(vocab_size=256, dim=32, layers=2, heads=2, kv_heads=1, ffn_dim=64, tied=True))
    model.init_weights(0)
    stream = TokenStream([Source(shard, 1.0)], 4, 20)
    batch = sample_batch([stream.sample(number) for number in range(3)])
    packed = next_token_loss(model, batch)
    alone = torch.zeros(())
    start = 0
    for length in batch.lengths:
        part = slice(start, start + length)
        hidden = model(batch.tokens_N[part], torch.arange(length), DocumentAttention([length]))
        logits = model.logits(hidden)
        alone = alone + torch.nn.functional.cross_entropy(logits, batch.targets_N[part], reduction="sum")
        start += length
    assert packed.total_sum.item() == pytest.approx(alone.item(), rel=1e-5)
    assert packed.weight == int((batch.targets_N != -100).sum())
