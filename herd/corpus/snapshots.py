"""Compares a new snapshot with the indexes of earlier ones: by address, near-duplicates, and frequent lines.

    past = Past.open([Path("corpus-10"), Path("corpus-14")], DedupConfig())

What the new snapshot keeps is what it would keep if all were curated in one run in which earlier documents survive:

- of an address the newest page stays, the earlier one of equal dates; an earlier page that gives way is listed;
- a document goes where its family of near-duplicates holds one of an earlier snapshot, which is named.  A family whose
  survivor gave way to a newer page counts no more, since nothing of it is in a corpus;
- a line is frequent by its documents in all snapshots, and no new document keeps one that an earlier one holds.

Near-duplicates are looked for where the engine computes, addresses and lines where the command runs.  In memory are a
few numbers for each new document, one for each earlier one, and what the engine holds of both (see ``dedup``).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from herd.corpus.dedup import NOWHERE, DedupConfig
from herd.corpus.engine import Engine
from herd.corpus.index import Address, Index
from herd.corpus.lines import LineCounts
from herd.corpus.signatures import Rows
from herd.corpus.words import Hashes, hash_text

KNOWN_ADDRESS = "an earlier snapshot has this address"
KNOWN_TEXT = "a near-duplicate of an earlier snapshot stays"


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

    def families(
        self, signatures: Path, config: DedupConfig, rows: Rows, engine: Engine
    ) -> tuple[Rows, dict[int, Known]]:
        """The families of the new snapshot's ``rows``, and of the known ones the earlier document that they go for.

        The families are as in ``dedup.families``; a key of the dictionary is a position in ``rows``.
        """
        starts = np.cumsum([0, *(index.documents for index in self.indexes)])
        earlier = [self._counting(number) + starts[number] for number in range(len(self.indexes))]
        files = [*(index.signatures for index in self.indexes), signatures]
        family, met = engine.families(files, np.concatenate([rows[:0], *earlier]), rows + starts[-1], config)
        places = np.flatnonzero(met != NOWHERE)
        names = self._names(np.unique(met[places]), starts)
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
