"""Pages: what every source gives before anything is judged, and how they lie on the disk.

The artifact ``pages`` holds ``pages/*.parquet`` (one row a page, as it was found), ``skipped.jsonl`` (what could not
be had, with the reason) and ``stats.json``.  ``collect`` makes it, ``load_pages`` reads it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from herd.foundation.errors import HerdError
from herd.foundation.files import atomic_path

COLUMNS = ("id", "url", "source", "kind", "content", "date", "package", "title", "license", "robots")
_SCHEMA = pa.schema([pa.field(name, pa.large_string() if name == "content" else pa.string()) for name in COLUMNS])
_SHARD_CHARACTERS = 32_000_000


@dataclass(frozen=True)
class Page:
    """One page as it was found; ``kind`` says what ``content`` is: "html", "text" (plain or Markdown) or "code".

    ``robots`` is what its server said to robots (the header ``X-Robots-Tag``).
    """

    url: str
    source: str
    kind: str
    content: str
    date: str | None = None
    package: str | None = None
    title: str | None = None
    license: str | None = None
    robots: str | None = None

    @cached_property
    def id(self) -> str:
        """32 hexadecimal digits that depend on the address and the content, on nothing else."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.kind, self.url, self.content):
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()


@dataclass
class Cursor:
    """How far the files of a source were read: all before ``file``, and of that ``count`` records, lines or rows.

    ``offset`` is the byte at which the last of these records begins, for files that need it.
    """

    file: int = 0
    offset: int = 0
    count: int = 0


class PageWriter:
    """Writes pages to shards of some 32 million characters below ``directory``; call ``close`` at the end.

    The first ``shards`` that lie there already stay.
    """

    def __init__(self, directory: Path, shards: int = 0) -> None:
        self._directory = directory
        self._directory.mkdir(parents=True, exist_ok=True)
        for stale in sorted(self._directory.glob("*.parquet"))[shards:]:
            stale.unlink()
        self._rows: list[dict[str, Any]] = []
        self._characters = 0
        self.shards = shards

    def add(self, page: Page) -> bool:
        """Appends a page, a lone surrogate in it as a question mark; True if nothing is held that is not written."""
        row = {field.name: getattr(page, field.name) for field in fields(page)}
        row |= {"id": page.id, "content": page.content.encode("utf-8", "replace").decode()}
        self._rows.append(row)
        self._characters += len(page.content)
        if self._characters < _SHARD_CHARACTERS:
            return False
        self.close()
        return True

    def close(self) -> None:
        """Writes what is still held, if anything."""
        if self._rows:
            table = pa.Table.from_pylist(self._rows, schema=_SCHEMA)
            with atomic_path(self._directory / f"{self.shards:05d}.parquet") as temporary:
                pq.write_table(table, temporary, compression="zstd")
            self.shards += 1
        self._rows, self._characters = [], 0


def page_columns(schema: pa.Schema) -> list[str]:
    """The columns of a shard that make a page; what an older Herd wrote may lack the last ones."""
    return [field.name for field in fields(Page) if field.name in schema.names]


def stored_page(row: dict[str, Any]) -> Page:
    """The page of a row of a shard with the id that it has there, which need not be computed again."""
    page = Page(**{name: value for name, value in row.items() if name != "id"})
    vars(page)["id"] = row["id"]
    return page


def load_pages(artifact: Path) -> Iterator[Page]:
    """Yields the pages of a ``pages`` artifact in their order, a few at a time; a broken shard is a ``HerdError``."""
    shards = sorted((artifact / "pages").glob("*.parquet"))
    if not shards:
        raise HerdError(f"{artifact}: holds no pages (expected pages/*.parquet)")
    for shard in shards:
        try:
            file = pq.ParquetFile(shard)
            for batch in file.iter_batches(batch_size=64, columns=page_columns(file.schema_arrow)):
                for row in batch.to_pylist():
                    yield Page(**row)
        except (OSError, pa.ArrowInvalid) as error:
            raise HerdError(f"{shard}: not readable as Parquet ({error})") from None
