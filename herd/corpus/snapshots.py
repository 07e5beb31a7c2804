"""Compares a new snapshot with the indexes of earlier ones: by address, near-duplicates, and frequent lines.

    past = Past.open([Path("corpus-10"), Path("corpus-14")], DedupConfig())

What the new snapshot keeps is what it would keep if all were curated in one run in which earlier documents survive:

- of an address the newest page stays, the earlier one of equal dates; an earlier page that gives way is listed;
- a document goes where its family of near-duplicates holds one of an earlier snapshot, which is named.  A family whose
  survivor gave way to a newer page counts no more, since nothing of it is in a corpus;
- a line is frequent by its documents in all snapshots, and no new document keeps one that an earlier one holds.

Buckets of both sides are spread over files by their digest.  One of them is in memory at a time, and a few numbers for
each new document; earlier ones are streamed.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from herd.corpus.dedup import DedupConfig, Rows, Signatures, are_alike, band_keys, candidates, join, open_signatures
from herd.corpus.index import Address, Index
from herd.corpus.lines import LineCounts
from herd.corpus.words import Hashes, hash_text

KNOWN_ADDRESS = "an earlier snapshot has this address"
KNOWN_TEXT = "a near-duplicate of an earlier snapshot stays"
_ROWS_AT_A_TIME = 1 << 14
_NOBODY = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Known:
    """A document of an earlier snapshot: its id and the name of its corpus."""

    id: str
    corpus: str

    def __str__(self) -> str:
        return f"{self.id} in {self.corpus}"


@dataclass
class Past:
    """The indexes of earlier snapshots, the oldest first, and what the new one replaces in them."""

    indexes: list[Index] = field(default_factory=list)
    superseded: list[dict[str, str]] = field(default_factory=list)
    _lines_joined: bool = False

    @classmethod
    def open(cls, corpora: Iterable[Path], config: DedupConfig) -> "Past":
        """The past of a snapshot; a corpus without a fitting index is a ``HerdError`` that names it."""
        return cls([Index.open(corpus, config) for corpus in corpora])

    def __bool__(self) -> bool:
        return bool(self.indexes)

    def addresses(self, pages: Sequence[Address], asked: NDArray[np.bool_]) -> dict[int, Known]:
        """Those of the rows ``asked`` that go for an earlier page of their address; the others replace theirs.

        No two rows that are asked for may have the same address.
        """
        rows = np.array([row for row in np.flatnonzero(asked).tolist() if pages[row][0]], dtype=np.int64)
        keys = np.array([hash_text(pages[row][0]) for row in rows], dtype=np.uint64)
        order = np.argsort(keys)
        rows, keys = rows[order], keys[order]
        newest: dict[int, tuple[str, Known]] = {}
        met: dict[int, list[str]] = {}
        for index in self.indexes if len(keys) else ():
            for batch in index.addresses():
                for row, at in _common(keys, rows, batch["key"].to_numpy()):
                    date, found = batch["date"][at].as_py() or "", Known(batch["id"][at].as_py(), index.name)
                    met.setdefault(row, []).append(found.id)
                    if row not in newest or date > newest[row][0]:
                        newest[row] = date, found
        stay = {row for row, (date, _) in newest.items() if (pages[row][1] or "") > date}
        self.superseded = [
            {"id": old, "by": pages[row][2], "url": pages[row][0]} for row in sorted(stay) for old in met[row]
        ]
        return {row: found for row, (_, found) in newest.items() if row not in stay}

    def families(self, signatures: Path, config: DedupConfig, rows: Rows, work: Path) -> tuple[Rows, dict[int, Known]]:
        """The families of the new snapshot's ``rows``, and of the known ones the earlier document that they go for.

        The families are as in ``dedup.families``; a key of the dictionary is a position in ``rows``.  ``work`` is a
        directory that this call makes and removes.
        """
        table = _Table([*(index.signatures() for index in self.indexes), open_signatures(signatures)])
        buckets = _Buckets(work, config)
        for number, start in enumerate(table.starts[:-1].tolist()):
            buckets.add(table, self._counting(number) + start)
        buckets.add(table, rows + table.starts[-1])
        found = _Families(table, rows, config.similarity)
        for pairs in buckets.pairs(int(table.starts[-1])):
            found.compare(pairs)
        shutil.rmtree(work)
        met = found.met_by_family()
        places = np.flatnonzero(met != _NOBODY)
        names = self._names(np.unique(met[places]), table.starts)
        return found.family, {place: names[number] for place, number in zip(places.tolist(), met[places], strict=True)}

    def count_lines(self, counts: LineCounts) -> None:
        """Adds the lines of the indexes to those of the new snapshot, where all documents fit into one bucket."""
        documents = sum(index.line_documents for index in self.indexes)
        self._lines_joined = counts.fits(documents)
        for index in self.indexes if self._lines_joined else ():
            for keys, often in index.lines():
                counts.earlier(keys, often)

    def figures(self) -> dict[str, Any]:
        """What was compared, for ``stats.json``."""
        return {
            "snapshots": {index.name: index.documents for index in self.indexes},
            "superseded": len(self.superseded),
            "lines counted together": self._lines_joined,
        }

    def _counting(self, number: int) -> Rows:
        """The rows of an index that count: their family's survivor, and they, did not give way to a newer page."""
        gone = {row["id"] for row in self.superseded}.union(
            *(later.superseded() for later in self.indexes[number + 1 :])
        )
        names = pa.array(sorted(gone), pa.string())
        marks = [
            pc.or_(pc.is_in(batch["id"], value_set=names), pc.is_in(batch["kept"], value_set=names)).to_numpy(False)
            for batch in self.indexes[number].ids()
        ]
        return np.flatnonzero(~np.concatenate([np.empty(0, np.bool_), *marks]))

    def _names(self, numbers: Rows, starts: Rows) -> dict[int, Known]:
        """For rows of the table, the document that stayed in their family."""
        names: dict[int, Known] = {}
        for index, start in zip(self.indexes, starts.tolist(), strict=False):
            base = start
            for batch in index.ids():
                for number in numbers[(numbers >= base) & (numbers < base + len(batch))].tolist():
                    row = number - base
                    names[number] = Known(batch["kept"][row].as_py() or batch["id"][row].as_py(), index.name)
                base += len(batch)
        return names


