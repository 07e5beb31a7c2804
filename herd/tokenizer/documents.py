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


def read_document_file(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields the named columns of one file's rows; ``HerdError`` names an unreadable file or a missing column."""
    try:
        with pq.ParquetFile(path) as source:
            missing = [name for name in columns if name not in source.schema_arrow.names]
            if missing:
                raise HerdError(f"{path}: has no column {missing[0]!r}")
            for batch in source.iter_batches(batch_size=_ROWS_AT_ONCE, columns=list(columns)):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise HerdError(f"{path}: not readable as Parquet ({error})") from None
