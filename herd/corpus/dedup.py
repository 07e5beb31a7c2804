"""Documents that are the same: one page per address, and one document per family of near-duplicates, over everything.

Near-duplicates are found as in Broder 1997 (paper, section 3.1.1): MinHash signatures of word shingles, banded so that
similar documents meet in a bucket, every meeting verified on the signatures, families the connected components.
Buckets are spread over partitions by their digest and one partition is in memory at a time; which documents meet does
not depend on the number of partitions, and the survivor of a family is its best document, not the one that came first.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from rensa import RMinHash

from herd.corpus.words import Hashes, hash_ngrams, hash_text
from herd.foundation.config import Config

Signatures = NDArray[np.uint32]

_ALL_PAIRS_LIMIT = 48
_ANCHORS = 8


class DedupConfig(Config):
    """MinHash of ``shingle_words``-word shingles, ``bands`` x ``rows`` permutations; families above ``similarity``."""

    shingle_words: int = Field(default=3, ge=1)
    bands: int = Field(default=32, ge=1)
    rows: int = Field(default=8, ge=1)
    similarity: float = Field(default=0.8, gt=0, le=1)
    partitions: int = Field(default=1, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _bands_find_what_counts(self) -> "DedupConfig":
        found = 1 - (1 - self.similarity**self.rows) ** self.bands
        if found < 0.9:
            raise ValueError(f"{self.bands} bands of {self.rows} rows find only {found:.0%} at {self.similarity}")
        return self

    @property
    def permutations(self) -> int:
        """Length of a signature."""
        return self.bands * self.rows


def newest_by_address(pages: Iterable[tuple[str, str | None, str]]) -> NDArray[np.bool_]:
    """Which of the ``(address, date, id)`` rows to keep: per address the newest date, ties by the smallest id.

    Dates are ISO 8601; a page without one counts as older than any.  An empty address is nobody's duplicate.
    """
    best: dict[int, tuple[str, str, int]] = {}
    keep: list[bool] = []
    for row, (address, date, identifier) in enumerate(pages):
        keep.append(True)
        if not address:
            continue
        key = hash_text(address)
        other = best.get(key)
        if other is None:
            best[key] = (date or "", identifier, row)
        elif (date or "") > other[0] or ((date or "") == other[0] and identifier < other[1]):
            keep[other[2]] = False
            best[key] = (date or "", identifier, row)
        else:
            keep[row] = False
    return np.array(keep, dtype=np.bool_)


def sign(word_hashes: Sequence[Hashes], config: DedupConfig) -> Signatures:
    """MinHash signatures, shape (documents, permutations); a text shorter than a shingle is one shingle."""
    shingles = []
    for hashes in word_hashes:
        if 0 < len(hashes) < config.shingle_words:
            hashes = np.concatenate([hashes, np.zeros(config.shingle_words - len(hashes), dtype=np.uint64)])
        shingles.append(hash_ngrams(hashes, config.shingle_words))
    if not shingles:
        return np.empty((0, config.permutations), dtype=np.uint32)
    offsets = np.zeros(len(shingles) + 1, dtype=np.uint64)
    np.cumsum([len(row) for row in shingles], out=offsets[1:])
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        np.ascontiguousarray(np.concatenate(shingles)), offsets, num_perm=config.permutations, seed=config.seed
    )
    signatures: Signatures = np.array(matrix.to_rows(), dtype=np.uint32).reshape(len(shingles), config.permutations)
    return signatures


def families(signatures: Signatures, config: DedupConfig, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """The families of ``rows`` (all by default): position in ``rows`` of the first member, shape (len(rows),)."""
    rows = np.arange(len(signatures)) if rows is None else rows
    parents = np.arange(len(rows), dtype=np.int64)
    for band in range(config.bands):
        keys = _band_keys(signatures[rows, band * config.rows : (band + 1) * config.rows])
        for partition in range(config.partitions):
            members = np.flatnonzero(keys % np.uint64(config.partitions) == partition)
            _join_buckets(members, keys[members], signatures, rows, config.similarity, parents)
    return np.array([_root(parents, row) for row in range(len(parents))], dtype=np.int64)


def _band_keys(band: NDArray[np.uint32]) -> Hashes:
    keys = hash_ngrams(np.ascontiguousarray(band, dtype=np.uint64).reshape(-1), band.shape[1])
    return keys[:: band.shape[1]]


def _join_buckets(
    members: NDArray[np.int64],
    keys: Hashes,
    signatures: Signatures,
    rows: NDArray[np.int64],
    similarity: float,
    parents: NDArray[np.int64],
) -> None:
    order = np.argsort(keys, kind="stable")
    members, keys = members[order], keys[order]
    if not len(keys):
        return
    edges = np.flatnonzero(np.diff(keys)) + 1
    starts, ends = np.concatenate([[0], edges]), np.concatenate([edges, [len(keys)]])
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        bucket = members[start:end]
        # A huge bucket (an empty page a million times) is compared with a few of its members, not all with all.
        anchors = bucket[:-1] if len(bucket) <= _ALL_PAIRS_LIMIT else bucket[:_ANCHORS]
        for position, anchor in enumerate(anchors):
            others = bucket[position + 1 :]
            others = others[[_root(parents, other) != _root(parents, anchor) for other in others]]
            if len(others):
                alike = (signatures[rows[others]] == signatures[rows[anchor]]).mean(axis=1) >= similarity
                for other in others[alike]:
                    _union(parents, anchor, other)


def _root(parents: NDArray[np.int64], row: int) -> int:
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = parents[row]
    return int(row)


def _union(parents: NDArray[np.int64], one: int, other: int) -> None:
    a, b = _root(parents, one), _root(parents, other)
    parents[max(a, b)] = min(a, b)


def survivors(family: NDArray[np.int64], qualities: Sequence[float], ids: Sequence[str]) -> NDArray[np.bool_]:
    """True for the best document of each family: highest quality, then smallest id."""
    best: dict[int, int] = {}
    for row, root in enumerate(family.tolist()):
        other = best.get(root)
        if other is None or (-qualities[row], ids[row]) < (-qualities[other], ids[other]):
            best[root] = row
    keep = np.zeros(len(family), dtype=np.bool_)
    keep[list(best.values())] = True
    return keep


def open_signatures(path: Path) -> Signatures:
    """Maps signatures saved with ``numpy.save``, so that only what is compared comes into memory."""
    signatures: Signatures = np.load(path, mmap_mode="r")
    return signatures
