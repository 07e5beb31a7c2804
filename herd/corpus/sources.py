"""Where pages come from: the recipe's ``sources:``, and one reader for all of them.

    for page in read_pages(HtmlSource(paths=["site/"])): ...

A source is the documentation of this Python, or files: folders, globs or addresses of HTML, WARC, JSONL and Parquet.  A
page that is no use goes to ``skip`` with a reason.  A file, or a place in one, that is damaged goes to ``broken`` with
its offset, and the rest is read; without ``broken`` a file that cannot be read is a ``HerdError`` that names it.  No
page and no line is held in memory beyond ``max_page_bytes``, whatever it claims or unpacks to.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from herd.corpus.charset import decode_html
from herd.corpus.pages import Cursor, Page
from herd.corpus.python_docs import PythonDocs, Skip, read_python_docs, versions
from herd.corpus.storage import PageFile, find_files
from herd.corpus.warc import read_warc
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import digest_value


class Files(Config):
    """What all sources made of files share."""

    name: str | None = Field(default=None, description="what the pages' column ``source`` says; the kind, if left out")
    paths: tuple[str, ...] = Field(
        min_length=1, description="files, folders (read with all below them), globs, or addresses that fsspec knows"
    )
    license: str | None = Field(default=None, description="the licence under which these pages may be used")
    max_page_bytes: int = Field(default=8_000_000, gt=0, description="a longer page is skipped")
    damaged: Literal["quarantine", "stop"] = Field(
        default="quarantine", description="whether what is damaged is noted and the rest read, or ends the run"
    )


class HtmlSource(Files):
    """HTML files; the address of a page is its path."""

    kind: Literal["html"] = "html"


class WarcSource(Files):
    """Web archives, plain or compressed; every HTML response in them is a page."""

    kind: Literal["warc"] = "warc"


class RowSource(Files):
    """Files of rows; these name the columns."""

    content: str = Field(default="text", description="the column that holds the text")
    content_kind: Literal["text", "html", "code"] = Field(default="text", description="what that column holds")
    url: str = Field(default="url", description="the column with the address; a row without one gets file and number")
    date: str = Field(default="date", description="the column with the date, if there is one")
    title: str = Field(default="title", description="the column with the title, if there is one")
    license_column: str = Field(default="license", description="the column with a row's own licence, if there is one")
    max_page_bytes: int = Field(default=64_000_000, gt=0, description="a longer row is skipped")


class JsonlSource(RowSource):
    """JSONL files, one object a line."""

    kind: Literal["jsonl"] = "jsonl"


class ParquetSource(RowSource):
    """Parquet files."""

    kind: Literal["parquet"] = "parquet"


FileSource = HtmlSource | WarcSource | JsonlSource | ParquetSource
SourceConfig = Annotated[PythonDocs | FileSource, Field(discriminator="kind")]  # what a recipe's ``sources:`` lists
FILE_SOURCES: dict[str, type[FileSource]] = {
    "html": HtmlSource,
    "warc": WarcSource,
    "jsonl": JsonlSource,
    "parquet": ParquetSource,
}

_SUFFIXES = {
    "html": (".html", ".htm", ".xhtml"),
    "warc": (".warc", ".warc.gz"),
    "jsonl": (".jsonl", ".jsonl.gz", ".ndjson"),
    "parquet": (".parquet",),
}


@dataclass(frozen=True)
class Damage:
    """What cannot be read: the file, where that begins (``unit``: at a "byte" or a "line", after a "row"), and why."""

    file: str
    offset: int
    unit: str
    reason: str

    def __str__(self) -> str:
        place = f", {self.unit} {self.offset:,}" if self.offset else ""
        return f"{self.file}{place}: {self.reason}"


Broken = Callable[[Damage], None]


def read_pages(
    source: SourceConfig,
    skip: Skip = lambda name, reason: None,
    broken: Broken | None = None,
    cursor: Cursor | None = None,
) -> Iterator[Page]:
    """Yields the pages of ``source`` in a fixed order, from ``cursor`` on, which moves along if the source is files.

    ``skip(name, reason)`` hears of every page left out, ``broken(damage)`` of all that is damaged; where it is None, a
    file that cannot be read is a ``HerdError``, and so is a broken line.
    """
    if isinstance(source, PythonDocs):
        yield from read_python_docs(source, skip)
        return
    cursor = cursor or Cursor()
    readers: dict[str, Callable[[Any, PageFile, Skip, Broken, Cursor], Iterator[Page]]]
    readers = {"html": _read_html, "warc": _read_warc, "jsonl": _read_jsonl, "parquet": _read_parquet}
    for number, file in enumerate(source_files(source)):
        if number < cursor.file:
            continue
        if number > cursor.file:
            cursor.file, cursor.offset, cursor.count = number, 0, 0
        yield from readers[source.kind](source, file, skip, broken or _refuse, cursor)


def _refuse(damage: Damage) -> None:
    raise HerdError(str(damage))


def source_files(source: FileSource) -> list[PageFile]:
    """The files of ``source`` in order, each once; a path that leads to none is a ``HerdError`` that names it."""
    found: dict[str, PageFile] = {}
    for text in source.paths:
        try:
            files = find_files(text, _SUFFIXES[source.kind])
        except HerdError as error:
            raise HerdError(f"{error} (source of kind {source.kind})") from None
        found |= {file.name: file for file in files if file.name not in found}
    return list(found.values())


def fingerprint(source: SourceConfig) -> dict[str, Any]:
    """What the pages of ``source`` depend on, found without reading or rendering any: versions, or sizes and times."""
    if isinstance(source, PythonDocs):
        return {"config": source.model_dump(mode="json"), "versions": versions(source)}
    stamps = [file.stamp() for file in source_files(source)]
    return {"config": source.model_dump(mode="json"), "files": len(stamps), "digest": digest_value(stamps)}


def _name(source: Files, kind: str) -> str:
    return source.name or kind


def _address(file: PageFile) -> str:
    return file.name if file.system is not None else f"file:{file.name}"


def _read_html(source: HtmlSource, file: PageFile, skip: Skip, broken: Broken, cursor: Cursor) -> Iterator[Page]:
    if cursor.count:
        return
    try:
        with file.open() as stream:
            data = stream.read(source.max_page_bytes + 1)
    except OSError as error:
        broken(Damage(file.name, 0, "byte", f"not readable ({error.strerror or error})"))
        return
    if len(data) > source.max_page_bytes:
        skip(file.name, f"longer than {source.max_page_bytes:,} bytes")
        return
    text = decode_html(data)
    if text is None:
        broken(Damage(file.name, 0, "byte", "not HTML but binary data"))
    elif not text.strip():
        skip(file.name, "empty file")
    else:
        cursor.count = 1
        yield Page(_address(file), _name(source, "html"), "html", text, license=source.license)


def _read_warc(source: WarcSource, file: PageFile, skip: Skip, broken: Broken, cursor: Cursor) -> Iterator[Page]:
    def damaged(offset: int, reason: str) -> None:
        # Damage within an archive leaves pages before and after it, and is no reason to stop.
        damage = Damage(file.name, offset, "byte", reason)
        if broken is _refuse and offset:
            skip(f"{file.name}@{offset}", reason)
        else:
            broken(damage)

    try:
        with file.open() as stream:
            yield from read_warc(
                stream, file.name, _name(source, "warc"), source.license, source.max_page_bytes, skip, damaged, cursor
            )
    except OSError as error:
        broken(Damage(file.name, 0, "byte", f"not readable as WARC ({error.strerror or error})"))


def _read_jsonl(source: JsonlSource, file: PageFile, skip: Skip, broken: Broken, cursor: Cursor) -> Iterator[Page]:
    number = 0
    try:
        with file.open() as raw:
            lines = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if file.name.endswith(".gz") else raw
            for number, line in enumerate(_lines(lines, source.max_page_bytes), start=1):
                if number <= cursor.count:
                    continue
                if line is None:
                    skip(f"{file.name}#{number}", f"longer than {source.max_page_bytes:,} bytes")
                    continue
                row = _row_of_line(file, number, line, broken) if line.strip() else None
                page = _page_of_row(source, file, number, row, skip) if row is not None else None
                if page is not None:
                    cursor.count = number
                    yield page
    except (OSError, EOFError, zlib.error) as error:
        broken(Damage(file.name, number + 1, "line", f"not readable as JSONL ({error})"))


def _lines(stream: BinaryIO, limit: int) -> Iterator[bytes | None]:
    """The lines of a stream; None for one longer than ``limit`` bytes, which is read past without being held."""
    while line := stream.readline(limit + 1):
        if len(line) <= limit or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(1 << 20)
        yield None


def _row_of_line(file: PageFile, number: int, line: bytes, broken: Broken) -> dict[str, Any] | None:
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        broken(Damage(file.name, number, "line", f"not readable as JSONL ({error.reason})"))
        return None
    except (ValueError, RecursionError) as error:
        broken(Damage(file.name, number, "line", f"not JSON ({error})"))
        return None
    if not isinstance(row, dict):
        broken(Damage(file.name, number, "line", "not a JSON object"))
        return None
    return row


def _read_parquet(source: ParquetSource, file: PageFile, skip: Skip, broken: Broken, cursor: Cursor) -> Iterator[Page]:
    number = 0
    try:
        with file.open() as stream:
            names = set((schema := pq.read_schema(stream)).names)
            if source.content not in names:
                raise HerdError(f"{file.name}: has no column {source.content!r} (it has {', '.join(sorted(names))})")
            # A column that is read as a dictionary takes the memory of its distinct values, however often they come.
            texts = [source.content] if _is_text(schema.field(source.content).type) else None
            table = pq.ParquetFile(stream, read_dictionary=texts)
            columns = [name for name in _columns(source) if name in names]
            for batch in table.iter_batches(batch_size=256, columns=columns):
                for at in range(batch.num_rows):
                    number += 1
                    if number <= cursor.count:
                        continue
                    row = {name: batch.column(name)[at].as_py() for name in columns}
                    page = _page_of_row(source, file, number, row, skip)
                    if page is not None:
                        cursor.count = number
                        yield page
    except (OSError, pa.ArrowException) as error:
        broken(Damage(file.name, number, "row", f"not readable as Parquet ({error})"))


def _columns(source: RowSource) -> tuple[str, ...]:
    return source.content, source.url, source.date, source.title, source.license_column


def _is_text(kind: pa.DataType) -> bool:
    return any(check(kind) for check in (pa.types.is_string, pa.types.is_binary))


def _page_of_row(source: RowSource, file: PageFile, number: int, row: dict[str, Any], skip: Skip) -> Page | None:
    """The page of one row; None for a row without text, which ``skip`` hears of."""
    content = row.get(source.content)
    place = f"{file.name}#{number}"
    if isinstance(content, bytes):
        content = decode_html(content)
    if not isinstance(content, str) or not content.strip():
        skip(place, f"no text in {source.content!r}")
        return None
    if len(content) > source.max_page_bytes:
        skip(place, f"longer than {source.max_page_bytes:,} bytes")
        return None
    kind = source.kind if isinstance(source, JsonlSource | ParquetSource) else "rows"
    named = {"license": source.license_column, "date": source.date, "title": source.title}
    words = {name: str(row[column]) for name, column in named.items() if row.get(column) is not None}
    url = str(row.get(source.url) or f"{_address(file)}#{number}")
    return Page(url, _name(source, kind), source.content_kind, content, **({"license": source.license} | words))
