"""Streams a corpus' documents from its Parquet files, a few thousand rows in memory at a time.

for document in read_documents(corpus / "documents", ("text", "domain")):
    document["text"], document["domain"]
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from herd.foundation.errors import HerdError

_ROWS_AT_ONCE = 1_000


def parquet_files(directory: Path) -> list[Path]:
    """The Parquet files of ``directory`` in the order of their names; ``HerdError`` if there is none."""
    found = sorted(directory.glob("*.parquet"))
    if not found:
        raise HerdError(f"{directory}: holds no Parquet file")
    return found


def read_documents(directory: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields the named columns of every document, files in the order of their names."""
    for path in parquet_files(directory):
        yield from read_document_file(path, columns)


def read_document_file(
    path: Path, columns: Sequence[str], *, optional: Sequence[str] = (), first: int = 0, count: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yields ``count`` rows of one file from row ``first`` on; ``HerdError`` names a broken file or a missing column.

    ``optional`` columns are left out where the file has none of that name.  The column ``text`` must be one of texts;
    a null in it is an empty one.
    """
    try:
        with pq.ParquetFile(path) as source:
            _check_columns(path, source.schema_arrow, columns)
            wanted = [*columns, *(name for name in optional if name in source.schema_arrow.names)]
            last = source.metadata.num_rows if count is None else first + count
            groups, skipped = _groups_between(source.metadata, first, last)
            start = skipped
            for batch in source.iter_batches(batch_size=_ROWS_AT_ONCE, row_groups=groups, columns=wanted):
                inside = batch.slice(max(first - start, 0), max(last - max(start, first), 0))
                start += batch.num_rows
                yield from map(_with_text, inside.to_pylist())
    except UnicodeDecodeError as error:
        raise HerdError(f"{path}: holds text that is not UTF-8 ({error})") from None
    except (OSError, pa.ArrowException) as error:
        raise HerdError(f"{path}: not readable as Parquet ({error})") from None


def _check_columns(path: Path, schema: pa.Schema, columns: Sequence[str]) -> None:
    for name in columns:
        if name not in schema.names:
            raise HerdError(f"{path}: has no column {name!r}")
    if "text" in columns and not _holds_text(schema.field("text").type):
        raise HerdError(f"{path}: the column 'text' holds {schema.field('text').type}, not text")


def _holds_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(check(kind) for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_null))


def _with_text(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"text": ""} if "text" in row and row["text"] is None else row


def _groups_between(metadata: pq.FileMetaData, first: int, last: int) -> tuple[list[int], int]:
    """The row groups that hold rows ``first`` to ``last``, and the number of rows before them."""
    groups: list[int] = []
    start = skipped = 0
    for group in range(metadata.num_row_groups):
        end = start + metadata.row_group(group).num_rows
        if end <= first:
            skipped = end
        elif start < last:
            groups.append(group)
        start = end
    return groups, skipped


def count_rows(path: Path) -> int:
    """The number of rows of one file; ``HerdError`` if it is broken."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise HerdError(f"{path}: not readable as Parquet ({error})") from None
