"""Documents on the disk: what a row holds, and shards that are written whole and read a few rows at a time.

Every directory of documents (``documents``, ``heldout``, ``rejects``) is Parquet with zstd; a row of ``rejects`` also
says at which step and for what reason it went.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from herd.foundation.errors import HerdError
from herd.foundation.files import atomic_path

Row = dict[str, Any]

_TEXTS = ("id", "title", "url", "source", "package", "license", "robots", "kind", "date", "language", "domain")
FIELDS = (
    pa.field("text", pa.large_string()),
    *(pa.field(name, pa.string()) for name in _TEXTS),
    pa.field("language_confidence", pa.float32()),
    pa.field("private", pa.int32()),
    pa.field("quality", pa.float32()),
    pa.field("weight", pa.float32()),
    pa.field("lines_cut", pa.int32()),
    pa.field("divergence", pa.float32()),
)
REASONS = (pa.field("rule", pa.string()), pa.field("reason", pa.string()))
_SHARD_CHARACTERS = 32_000_000


def document_schema(rules: Iterable[str], extra: Iterable[pa.Field] = ()) -> pa.Schema:
    """The columns of a document: text, origin, what was found out about it, and each rule's value."""
    return pa.schema([*FIELDS, *(pa.field(name, pa.float32()) for name in rules), *extra])


class DocumentWriter:
    """Writes rows to ``directory/00000.parquet`` and so on; counts what it writes.  Use as a context manager."""

    def __init__(self, directory: Path, schema: pa.Schema) -> None:
        self._directory, self._schema = directory, schema
        directory.mkdir(parents=True, exist_ok=True)
        for stale in directory.glob("*.parquet"):
            stale.unlink()
        self._rows: list[Row] = []
        self._size = self._shards = 0
        self.documents = self.characters = 0

    def __enter__(self) -> "DocumentWriter":
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.flush()
            if not self._shards:
                self._write([])

    def add(self, row: Row) -> None:
        """Appends a row; missing columns are null."""
        self._rows.append(row)
        self._size += len(row["text"])
        self.documents += 1
        self.characters += len(row["text"])
        if self._size >= _SHARD_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Writes what is held."""
        if self._rows:
            self._write(self._rows)
        self._rows, self._size = [], 0

    def _write(self, rows: list[Row]) -> None:
        table = pa.Table.from_pylist(rows, schema=self._schema)
        with atomic_path(self._directory / f"{self._shards:05d}.parquet") as temporary:
            pq.write_table(table, temporary, compression="zstd", row_group_size=2048)
        self._shards += 1


def read_documents(directory: Path, columns: list[str] | None = None) -> Iterator[Row]:
    """Yields the rows of a directory of documents in order; a shard that cannot be read is a ``HerdError``."""
    shards = sorted(directory.glob("*.parquet"))
    if not shards:
        raise HerdError(f"{directory}: holds no documents (expected *.parquet)")
    for shard in shards:
        yield from read_shard(shard, columns)


def read_schema(directory: Path, extra: Iterable[pa.Field] = ()) -> pa.Schema:
    """The schema of a directory of documents, with the fields of ``extra`` that it lacks; none is a ``HerdError``."""
    shards = sorted(directory.glob("*.parquet"))
    if not shards:
        raise HerdError(f"{directory}: holds no documents (expected *.parquet)")
    schema = pq.read_schema(shards[0])
    return pa.schema([*schema, *(field for field in extra if field.name not in schema.names)])


def read_shard(shard: Path, columns: list[str] | None = None) -> Iterator[Row]:
    """Yields the rows of one shard."""
    try:
        for batch in pq.ParquetFile(shard).iter_batches(batch_size=256, columns=columns):
            yield from batch.to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise HerdError(f"{shard}: not readable as Parquet ({error})") from None
