"""Documents that are the same: one page per address, and one document per family of near-duplicates, over everything.

Near-duplicates are found as in Broder 1997 (paper, section 3.1.1): MinHash signatures of word shingles, banded so that
similar documents meet in a bucket, every meeting verified on the signatures, families the connected components.
Buckets are spread over partitions by their digest; one partition is in memory at a time, and of every document a number
that leads to the first of its family.  Which documents meet does not depend on the number of partitions, and the
survivor of a family is its best document, not the one that came first.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from rensa import RMinHash

from herd.corpus.signatures import Rows, Signatures, SignatureTable
from herd.corpus.words import Hashes, hash_ngrams, hash_text
from herd.foundation.config import Config

NOWHERE = np.iinfo(np.int64).max
_ALL_PAIRS_LIMIT = 48
_ANCHORS = 8
_PAIRS_AT_A_TIME = 1 << 13
_ROWS_AT_A_TIME = 1 << 14


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
    shingles, lengths = _shingles(word_hashes, config.shingle_words)
    offsets = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(lengths, dtype=np.uint64)])
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        shingles, offsets, num_perm=config.permutations, seed=config.seed
    )
    signatures: Signatures = np.array(matrix.to_rows(), dtype=np.uint32).reshape(len(lengths), config.permutations)
    return signatures


def _shingles(word_hashes: Sequence[Hashes], n: int) -> tuple[Hashes, Rows]:
    """The shingles of all documents one after the other, and how many each has.

    They are hashed over all texts at once; those that begin in one document and end in the next are left out.
    """
    words = np.array([len(hashes) for hashes in word_hashes], dtype=np.int64)
    sizes = np.where(words > 0, np.maximum(words, n), 0)
    blanks = [np.zeros(size, dtype=np.uint64) for size in range(n)]
    padded = [
        part
        for hashes in word_hashes
        for part in ((hashes, blanks[n - len(hashes)]) if 0 < len(hashes) < n else (hashes,))
    ]
    flat = np.concatenate([*padded, np.zeros(n - 1, dtype=np.uint64)])
    place = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    lengths = np.maximum(sizes - n + 1, 0)
    return hash_ngrams(flat, n)[place < np.repeat(lengths, sizes)], lengths


def families(
    signatures: SignatureTable, config: DedupConfig, rows: Rows | None = None, work: Path | None = None
) -> Rows:
    """The families of ``rows`` (all by default): position in ``rows`` of the first member, shape (len(rows),)."""
    rows = np.arange(len(signatures)) if rows is None else rows
    return families_against(signatures, rows[:0], rows, config, work)[0]


def families_against(
    signatures: SignatureTable, earlier: Rows, rows: Rows, config: DedupConfig, work: Path | None = None
) -> tuple[Rows, Rows]:
    """The families of ``rows``, and of each of these the first ``earlier`` row that its family is like, or ``NOWHERE``.

    All rows are in ascending order, earlier ones first, and no two of those are compared.  Buckets are in a new
    directory below ``work`` (where the system has its temporary ones, if none is given) until they are compared.
    """
    found = Families(rows)
    if not len(rows):
        return found.result()
    with tempfile.TemporaryDirectory(dir=work) as place:
        buckets = Buckets(Path(place), config)
        for part in (earlier, rows):
            buckets.add(signatures, part)
        for members, keys in buckets:
            meeting = np.isin(keys, keys[np.searchsorted(members, rows[0]) :]) if len(earlier) else slice(None)
            for pairs in candidates(members[meeting], keys[meeting]):
                telling = pairs[found.could_tell(pairs)]
                found.add(telling[are_alike(signatures, telling, config.similarity)])
    return found.result()


class Buckets:
    """The buckets of all bands on the disk, divided by digest; one division of a band is in memory at a time."""

    def __init__(self, directory: Path, config: DedupConfig) -> None:
        self._directory, self._config = directory, config

    def add(self, signatures: SignatureTable, rows: Rows) -> None:
        """Puts ``rows``, in ascending order and above those that were added before, into the buckets of every band."""
        for begin in range(0, len(rows), _ROWS_AT_A_TIME):
            members = rows[begin : begin + _ROWS_AT_A_TIME]
            own = signatures[members]
            for band in range(self._config.bands):
                keys = band_keys(own, band, self._config)
                division = keys % np.uint64(self._config.partitions)
                for number in np.unique(division).tolist():
                    here = division == number
                    with self._file(band, number).open("ab") as file:
                        np.stack([keys[here], members[here].astype(np.uint64)], axis=1).tofile(file)

    def __iter__(self) -> Iterator[tuple[Rows, Hashes]]:
        """Members, in ascending order, and the keys of their buckets, one division of a band after the other."""
        for band in range(self._config.bands):
            for number in range(self._config.partitions):
                if (path := self._file(band, number)).exists():
                    keys, members = np.fromfile(path, dtype=np.uint64).reshape(-1, 2).T
                    yield members.astype(np.int64), keys

    def _file(self, band: int, number: int) -> Path:
        return self._directory / f"{band:03d}-{number:05d}.bin"


def band_keys(signatures: Signatures, band: int, config: DedupConfig) -> Hashes:
    """The bucket of each signature in a band, as a digest: shape (len(signatures),)."""
    own = np.ascontiguousarray(signatures[:, band * config.rows : (band + 1) * config.rows], dtype=np.uint64)
    return hash_ngrams(own.reshape(-1), config.rows)[:: config.rows]


def candidates(members: Rows, keys: Hashes) -> Iterator[Rows]:
    """The pairs of ``members`` that must be compared, some at a time, shape (pairs, 2): those that share a key.

    ``members`` are in ascending order.  In a huge bucket (an empty page a million times) the first ones are compared
    with each other and the rest with the very first few, so that members that come later change nothing about the
    pairs of those before them.
    """
    order = np.argsort(keys, kind="stable")
    edges = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]], append=~keys[order[-1:]]))
    sizes, starts = np.diff(edges), edges[:-1]
    for size in np.unique(sizes[sizes > 1]).tolist():
        one, other = _pairs_of_bucket(size)
        first = starts[sizes == size]
        step = max(_PAIRS_AT_A_TIME // len(one), 1)
        for begin in range(0, len(first), step):
            places = first[begin : begin + step, None]
            pairs = np.stack([order[places + one], order[places + other]], axis=-1)
            yield members[pairs.reshape(-1, 2)]


def _pairs_of_bucket(size: int) -> tuple[Rows, Rows]:
    """Places in a bucket of ``size`` members that are compared, the earlier one first."""
    among = np.arange(min(size, _ALL_PAIRS_LIMIT))
    one, other = np.nonzero(among[None, :] > among[:, None])
    late = np.arange(len(among), size)
    return (
        np.concatenate([one, np.tile(np.arange(_ANCHORS), len(late))]),
        np.concatenate([other, np.repeat(late, _ANCHORS)]),
    )


def are_alike(signatures: SignatureTable, pairs: Rows, similarity: float) -> NDArray[np.bool_]:
    """Which ``pairs`` of rows agree in a share of ``similarity`` of their signatures or more."""
    alike = np.empty(len(pairs), dtype=np.bool_)
    for begin in range(0, len(pairs), _PAIRS_AT_A_TIME):
        rows, place = np.unique(pairs[begin : begin + _PAIRS_AT_A_TIME], return_inverse=True)
        own = signatures[rows]
        one, other = place.reshape(-1, 2).T
        alike[begin : begin + _PAIRS_AT_A_TIME] = (own[one] == own[other]).mean(axis=1) >= similarity
    return alike


class Forest:
    """Which of so many members belong together: each leads to an earlier one of its family, the first to itself."""

    def __init__(self, members: int) -> None:
        self._earlier: Rows = np.arange(members, dtype=np.int64)

    def are_apart(self, pairs: Rows) -> NDArray[np.bool_]:
        """Which ``pairs`` of members are not known to belong together."""
        one, other = self._first(pairs).T
        apart: NDArray[np.bool_] = one != other
        return apart

    def join(self, pairs: Rows) -> None:
        """The members of each pair turned out to belong together."""
        # Every first that meets a smaller one leads to it from now on, until no pair is apart.
        ends = self._first(pairs)
        while len(ends := ends[ends[:, 0] != ends[:, 1]]):
            np.minimum.at(self._earlier, ends.max(axis=1), ends.min(axis=1))
            ends = self._first(ends)

    def firsts(self) -> Rows:
        """The first member of each one's family, shape (members,)."""
        for begin in range(0, len(self._earlier), _ROWS_AT_A_TIME):
            part = self._earlier[begin : begin + _ROWS_AT_A_TIME]
            part[:] = self._first(part)
        return self._earlier

    def _first(self, members: Rows) -> Rows:
        while not np.array_equal(above := self._earlier[members], members):
            members = above
        return members


