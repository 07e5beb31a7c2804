"""The passages that search answers with, as the corpus leaves them in ``passages.parquet``.

A passage is one documented function, class or module: a dotted name, its signature, its text and the first sentence
of that text as ``summary``.  ``read_passages`` refuses files that lack a column with a sentence that names it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from herd.foundation.errors import HerdError

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Passage:
    """One row of ``passages.parquet``; empty strings where the corpus knows nothing."""

    document_id: str
    name: str
    signature: str
    text: str
    url: str
    package: str
    summary: str


_COLUMNS = [field.name for field in fields(Passage)]


def read_passages(path: Path) -> Iterator[Passage]:
    """Yields the passages of a Parquet file, or of ``passages.parquet`` in a directory, in the file's order."""
    file = path / "passages.parquet" if path.is_dir() else path
    try:
        source = pq.ParquetFile(file)
    except FileNotFoundError:
        raise HerdError(f"{file}: there is no such file of passages") from None
    except (OSError, pa.ArrowException) as error:
        raise HerdError(f"{file}: not readable as Parquet ({error})") from None
    if missing := [name for name in _COLUMNS if name not in source.schema_arrow.names]:
        raise HerdError(f"{file}: the column {missing[0]!r} of a passage is missing")
    with source:
        for batch in source.iter_batches(_ROWS_AT_ONCE, columns=_COLUMNS):
            for row in batch.to_pylist():
                yield Passage(**{name: row[name] or "" for name in _COLUMNS})
