"""Bits per byte of held-out documents: what a model has learnt of each domain, comparable across tokenizers.

A document's text is cut into windows of the context length; every token is predicted from the tokens before it in its
window, the first of a document from the begin token.  Bits of all tokens of the text are divided by its UTF-8 bytes.
Usage: ``score_documents(model, tokenizer, documents, length=512)``, then ``bits_per_byte(scores, seed)``.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from herd.evaluate.statistics import Estimate, bootstrap_ratio
from herd.foundation.errors import HerdError
from herd.foundation.seeds import random_from
from herd.model.attention import DocumentAttention, document_positions
from herd.model.loss import token_log_probs
from herd.model.transformer import Transformer
from herd.tokenizer.tokenizer import Tokenizer

_BATCH_TOKENS = 8192


@dataclass(frozen=True)
class HeldOut:
    """A held-out document, or the beginning of one."""

    id: str
    domain: str
    text: str


@dataclass(frozen=True)
class DocumentScore:
    """Bits that a model needs for a document's text, the text's bytes, and the FLOPs of reading it."""

    id: str
    domain: str
    bits: float
    bytes: int
    flops: float = 0.0


def read_held_out(corpus: Path, per_domain: int, characters: int, seed: int) -> list[HeldOut]:
    """At most ``per_domain`` documents of every domain of a corpus' ``heldout/*.parquet``, each cut at ``characters``.

    Raises:
        HerdError: if there are no held-out documents, or none with id, domain and text.
    """
    domains: dict[str, list[HeldOut]] = {}
    for shard in sorted((corpus / "heldout").glob("*.parquet")):
        try:
            columns = pq.read_table(shard, columns=["id", "domain", "text"]).to_pydict()
        except (OSError, pa.ArrowException) as error:
            raise HerdError(f"{shard}: not readable as held-out documents ({error})") from None
        for name, domain, text in zip(columns["id"], columns["domain"], columns["text"], strict=True):
            if text:
                domains.setdefault(domain, []).append(HeldOut(name, domain, text[:characters]))
    if not domains:
        raise HerdError(f"{corpus}: there are no documents in heldout/*.parquet")
    chosen: list[HeldOut] = []
    for domain, documents in sorted(domains.items()):
        documents.sort(key=lambda document: document.id)
        chosen += random_from(seed, "held-out", domain).sample(documents, min(per_domain, len(documents)))
    return chosen


def _windows(ids: Sequence[int], length: int) -> Iterator[list[int]]:
    """Pieces of at most ``length + 1`` ids; the first id of a piece is only context, the last of the one before."""
    for start in range(0, len(ids) - 1, length):
        yield list(ids[start : start + length + 1])


@torch.inference_mode()
def score_documents(
    model: Transformer, tokenizer: Tokenizer, documents: Sequence[HeldOut], length: int
) -> list[DocumentScore]:
    """Bits and bytes of every document, in order; ``length`` is the context in tokens."""
    pieces = [
        (number, window)
        for number, document in enumerate(documents)
        for window in _windows([tokenizer.bos_id, *tokenizer.encode(document.text)], length)
    ]
    # Neighbours of one length share an attention call; the sums below do not depend on the grouping.
    pieces.sort(key=lambda piece: len(piece[1]))
    bits, flops = [0.0] * len(documents), [0.0] * len(documents)
    for number, window in pieces:
        read = len(window) - 1
        flops[number] += model.config.forward_flops(read, read * (read + 1) / 2)
    for batch in _batches(pieces):
        for (number, _), value in zip(batch, _window_bits(model, [window for _, window in batch]), strict=True):
            bits[number] += value
    return [
        DocumentScore(document.id, document.domain, value, len(document.text.encode()), taken)
        for document, value, taken in zip(documents, bits, flops, strict=True)
    ]


def _batches(pieces: Sequence[tuple[int, list[int]]]) -> Iterator[list[tuple[int, list[int]]]]:
    batch: list[tuple[int, list[int]]] = []
    for piece in pieces:
        if batch and sum(len(window) for _, window in batch) + len(piece[1]) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def _window_bits(model: Transformer, windows: Sequence[list[int]]) -> list[float]:
    """Bits of each window's ids but its first."""
    lengths = [len(window) - 1 for window in windows]
    tokens = torch.tensor([token for window in windows for token in window[:-1]])
    targets = torch.tensor([token for window in windows for token in window[1:]])
    hidden = model(tokens, document_positions(lengths), DocumentAttention(lengths))
    log_probs = token_log_probs(hidden, model.head_weight, targets).double()
    return [-float(part.sum()) / math.log(2) for part in log_probs.split(lengths)]


def bits_per_byte(scores: Sequence[DocumentScore], seed: int) -> dict[str, Estimate]:
    """Bits per byte of every domain and of ``all``, with intervals from a bootstrap over documents."""
    groups: dict[str, list[DocumentScore]] = {"all": list(scores)}
    for score in scores:
        groups.setdefault(score.domain, []).append(score)
    return {
        domain: bootstrap_ratio([score.bits for score in group], [score.bytes for score in group], seed)
        for domain, group in groups.items()
    }
