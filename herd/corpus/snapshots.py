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

from herd.corpus.dedup import Buckets, DedupConfig, Forest, are_alike, candidates
from herd.corpus.index import Address, Index
from herd.corpus.lines import LineCounts
from herd.corpus.signatures import Rows, Signatures, StoredSignatures
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
        table = _Table([*(index.signatures() for index in self.indexes), StoredSignatures(signatures)])
        counting = [self._counting(number) + start for number, start in enumerate(table.starts[:-1].tolist())]
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        buckets = Buckets(work, config)
        for part in (*counting, rows + table.starts[-1]):
            buckets.add(table, part, part)
        found = _Families(table, rows, config.similarity)
        for pairs in _outward(buckets, int(table.starts[-1])):
            found.compare(pairs)
        shutil.rmtree(work)
        family = found.forest.firsts()
        met = found.met_by_family(family)
        places = np.flatnonzero(met != _NOBODY)
        names = self._names(np.unique(met[places]), table.starts)
        return family, {place: names[number] for place, number in zip(places.tolist(), met[places], strict=True)}

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


def _outward(buckets: Buckets, first: int) -> Iterator[Rows]:
    """The pairs of rows that must be compared and of which the second is ``first`` or one after it."""
    for members, keys in buckets:
        meeting = np.isin(keys, keys[members >= first])
        for pairs in candidates(members[meeting], keys[meeting]):
            yield pairs[pairs[:, 1] >= first]


class _Table:
    """Signatures of several files as one table, the rows of one file after those of another."""

    def __init__(self, parts: Sequence[StoredSignatures]) -> None:
        self._parts = parts
        self.starts = np.cumsum([0, *(len(part) for part in parts)])[:-1]

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def __getitem__(self, rows: Rows) -> Signatures:
        found = np.empty((len(rows), self._parts[0].shape[1]), dtype=np.uint32)
        home = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(home).tolist():
            here = home == number
            found[here] = self._parts[number][rows[here] - self.starts[number]]
        return found


class _Families:
    """What is known of the new rows: their families among themselves, and the first earlier row that each is like."""

    def __init__(self, table: _Table, rows: Rows, similarity: float) -> None:
        self._table, self._rows, self._similarity = table, rows + table.starts[-1], similarity
        self.forest = Forest(len(rows))
        self._met = np.full(len(rows), _NOBODY, dtype=np.int64)

    def compare(self, pairs: Rows) -> None:
        """Compares pairs of rows of which the second is new, where that could tell something."""
        place = np.searchsorted(self._rows, pairs)
        new = pairs[:, 0] >= self._table.starts[-1]
        among, outward = pairs[new], place[new]
        unknown = self.forest.are_apart(outward)
        self.forest.join(outward[unknown][self._alike(among[unknown])])
        earlier, own = pairs[~new], place[~new, 1]
        useful = earlier[:, 0] < self._met[own]
        earlier, own = earlier[useful], own[useful]
        found = self._alike(earlier)
        np.minimum.at(self._met, own[found], earlier[found, 0])

    def _alike(self, pairs: Rows) -> NDArray[np.bool_]:
        return are_alike(self._table, pairs, self._similarity)

    def met_by_family(self, family: Rows) -> Rows:
        """For each new row the first earlier row that its family is like, a number above all where there is none."""
        first = np.full(len(family), _NOBODY, dtype=np.int64)
        np.minimum.at(first, family, self._met)
        found: Rows = first[family]
        return found
