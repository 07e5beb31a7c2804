"""Lines that stand in many documents: menus, notices and stock sentences go, at most one copy of each stays.

As in ccNet and the paper (section 3.1.1) a line counts once a document, and goes when it stands in more than six of a
bucket of 30 million documents, those of earlier snapshots among them where all fit into one.  Three mercies keep text
readable: a frequent line goes only where most of its block (the lines between two blank ones) is frequent too, so that
"Returns:" inside a docstring stays; a line that ends in a colon goes only with what it introduces; and the document
with the smallest key keeps its copy.  Counting is spread over partitions on the disk, one of which is in memory at a
time.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from herd.corpus.characters import ALPHANUMERIC, code_points, kinds_of
from herd.corpus.words import Hashes, hash_text
from herd.foundation.config import Config

_SPACE, _LINE_BREAK, _ZERO, _NINE = map(ord, " \n09")
_SPOOL_ROWS = 1 << 18


class LinesConfig(Config):
    """A line goes when it stands in more than ``maximum_documents`` documents of its bucket.

    More than ``block_share`` of a block's lines must be frequent before any of them goes (0: the paper's plain rule);
    documents of ``exempt_domains`` are neither counted nor cut, as a closing bracket is not boilerplate.
    """

    maximum_documents: int = Field(default=6, ge=1)
    bucket_documents: int = Field(default=30_000_000, ge=1)
    partitions: int = Field(default=1, ge=1)
    block_share: float = Field(default=0.5, ge=0, le=1)
    keep_one: bool = True
    exempt_domains: tuple[str, ...] = ("code",)


def line_key(line: str) -> int:
    """Digest of a line's words without case, digits and punctuation, as ccNet's; 0 for a line without letters."""
    return line_keys(line)[0]


def line_keys(text: str) -> list[int]:
    """The key of every line of ``text``."""
    codes = code_points(text.casefold())
    plain = np.where((codes > _ZERO) & (codes <= _NINE), _ZERO, codes)
    plain[((kinds_of(codes) & ALPHANUMERIC) == 0) & (codes != _LINE_BREAK)] = _SPACE
    lines = plain.astype("<u4").tobytes().decode("utf-32-le").split("\n")
    return [_key(line.split()) for line in lines]


def _key(words: list[str]) -> int:
    return hash_text(" ".join(words)) if any(not word.isdigit() for word in words) else 0


class LineCounts:
    """Counts in how many documents of each bucket a line stands; ``directory`` holds what does not belong in memory."""

    def __init__(self, config: LinesConfig, documents: int, directory: Path) -> None:
        self._config = config
        self.documents = documents
        self.buckets = self._buckets(documents)
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        for stale in directory.glob("lines-*.bin"):
            stale.unlink()
        self._held: list[NDArray[np.uint64]] = []
        self._rows = 0

    def _buckets(self, documents: int) -> int:
        return -(-max(documents, 1) // self._config.bucket_documents)

    def fits(self, earlier: int) -> bool:
        """Whether so many documents of earlier snapshots share one bucket with these."""
        return self._buckets(self.documents + earlier) == 1

    def bucket(self, document_key: int) -> int:
        """The bucket of a document: drawn by its key, so that it does not depend on the order of reading."""
        return document_key % self.buckets

    def add(self, document_key: int, keys: list[int]) -> None:
        """Counts the lines of one document."""
        distinct = np.array(sorted(set(keys) - {0}), dtype=np.uint64)
        rows = np.stack([distinct, np.full(len(distinct), document_key, dtype=np.uint64)], axis=1)
        self._held.append(rows)
        self._rows += len(rows)
        if self._rows >= _SPOOL_ROWS:
            self._spool()

    def _spool(self) -> None:
        if not self._held:
            return
        rows = np.concatenate(self._held)
        partition = rows[:, 0] % np.uint64(self._config.partitions)
        bucket = rows[:, 1] % np.uint64(self.buckets)
        place = bucket * np.uint64(self._config.partitions) + partition
        order = np.argsort(place, kind="stable")
        edges = np.flatnonzero(np.diff(place[order])) + 1
        for part in np.split(order, edges):
            if len(part):
                with self._file(int(bucket[part[0]]), int(partition[part[0]])).open("ab") as out:
                    rows[part].tofile(out)
        self._held, self._rows = [], 0

    def _file(self, bucket: int, partition: int) -> Path:
        return self._directory / f"lines-{bucket:05d}-{partition:05d}.bin"

    def earlier(self, keys: Hashes, documents: NDArray[np.uint32]) -> None:
        """Adds lines of earlier snapshots, each in so many documents; they share the only bucket with the new ones."""
        partition = keys % np.uint64(self._config.partitions)
        for number in np.unique(partition).tolist():
            here = partition == number
            with self._earlier(number).open("ab") as out:
                np.stack([keys[here], documents[here].astype(np.uint64)], axis=1).tofile(out)

    def _earlier(self, partition: int) -> Path:
        return self._directory / f"lines-earlier-{partition:05d}.bin"

    def parts(self) -> Iterator[tuple[int, Hashes, NDArray[np.int64], Hashes]]:
        """Partition by partition: number, distinct lines, in how many documents each stands, the smallest of these."""
        self._spool()
        for bucket in range(self.buckets):
            for partition in range(self._config.partitions):
                path = self._file(bucket, partition)
                if path.exists():
                    rows = np.fromfile(path, dtype=np.uint64).reshape(-1, 2)
                    order = np.lexsort((rows[:, 1], rows[:, 0]))
                    keys, first, counts = np.unique(rows[order, 0], return_index=True, return_counts=True)
                    yield bucket * self._config.partitions + partition, keys, counts, rows[order, 1][first]

    def frequent(self) -> Iterator[tuple[int, Hashes, Hashes]]:
        """Yields (bucket, keys of frequent lines, key of the document that keeps each) partition by partition.

        A line that an earlier snapshot holds is kept by nobody, which is key 0.
        """
        for number, keys, counts, keepers in self.parts():
            bucket, partition = divmod(number, self._config.partitions)
            if (path := self._earlier(partition)).exists():
                others, documents = np.fromfile(path, dtype=np.uint64).reshape(-1, 2).T
                here = np.isin(others, keys)
                place = np.searchsorted(keys, others[here])
                np.add.at(counts, place, documents[here].astype(np.int64))
                keepers[place] = 0
            many = counts > self._config.maximum_documents
            yield bucket, keys[many], keepers[many]


def frequent_lines(counts: LineCounts) -> list[dict[int, int]]:
    """For each bucket: key of a frequent line to the key of the document that keeps it."""
    tables: list[dict[int, int]] = [{} for _ in range(counts.buckets)]
    for bucket, keys, keepers in counts.frequent():
        tables[bucket].update(zip(keys.tolist(), keepers.tolist(), strict=True))
    return tables


def cut_lines(
    text: str, keys: list[int], document_key: int, frequent: dict[int, int], config: LinesConfig
) -> tuple[str, int]:
    """The text without its frequent lines, and how many lines went; ``keys`` are the text's ``line_keys``."""
    lines = text.split("\n")
    foreign = [_is_foreign(key, document_key, frequent, config) for key in keys]
    if not any(foreign):
        return text, 0
    goes = _with_their_blocks(lines, foreign, config.block_share)
    if not any(goes):
        return text, 0
    kept: list[str] = []
    gap = False
    for line, gone in zip(lines, goes, strict=True):
        gap = gap or gone
        blank = not line.strip()
        if gone or (gap and blank and (not kept or not kept[-1].strip())):
            continue
        gap = gap and blank
        kept.append(line)
    return "\n".join(kept).rstrip("\n"), sum(goes)


def _with_their_blocks(lines: list[str], foreign: list[bool], share: float) -> list[bool]:
    """Which lines go: the frequent ones of mostly frequent blocks, an introduction only with what follows it."""
    goes = [False] * len(lines)
    end, following_goes = len(lines), True
    while end > 0:
        start = end
        while start > 0 and lines[start - 1].strip():
            start -= 1
        mostly = sum(foreign[start:end]) > share * (end - start)
        for row in range(end - 1, start - 1, -1):
            introduces = lines[row].rstrip().endswith(":")
            goes[row] = following_goes = foreign[row] and mostly and (following_goes or not introduces)
        end = start - 1
    return goes


def _is_foreign(key: int, document_key: int, frequent: dict[int, int], config: LinesConfig) -> bool:
    keeper = frequent.get(key)
    return keeper is not None and not (config.keep_one and keeper == document_key)
