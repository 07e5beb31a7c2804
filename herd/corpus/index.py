"""What a finished curation keeps so that a later snapshot can be compared with it: the folder ``index`` of a corpus.

    herd curate pages-2024-10 --out corpus-10
    herd curate pages-2024-18 --against corpus-10 --out corpus-18

| file | holds |
|---|---|
| ``index.json`` | ``format``, counts, and the settings that signatures depend on; written last |
| ``documents.parquet`` | ``id``, and ``kept``: the id of the near-duplicate that stayed instead of it, null if none |
| ``signatures.npy`` | MinHash signatures of these documents, row by row, uint32, shape (documents, permutations) |
| ``addresses.parquet`` | of every address the newest page: ``key`` (64-bit digest of the address), ``date``, ``id`` |
| ``lines.parquet`` | ``key`` (64-bit digest of a line, see ``lines``), and in how many ``documents`` it stands |
| ``superseded.jsonl`` | pages of earlier snapshots that a newer page of this one replaces: ``id``, ``by``, ``url`` |

Documents are those that were compared with each other: what went as a near-duplicate, for its quality or its lines is
among them, so that it does not come back with the next snapshot.  An index holds its own snapshot alone.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from herd.corpus.dedup import DedupConfig
from herd.corpus.lines import LineCounts
from herd.corpus.signatures import Rows, StoredSignatures, write_signatures
from herd.corpus.words import Hashes, hash_text
from herd.foundation.errors import HerdError
from herd.foundation.files import atomic_path, read_json, read_jsonl, write_json, write_jsonl

FOLDER = "index"
FORMAT = 1
_NOTED = {"dedup", "documents", "line documents"}
_ROWS_AT_A_TIME = 1 << 14
_DOCUMENTS = pa.schema([("id", pa.string()), ("kept", pa.string())])
_ADDRESSES = pa.schema([("key", pa.uint64()), ("date", pa.string()), ("id", pa.string())])
_LINES = pa.schema([("key", pa.uint64()), ("documents", pa.uint32())])

Address = tuple[str, str | None, str]


def settings(config: DedupConfig) -> dict[str, int]:
    """What signatures depend on: those of other settings cannot be compared."""
    return {"shingle_words": config.shingle_words, "permutations": config.permutations, "seed": config.seed}


@dataclass(frozen=True)
class Index:
    """The index of one corpus; ``name`` is the corpus's, ``line_documents`` how many had their lines counted."""

    name: str
    place: Path
    documents: int
    line_documents: int

    @classmethod
    def open(cls, corpus: Path, config: DedupConfig) -> "Index":
        """The index of ``corpus``.

        Raises:
            HerdError: there is none, it is of another format or other settings, or it is not whole.
        """
        place = corpus / FOLDER
        if not (place / "index.json").exists():
            raise HerdError(f"{corpus}: holds no index to compare with; give a corpus that herd curate made with one")
        found = read_json(place / "index.json")
        if not isinstance(found, dict) or found.get("format") != FORMAT or not found.keys() >= _NOTED:
            raise HerdError(f"{place / 'index.json'}: not an index of format {FORMAT}")
        if found["dedup"] != settings(config):
            differ = [f"{key} {found['dedup'].get(key)}" for key, value in settings(config).items()
                      if found["dedup"].get(key) != value]  # fmt: skip
            raise HerdError(f"{corpus}: its signatures were made with {', '.join(differ)}; set dedup alike")
        index = cls(corpus.resolve().name, place, found["documents"], found["line documents"])
        index._check(found)
        return index

    def _check(self, found: dict[str, Any]) -> None:
        shape = (self.documents, found["dedup"]["permutations"])
        try:
            sizes = {name: pq.read_metadata(self.place / f"{name}.parquet").num_rows for name in ("documents", "lines")}
            whole = StoredSignatures(self.signatures).shape == shape and sizes["documents"] == self.documents
        except (OSError, ValueError, pa.ArrowInvalid) as error:
            raise HerdError(f"{self.place}: not readable as an index ({error})") from None
        if not whole:
            raise HerdError(f"{self.place}: not whole: it should hold {self.documents:,} documents and signatures")

    @property
    def signatures(self) -> Path:
        """The file of the signatures, of shape (documents, permutations)."""
        return (self.place / "signatures.npy").resolve()

    def ids(self) -> Iterator[pa.RecordBatch]:
        """``id`` and ``kept`` of the documents, some at a time."""
        yield from self._batches("documents")

    def addresses(self) -> Iterator[pa.RecordBatch]:
        """``key``, ``date`` and ``id`` of the addresses, some at a time."""
        yield from self._batches("addresses")

    def lines(self) -> Iterator[tuple[Hashes, NDArray[np.uint32]]]:
        """Keys of lines and the number of documents of each, some at a time; every key comes once."""
        for batch in self._batches("lines"):
            yield batch["key"].to_numpy(), batch["documents"].to_numpy()

    def superseded(self) -> set[str]:
        """Ids of pages of earlier snapshots that this one replaced."""
        return {row["id"] for row in read_jsonl(self.place / "superseded.jsonl")}

    def _batches(self, name: str) -> Iterator[pa.RecordBatch]:
        path = self.place / f"{name}.parquet"
        try:
            yield from pq.ParquetFile(path).iter_batches(batch_size=_ROWS_AT_A_TIME)
        except (OSError, pa.ArrowInvalid) as error:
            raise HerdError(f"{path}: not readable as Parquet ({error})") from None


