"""Reads the texts of evaluation sets, whatever files they come in, so that training can be kept clear of them.

    for text in read_benchmarks([Path("gsm8k/"), Path("exam.csv")]): text.benchmark, text.item, text.text

JSONL, JSON (a list, or an object that holds one), CSV and TSV, Parquet, and plain text or Markdown with a blank line
between items; the first three also packed by gzip.  A row gives the texts of the columns that evaluation sets commonly
use, or where it has none of them, all its texts.  Each text is compared by itself.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from herd.foundation.errors import HerdError

FIELDS = (
    "text", "texts", "prompt", "completion", "question", "answer", "reference", "references", "choices", "messages",
)  # fmt: skip
_BLANK_LINES = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class BenchmarkText:
    """One text of an item of an evaluation set."""

    benchmark: str
    item: str
    text: str


def read_benchmarks(paths: Sequence[Path]) -> Iterator[BenchmarkText]:
    """The texts of all files, and of all files of a known kind below folders; a file's name is its benchmark's.

    Raises:
        HerdError: a folder without such files, a file that cannot be read, or a row without any text.
    """
    for path in paths:
        for file, benchmark in _files(path):
            for number, row in enumerate(_rows(file), start=1):
                found = list(_texts(row))
                if not found:
                    known = ", ".join(FIELDS)
                    raise HerdError(f"{file}, row {number}: has no text in any of the fields {known}, nor in any other")
                item = str(row.get("id", number)) if isinstance(row, dict) else str(number)
                yield from (BenchmarkText(benchmark, item, text) for text in found)


def _files(path: Path) -> list[tuple[Path, str]]:
    """Files with the names of their benchmarks; below a folder, the way to them is part of the name."""
    if not path.is_dir():
        return [(path, _plain_name(path))]
    files = sorted(file for file in path.rglob("*") if file.is_file() and _kind(file) is not None)
    if not files:
        raise HerdError(
            f"{path}: holds no evaluation texts (expected {', '.join('*' + suffix for suffix in _READERS)})"
        )
    return [(file, str(file.relative_to(path).parent / _plain_name(file))) for file in files]


def _plain_name(file: Path) -> str:
    return file.name.removesuffix(".gz").rpartition(".")[0] or file.name


def _kind(file: Path) -> str | None:
    suffix = Path(file.name.removesuffix(".gz")).suffix.lower()
    return suffix if suffix in _READERS else None


def _rows(file: Path) -> Iterator[Any]:
    reader = _READERS[_kind(file) or ".jsonl"]
    try:
        yield from reader(gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes())
    except json.JSONDecodeError as error:
        raise HerdError(f"{file}: not JSON ({error})") from None
    except (OSError, EOFError, zlib.error, pa.ArrowException, csv.Error, UnicodeDecodeError) as error:
        raise HerdError(f"{file}: not readable as evaluation texts ({error})") from None


def _jsonl(data: bytes) -> Iterator[Any]:
    for line in data.decode("utf-8-sig").split("\n"):
        if line.strip():
            yield json.loads(line)


def _json(data: bytes) -> Iterator[Any]:
    value = json.loads(data.decode("utf-8-sig"))
    lists = [entry for entry in value.values() if isinstance(entry, list)] if isinstance(value, dict) else []
    yield from value if isinstance(value, list) else [row for rows in lists for row in rows] or [value]


def _table(separator: str) -> Callable[[bytes], Iterator[Any]]:
    def read(data: bytes) -> Iterator[Any]:
        return csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter=separator)

    return read


def _parquet(data: bytes) -> Iterator[Any]:
    for batch in pq.ParquetFile(io.BytesIO(data)).iter_batches():
        yield from batch.to_pylist()


def _plain(data: bytes) -> Iterator[Any]:
    for part in _BLANK_LINES.split(data.decode("utf-8-sig")):
        if part.strip():
            yield {"text": part}


_READERS: dict[str, Callable[[bytes], Iterator[Any]]] = {
    ".jsonl": _jsonl, ".json": _json, ".csv": _table(","), ".tsv": _table("\t"), ".parquet": _parquet, ".txt": _plain,
    ".md": _plain,
}  # fmt: skip


def _texts(row: Any) -> Iterator[str]:
    known = [row[name] for name in FIELDS if name in row] if isinstance(row, dict) else []
    found = [text for value in known for text in _strings(value)]
    yield from found or _strings(row)


def _strings(value: Any) -> Iterator[str]:
    """All texts within a value; of a message or a choice with content, the content alone."""
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, dict):
        inner = [value["content"]] if "content" in value else value.values()
        for entry in inner:
            yield from _strings(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _strings(entry)
