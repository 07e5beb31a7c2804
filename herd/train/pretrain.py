"""Batches for training on documents: pre-training, long context, annealing, and held-out loss.

    source = PretrainSource(stream, ramp, micro_tokens=4096)
    train(config, model, source, next_token_loss, out, progress)

A token's target is the next token of its own document; the last token of a document has none.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from herd.model.attention import document_positions
from herd.model.loss import IGNORE
from herd.train.batch import Batch
from herd.train.schedule import BatchRamp
from herd.train.stream import Sample, TokenStream
from herd.train.tokens import TokenShard


def sample_batch(samples: Sequence[Sample]) -> Batch:
    """One micro-batch of whole samples: each row gives all its tokens but the last, which is only a target."""
    tokens: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    lengths: list[int] = []
    for sample in samples:
        ids = sample.tokens.astype(np.int64)
        following = ids[1:].copy()
        ends = np.cumsum(sample.lengths)[:-1] - 1
        following[ends] = IGNORE
        tokens.append(ids[:-1])
        targets.append(following)
        lengths += [*sample.lengths[:-1], *([sample.lengths[-1] - 1] if sample.lengths[-1] > 1 else [])]
    return Batch(
        torch.from_numpy(np.concatenate(tokens)),
        document_positions(lengths),
        torch.from_numpy(np.concatenate(targets)),
        lengths,
    )


class PretrainSource:
    """The batches of a stream: step after step the next samples, as many as the ramp says.

    Where processes share a step, each takes its part of the rows: part ``part`` of ``parts`` equal ones, in order.
    """

    def __init__(self, stream: TokenStream, ramp: BatchRamp, micro_tokens: int, part: int = 0, parts: int = 1) -> None:
        self.stream, self.ramp, self.part, self.parts = stream, ramp, part, parts
        self._micro_rows = max(micro_tokens // stream.sequence_length, 1)

    def batches(self, step: int) -> list[Batch]:
        """The micro-batches of one step, each of at most ``micro_tokens`` tokens but at least one row."""
        rows = self.ramp.rows(step) // self.parts
        first = self.ramp.rows_before(step) + self.part * rows
        numbers = range(first, first + rows)
        pieces = self.ramp.pieces(step)
        samples = [piece for number in numbers for piece in self.stream.sample(number).cut(pieces)]
        micro_rows = self._micro_rows * pieces
        return [sample_batch(samples[start : start + micro_rows]) for start in range(0, len(samples), micro_rows)]


def held_out_batches(
    shard: TokenShard, sequence_length: int, micro_tokens: int, limit_tokens: int | None = None
) -> Iterator[Batch]:
    """A shard's documents in order, each token once, those longer than ``sequence_length`` cut into pieces.

    The first token of a piece that goes on from another is given again as its input, so that it is a target there:
    every token but the begin tokens is a target exactly once. Stops after ``limit_tokens`` tokens.
    """
    pieces: list[np.ndarray] = []
    waiting = total = 0
    for number in range(len(shard)):
        if limit_tokens is not None and total >= limit_tokens:
            break
        document = shard.document(number)
        for start in range(0, len(document) - 1, sequence_length):
            piece = document[start : start + sequence_length + 1]
            if waiting and waiting + len(piece) > micro_tokens:
                yield _piece_batch(pieces)
                pieces, waiting = [], 0
            pieces.append(piece)
            waiting += len(piece)
            total += len(piece) - 1
    if pieces:
        yield _piece_batch(pieces)


def _piece_batch(pieces: Sequence[np.ndarray]) -> Batch:
    lengths = [len(piece) - 1 for piece in pieces]
    tokens = np.concatenate([piece[:-1] for piece in pieces]).astype(np.int64)
    targets = np.concatenate([piece[1:] for piece in pieces]).astype(np.int64)
    return Batch(torch.from_numpy(tokens), document_positions(lengths), torch.from_numpy(targets), lengths)