class IndexWriter:
    """Writes the index of a curation below ``out``, a part at the end of each step; ``close`` makes it one."""

    def __init__(self, out: Path, config: DedupConfig) -> None:
        self._place, self._config, self._documents = out / FOLDER, config, 0
        self._line_documents = 0
        self._place.mkdir(parents=True, exist_ok=True)
        (self._place / "index.json").unlink(missing_ok=True)

    def addresses(self, newest: Iterable[Address]) -> None:
        """The newest page of each address; pages without an address are nobody's."""
        rows = [{"key": hash_text(url), "date": date, "id": identifier} for url, date, identifier in newest if url]
        self._write("addresses", pa.Table.from_pylist(rows, schema=_ADDRESSES))

    def superseded(self, rows: Iterable[dict[str, str]]) -> None:
        """The pages of earlier snapshots that a newer page replaces."""
        write_jsonl(self._place / "superseded.jsonl", rows)

    def documents(self, ids: Sequence[str], kept: Sequence[str], rows: Rows, signatures: Path) -> None:
        """The documents ``ids``, for which ``kept`` stayed, and their ``rows`` of a file of signatures."""
        instead = [other if other != own else None for own, other in zip(ids, kept, strict=True)]
        self._write("documents", pa.table([pa.array(ids, pa.string()), pa.array(instead, pa.string())], _DOCUMENTS))
        _copy_signatures(signatures, rows, self._place)
        self._documents = len(ids)

    def lines(self, counts: LineCounts) -> None:
        """Every line with the number of its documents; of a snapshot that fills more than one bucket none is kept."""
        with (
            atomic_path(self._place / "lines.parquet") as temporary,
            pq.ParquetWriter(temporary, _LINES, compression="zstd") as writer,
        ):
            for _, keys, documents, _ in counts.parts() if counts.buckets == 1 else ():
                writer.write_table(pa.table([keys, documents.astype(np.uint32)], _LINES))
        self._line_documents = counts.documents

    def close(self) -> None:
        """Writes ``index.json``."""
        found = {"format": FORMAT, "documents": self._documents, "line documents": self._line_documents}
        write_json(self._place / "index.json", found | {"dedup": settings(self._config)})

    def _write(self, name: str, table: pa.Table) -> None:
        with atomic_path(self._place / f"{name}.parquet") as temporary:
            pq.write_table(table, temporary, compression="zstd")


def without(index: Path, gone: set[str], out: Path) -> None:
    """Copies an index to ``out`` without the documents, addresses and replacements of the ids in ``gone``.

    Digests of lines stay: they say in how many documents a line stands, not in which.
    """
    ids = pa.array(sorted(gone), pa.string())
    out.mkdir(parents=True, exist_ok=True)
    for name in ("documents", "addresses", "lines"):
        with (
            pq.ParquetFile(index / f"{name}.parquet") as file,
            atomic_path(out / f"{name}.parquet") as temporary,
            pq.ParquetWriter(temporary, file.schema_arrow, compression="zstd") as writer,
        ):
            for batch in file.iter_batches(batch_size=_ROWS_AT_A_TIME):
                writer.write_batch(batch if name == "lines" else batch.filter(_stays(batch, ids)))
    keep = np.flatnonzero(_stays(pq.read_table(index / "documents.parquet"), ids).to_numpy())
    _copy_signatures(index / "signatures.npy", keep, out)
    rows = read_jsonl(index / "superseded.jsonl")
    write_jsonl(out / "superseded.jsonl", (row for row in rows if not {row["id"], row["by"]} & gone))
    write_json(out / "index.json", read_json(index / "index.json") | {"documents": len(keep)})


def _copy_signatures(signatures: Path, rows: Rows, out: Path) -> None:
    """Copies some rows of a file of signatures to ``out``."""
    stored = StoredSignatures(signatures)
    parts = (stored[rows[start : start + _ROWS_AT_A_TIME]] for start in range(0, len(rows), _ROWS_AT_A_TIME))
    with atomic_path(out / "signatures.npy") as temporary:
        write_signatures(temporary, parts, (len(rows), stored.shape[1]))


def _stays(rows: pa.RecordBatch | pa.Table, gone: pa.Array) -> pa.Array:
    """Which rows name none of the ids in ``gone``, neither as their own nor as that of the copy that was kept."""
    named = [pc.is_in(rows[name], value_set=gone) for name in ("id", "kept") if name in rows.schema.names]
    return pc.invert(functools.reduce(pc.or_, named))