def _common(keys: Hashes, rows: Rows, others: Hashes) -> Iterator[tuple[int, int]]:
    """Each of ``rows`` (by its key, in ascending order) with the place of an equal key in ``others``."""
    place = np.minimum(np.searchsorted(keys, others), len(keys) - 1)
    for at in np.flatnonzero(keys[place] == others).tolist():
        yield int(rows[place[at]]), at


class _Table:
    """Signatures of several files as one table, the rows of one file after those of another."""

    def __init__(self, parts: Sequence[Signatures]) -> None:
        self._parts = parts
        self.starts = np.cumsum([0, *(len(part) for part in parts)])[:-1]

    def __getitem__(self, rows: Rows) -> Signatures:
        found = np.empty((len(rows), self._parts[0].shape[1]), dtype=np.uint32)
        home = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(home).tolist():
            here = home == number
            found[here] = self._parts[number][rows[here] - self.starts[number]]
        return found


class _Buckets:
    """The buckets of all bands on the disk, divided by digest; one division of a band is in memory at a time."""

    def __init__(self, directory: Path, config: DedupConfig) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self._directory, self._config = directory, config

    def add(self, table: _Table, rows: Rows) -> None:
        """Puts ``rows``, which come after those that were added before, into the buckets of every band."""
        for begin in range(0, len(rows), _ROWS_AT_A_TIME):
            part = rows[begin : begin + _ROWS_AT_A_TIME]
            own = table[part]
            for band in range(self._config.bands):
                keys = band_keys(own, np.arange(len(part)), band, self._config)
                division = keys % np.uint64(self._config.partitions)
                for number in np.unique(division).tolist():
                    here = division == number
                    with self._file(band, number).open("ab") as file:
                        np.stack([keys[here], part[here].astype(np.uint64)], axis=1).tofile(file)

    def pairs(self, first: int) -> Iterator[Rows]:
        """The pairs of rows that must be compared and of which the second is ``first`` or one after it."""
        for band in range(self._config.bands):
            for number in range(self._config.partitions):
                path = self._file(band, number)
                if not path.exists():
                    continue
                keys, rows = np.fromfile(path, dtype=np.uint64).reshape(-1, 2).T
                members = rows.astype(np.int64)
                meeting = np.isin(keys, keys[members >= first])
                for pairs in candidates(members[meeting], keys[meeting]):
                    yield pairs[pairs[:, 1] >= first]

    def _file(self, band: int, number: int) -> Path:
        return self._directory / f"{band:03d}-{number:05d}.bin"


class _Families:
    """What is known of the new rows: their families among themselves, and the first earlier row that each is like."""

    def __init__(self, table: _Table, rows: Rows, similarity: float) -> None:
        self._table, self._rows, self._similarity = table, rows + table.starts[-1], similarity
        self.family: Rows = np.arange(len(rows), dtype=np.int64)
        self._met = np.full(len(rows), _NOBODY, dtype=np.int64)

    def compare(self, pairs: Rows) -> None:
        """Compares pairs of rows of which the second is new, where that could tell something."""
        place = np.searchsorted(self._rows, pairs)
        new = pairs[:, 0] >= self._table.starts[-1]
        among, outward = pairs[new], place[new]
        unknown = self.family[outward[:, 0]] != self.family[outward[:, 1]]
        alike = outward[unknown][self._alike(among[unknown])]
        if len(alike):
            self.family = join(self.family, alike)
        earlier, own = pairs[~new], place[~new, 1]
        useful = earlier[:, 0] < self._met[own]
        earlier, own = earlier[useful], own[useful]
        found = self._alike(earlier)
        np.minimum.at(self._met, own[found], earlier[found, 0])

    def _alike(self, pairs: Rows) -> NDArray[np.bool_]:
        return are_alike(self._table, pairs, self._similarity)

    def met_by_family(self) -> Rows:
        """For each new row the first earlier row that its family is like, a number above all where there is none."""
        first = np.full(len(self.family), _NOBODY, dtype=np.int64)
        np.minimum.at(first, self.family, self._met)
        found: Rows = first[self.family]
        return found