class Families:
    """What is known of ``rows``: their families, and the first of all earlier rows that each of them is like."""

    def __init__(self, rows: Rows) -> None:
        self._rows, self._forest = rows, Forest(len(rows))
        self._met: Rows = np.full(len(rows), NOWHERE, dtype=np.int64)

    def could_tell(self, pairs: Rows) -> NDArray[np.bool_]:
        """Which ``pairs`` would tell something if they were alike; a pair of two earlier rows does not."""
        earlier, later = self._split(pairs)
        tells = np.zeros(len(pairs), dtype=np.bool_)
        tells[later] = self._forest.are_apart(self._places(pairs[later]))
        tells[earlier] = pairs[earlier, 0] < self._met[self._places(pairs[earlier, 1])]
        return tells

    def add(self, pairs: Rows) -> None:
        """Takes in that the rows of each pair are alike."""
        earlier, later = self._split(pairs)
        self._forest.join(self._places(pairs[later]))
        np.minimum.at(self._met, self._places(pairs[earlier, 1]), pairs[earlier, 0])

    def result(self) -> tuple[Rows, Rows]:
        """Of each row the position of its family's first, and the first earlier row that its family is like."""
        family = self._forest.firsts()
        first = np.full(len(family), NOWHERE, dtype=np.int64)
        np.minimum.at(first, family, self._met)
        return family, first[family]

    def _split(self, pairs: Rows) -> tuple[Rows, Rows]:
        """The pairs of an earlier row and one of ours, and those of two of ours."""
        ours = pairs >= self._rows[:1]
        return np.flatnonzero(ours[:, 1] & ~ours[:, 0]), np.flatnonzero(ours[:, 0])

    def _places(self, rows: Rows) -> Rows:
        return np.searchsorted(self._rows, rows)


def survivors(family: Rows, qualities: Sequence[float], ids: Sequence[str]) -> NDArray[np.bool_]:
    """True for the best document of each family: highest quality, then smallest id."""
    best: dict[int, int] = {}
    for row, root in enumerate(family.tolist()):
        other = best.get(root)
        if other is None or (-qualities[row], ids[row]) < (-qualities[other], ids[other]):
            best[root] = row
    keep = np.zeros(len(family), dtype=np.bool_)
    keep[list(best.values())] = True
    return keep
