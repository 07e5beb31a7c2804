"""Where pages come from: the recipe's ``sources:``, and one reader for all of them.

    for page in read_pages(HtmlSource(paths=["site/"])): ...

A source is the documentation of this Python, or files: folders or globs of HTML, WARC, JSONL and Parquet.  A file that
cannot be read at all is a ``HerdError`` that names it; a page in it that is no use goes to ``skip`` with a reason.
"""

import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from herd.corpus.charset import decode_html
from herd.corpus.pages import Page
from herd.corpus.python_docs import PythonDocs, Skip, read_python_docs, versions
from herd.corpus.warc import read_warc
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import digest_value


class Files(Config):
    """What all sources made of files share."""

    name: str | None = Field(default=None, description="what the pages' column ``source`` says; the kind, if left out")
    paths: tuple[str, ...] = Field(min_length=1, description="files, folders (read with all below them) or globs")
    license: str | None = Field(default=None, description="the licence under which these pages may be used")


class HtmlSource(Files):
    """HTML files; the address of a page is its path."""

    kind: Literal["html"] = "html"


class WarcSource(Files):
    """Web archives, plain or compressed; every HTML response in them is a page."""

    kind: Literal["warc"] = "warc"
    max_page_bytes: int = Field(default=8_000_000, gt=0, description="a longer response is skipped")


class RowSource(Files):
    """Files of rows; these name the columns."""

    content: str = Field(default="text", description="the column that holds the text")
    content_kind: Literal["text", "html", "code"] = Field(default="text", description="what that column holds")
    url: str = Field(default="url", description="the column with the address; a row without one gets file and number")
    date: str = Field(default="date", description="the column with the date, if there is one")
    title: str = Field(default="title", description="the column with the title, if there is one")


class JsonlSource(RowSource):
    """JSONL files, one object a line."""

    kind: Literal["jsonl"] = "jsonl"


class ParquetSource(RowSource):
    """Parquet files."""

    kind: Literal["parquet"] = "parquet"


SourceConfig = Annotated[
    PythonDocs | HtmlSource | WarcSource | JsonlSource | ParquetSource, Field(discriminator="kind")
]  # what a recipe's ``sources:`` lists

_SUFFIXES = {
    "html": (".html", ".htm", ".xhtml"),
    "warc": (".warc", ".warc.gz"),
    "jsonl": (".jsonl", ".jsonl.gz", ".ndjson"),
    "parquet": (".parquet",),
}


def read_pages(source: SourceConfig, skip: Skip = lambda name, reason: None) -> Iterator[Page]:
    """Yields the pages of ``source`` in a fixed order; ``skip(name, reason)`` hears of every page left out."""
    if isinstance(source, PythonDocs):
        yield from read_python_docs(source, skip)
        return
    readers: dict[str, Callable[[Any, Path, Skip], Iterator[Page]]]
    readers = {"html": _read_html, "warc": _read_warc, "jsonl": _read_jsonl, "parquet": _read_parquet}
    for path in source_files(source):
        yield from readers[source.kind](source, path, skip)


def source_files(source: HtmlSource | WarcSource | JsonlSource | ParquetSource) -> list[Path]:
    """The files of ``source`` in order, each once; a path that leads to none is a ``HerdError`` that names it."""
    found: dict[Path, None] = {}
    for text in source.paths:
        matches = _matches(Path(text).expanduser())
        files = [file for match in matches for file in _below(match, _SUFFIXES[source.kind])]
        if not files:
            wanted = " or ".join(_SUFFIXES[source.kind])
            what = "there is no such file or folder" if not matches else f"holds no file that ends in {wanted}"
            raise HerdError(f"{text}: {what} (source of kind {source.kind})")
        found |= dict.fromkeys(files)
    return list(found)


def fingerprint(source: SourceConfig) -> dict[str, Any]:
    """What the pages of ``source`` depend on, found without reading or rendering any: versions, or sizes and times."""
    if isinstance(source, PythonDocs):
        return {"config": source.model_dump(mode="json"), "versions": versions(source)}
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in source_files(source)]
    return {"config": source.model_dump(mode="json"), "files": len(stats), "digest": digest_value(stats)}


def _matches(path: Path) -> list[Path]:
    """``path`` itself if it exists, else everything that it matches as a glob."""
    if path.exists():
        return [path]
    fixed = Path(*itertools.takewhile(lambda part: not any(sign in part for sign in "*?["), path.parts))
    pattern = str(path.relative_to(fixed))
    return sorted(fixed.glob(pattern)) if pattern != "." and fixed.is_dir() else []


def _below(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """``path`` itself if it is a file (whatever its name), else the files of the kind below it."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.name.lower().endswith(suffixes) and file.is_file())


def _name(source: Files, kind: str) -> str:
    return source.name or kind


def _read_html(source: HtmlSource, path: Path, skip: Skip) -> Iterator[Page]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HerdError(f"{path}: not readable ({error.strerror})") from None
    text = decode_html(data)
    if text is None:
        raise HerdError(f"{path}: not HTML but binary data")
    if not text.strip():
        skip(str(path), "empty file")
        return
    yield Page(f"file:{path.as_posix()}", _name(source, "html"), "html", text, license=source.license)


def _read_warc(source: WarcSource, path: Path, skip: Skip) -> Iterator[Page]:
    yield from read_warc(path, _name(source, "warc"), source.license, source.max_page_bytes, skip)


def _read_jsonl(source: JsonlSource, path: Path, skip: Skip) -> Iterator[Page]:
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise HerdError(f"{path}, line {number}: not a JSON object")
                page = _page_of_row(source, path, number, row, skip)
                if page is not None:
                    yield page
    except json.JSONDecodeError as error:
        raise HerdError(f"{path}, line {number}: not JSON ({error})") from None
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise HerdError(f"{path}: not readable as JSONL ({error})") from None


def _read_parquet(source: ParquetSource, path: Path, skip: Skip) -> Iterator[Page]:
    try:
        file = pq.ParquetFile(path)
        names = set(file.schema_arrow.names)
        if source.content not in names:
            raise HerdError(f"{path}: has no column {source.content!r} (it has {', '.join(sorted(names))})")
        columns = [name for name in (source.content, source.url, source.date, source.title) if name in names]
        number = 0
        for batch in file.iter_batches(batch_size=256, columns=columns):
            for row in batch.to_pylist():
                number += 1
                page = _page_of_row(source, path, number, row, skip)
                if page is not None:
                    yield page
    except (OSError, pa.ArrowException) as error:
        raise HerdError(f"{path}: not readable as Parquet ({error})") from None


def _page_of_row(source: RowSource, path: Path, number: int, row: dict[str, Any], skip: Skip) -> Page | None:
    """The page of one row; None for a row without text, which ``skip`` hears of."""
    content = row.get(source.content)
    place = f"{path.as_posix()}#{number}"
    if isinstance(content, bytes):
        content = decode_html(content)
    if not isinstance(content, str) or not content.strip():
        skip(place, f"no text in {source.content!r}")
        return None
    kind = source.kind if isinstance(source, JsonlSource | ParquetSource) else "rows"
    optional = {name: row.get(column) for name, column in (("date", source.date), ("title", source.title))}
    words = {name: str(value) for name, value in optional.items() if value is not None}
    url = str(row.get(source.url) or f"file:{place}")
    return Page(url, _name(source, kind), source.content_kind, content, license=source.license, **words)
