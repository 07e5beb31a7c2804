"""Brings files of a Common Crawl snapshot to the disk.

    herd fetch common-crawl --snapshot CC-MAIN-2024-10 --segments 0-1 --files 2 --out crawl

    fetch(CommonCrawlConfig(snapshot="CC-MAIN-2024-10", segments="0", files=2), Path("crawl"), Progress())

The listing of the snapshot says which files there are; each is written beside its place and renamed when it is whole:
as long as the server said, packed soundly to its last byte, and of the MD5 that the server's tag names where it names
one.  A download that breaks off goes on where it was, as long as the tag is the same; a second call brings only what
is missing.  ``fetched.jsonl`` holds address, size, SHA-256 and tag of every file.
"""

import gzip
import hashlib
import io
import re
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import Field

from herd.corpus.web import Patience, RefusedError, UnreliableError, patiently, receive, send
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import atomic_path, read_json, read_jsonl, sync_directory, write_json, write_jsonl
from herd.foundation.progress import Progress

Advance = Callable[[int], None]

LEDGER = "fetched.jsonl"
_CHUNK = 1 << 20
_PARTIAL, _NOT_SATISFIABLE = 206, 416
_LONGEST_LISTING = 64 << 20
_PATH = re.compile(r"crawl-data/[\w-]+/segments/(\d[\w.]*)/(?:\w+/)?([\w-][\w.-]*)")
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_MD5 = re.compile(r'"([0-9a-f]{32})"')


class CommonCrawlConfig(Config):
    """Which files of which snapshot."""

    snapshot: str = Field(pattern=r"^CC-MAIN-\d{4}-\d{2}$", description="as CC-MAIN-2024-10")
    segments: str = Field(default="", description="numbers in the listing's order, ranges and names: 0-3,7")
    files: int | None = Field(default=None, gt=0, description="of each segment; all, if left out")
    kind: Literal["warc", "wet", "wat"] = "warc"
    server: str = Field(default="https://data.commoncrawl.org", pattern=r"^https?://")
    parallel: int = Field(default=2, ge=1, le=16, description="downloads at a time")
    patience: Patience = Patience()


def list_segments(config: CommonCrawlConfig) -> dict[str, list[str]]:
    """The segments of the snapshot in the listing's order, each with the paths of its files.

    Raises:
        HerdError: the server has no such snapshot, does not answer, or answers with anything else.
    """
    url = f"{config.server}/crawl-data/{config.snapshot}/{config.kind}.paths.gz"
    try:
        listing = patiently(lambda: _listing(url, config.patience), config.patience, url)
        lines = listing.decode("ascii").split()
    except (gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise HerdError(f"{url}: not a listing packed by gzip ({error})") from None
    if len(listing) > _LONGEST_LISTING:
        raise HerdError(f"{url}: a listing of more than {_LONGEST_LISTING:,} bytes")
    segments: dict[str, list[str]] = {}
    for line in lines:
        found = _PATH.fullmatch(line)
        if found is None:
            raise HerdError(f"{url}: lists {line[:80]!r}, which is no file of a segment")
        segments.setdefault(found[1], []).append(line)
    return segments


def _listing(url: str, patience: Patience) -> bytes:
    """The unpacked answer, or the first bytes of one that is too long."""
    with closing(send(url, patience)) as response:
        data = receive(response, _LONGEST_LISTING)
    try:
        with gzip.open(io.BytesIO(data)) as file:
            return file.read(_LONGEST_LISTING + 1)
    except EOFError:
        raise UnreliableError(f"the answer broke off after {len(data):,} bytes", progressed=False) from None


def choose(segments: dict[str, list[str]], wanted: str, files: int | None) -> list[str]:
    """The paths of the segments that ``wanted`` names by number, range or name."""
    names = list(segments)
    chosen: dict[str, None] = {}
    for part in filter(None, (part.strip() for part in wanted.split(","))):
        first, _, last = part.partition("-")
        if part in segments:
            chosen[part] = None
        elif first.isdigit() and (last or first).isdigit() and int(first) <= int(last or first) < len(names):
            chosen |= dict.fromkeys(names[int(first) : int(last or first) + 1])
        else:
            raise HerdError(f"segments: {part} is none of the {len(names)}; give numbers from 0, ranges, or names")
    return [path for name in chosen for path in segments[name][:files]]


def fetch(config: CommonCrawlConfig, out: Path, progress: Progress) -> list[Path]:
    """Downloads the chosen files below ``out``; returns where they lie.

    Raises:
        HerdError: nothing is chosen, or some file cannot be had; what did come stays, and the next call goes on.
    """
    paths = choose(list_segments(config), config.segments, config.files)
    if not paths:
        raise HerdError("segments: none is chosen; give numbers from 0, ranges, or names")
    book = _Book(out / LEDGER)
    missing = [path for path in paths if not book.holds(path, _place(out, path))]
    failures: list[str] = []
    lock = threading.Lock()
    with progress.task("fetch", unit="bytes") as task, ThreadPoolExecutor(config.parallel) as pool:

        def advance(count: int) -> None:
            with lock:
                task.advance(count)

        for error in pool.map(lambda path: _fetch_one(config, path, out, book, advance), missing):
            failures += [error] if error else []
    if failures:
        raise HerdError(f"{len(failures)} of {len(paths)} files are missing; the same command goes on: {failures[0]}")
    return [_place(out, path) for path in paths]


def _place(out: Path, path: str) -> Path:
    found = _PATH.fullmatch(path)
    assert found is not None, path
    return out / found[1] / found[2]


class _Book:
    """What was fetched, on the disk after every file."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._rows: dict[str, dict[str, Any]] = {row["path"]: row for row in read_jsonl(path)} if path.exists() else {}

    def holds(self, path: str, place: Path) -> bool:
        """Whether the file is there as it was fetched, by its size."""
        row = self._rows.get(path)
        return row is not None and place.exists() and place.stat().st_size == row["bytes"]

    def add(self, row: dict[str, Any]) -> None:
        with self._lock:
            self._rows[row["path"]] = row
            write_jsonl(self._path, (self._rows[name] for name in sorted(self._rows)))


def _fetch_one(config: CommonCrawlConfig, path: str, out: Path, book: _Book, advance: Advance) -> str | None:
    """Fetches one file; returns the sentence about what went wrong."""
    place, url = _place(out, path), f"{config.server}/{path}"
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        download = _Download(url, place, config.patience, advance)
        digests = patiently(download.go_on, config.patience, url)
    except HerdError as error:
        return str(error)
    book.add({"path": path, "url": url, **digests})
    return None


class _Download:
    """One file on its way: ``.NAME.part`` holds what came, ``.NAME.tag`` of which version of the file it is."""

    def __init__(self, url: str, place: Path, patience: Patience, advance: Advance) -> None:
        self._url, self._place, self._patience, self._advance = url, place, patience, advance
        self._part, self._tag = place.with_name(f".{place.name}.part"), place.with_name(f".{place.name}.tag")

    def go_on(self) -> dict[str, Any]:
        """Asks for what is missing, and finishes the file when it is whole; ``UnreliableError`` if it is not yet."""
        here = self._part.stat().st_size if self._part.exists() else 0
        known = read_json(self._tag) if self._tag.exists() else {}
        if here and not known.get("tag"):
            here = 0
        if not here or here != known.get("bytes"):
            here, known = self._receive(here, known)
        return self._finish(here, known)

    def _receive(self, here: int, known: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Writes what the server sends; returns how much there is now, and what is known of the file."""
        asked = {"Range": f"bytes={here}-", "If-Range": known["tag"]} if here else {}
        with closing(self._ask(asked)) as response:
            start, known = self._promise(response, here, known)
            write_json(self._tag, known)
            with self._part.open("r+b" if start else "wb") as out:
                out.seek(start)
                out.truncate()
                came = self._write(response, out)
        if known["bytes"] is not None and start + came < known["bytes"]:
            said = f"the answer broke off after {start + came:,} of {known['bytes']:,} bytes"
            raise UnreliableError(said, progressed=came > 0 and known["tag"] is not None)
        return start + came, known

    def _promise(self, response: Any, here: int, known: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Where the server's bytes belong, and the tag and the size of the whole file."""
        headers = response.headers
        tag = headers.get("ETag") or headers.get("Last-Modified")
        if response.status != _PARTIAL:
            length = headers.get("Content-Length") or ""
            return 0, {"tag": tag, "bytes": int(length) if length.isdigit() else None}
        found = _RANGE.match(headers.get("Content-Range") or "")
        if found is None or int(found[1]) != here or tag != known["tag"]:
            self._discard()
            raise UnreliableError("the server sends another part than it was asked for")
        return here, {"tag": tag, "bytes": int(found[2])}

    def _ask(self, headers: dict[str, str]) -> Any:
        try:
            return send(self._url, self._patience, headers)
        except RefusedError as error:
            if error.status != _NOT_SATISFIABLE:
                raise
            self._discard()
            raise UnreliableError("the server has less than was fetched: once more from the beginning") from None

    def _write(self, response: Any, out: BinaryIO) -> int:
        came = 0
        while True:
            try:
                data = receive(response, _CHUNK)
            except UnreliableError as error:
                out.flush()
                raise UnreliableError(str(error), progressed=came > 0) from None
            if not data:
                return came
            out.write(data)
            came += len(data)
            self._advance(len(data))

    def _finish(self, length: int, known: dict[str, Any]) -> dict[str, Any]:
        """Checks the file and moves it to its place; a broken one is thrown away, to be fetched anew."""
        problem, digests = _check(self._part, known.get("tag"))
        if problem is None and known.get("bytes") not in (None, length):
            problem = f"{length:,} bytes came where {known['bytes']:,} were promised"
        if problem is not None:
            self._discard()
            raise UnreliableError(problem)
        with atomic_path(self._place) as temporary:
            self._part.replace(temporary)
        self._tag.unlink(missing_ok=True)
        sync_directory(self._place.parent)
        return {"bytes": length, "tag": known.get("tag"), **digests}

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self._tag.unlink(missing_ok=True)


def _check(path: Path, tag: str | None) -> tuple[str | None, dict[str, str]]:
    """What is wrong with a file, if anything, and its digest: one reading for both."""
    sha, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    packed = _Gzip()
    with path.open("rb") as source:
        while data := source.read(_CHUNK):
            sha.update(data)
            md5.update(data)
            packed.feed(data)
    promised = _MD5.fullmatch(tag or "")
    if promised and promised[1] != md5.hexdigest():
        return "its MD5 is not the one that the server's tag names", {}
    if not packed.is_whole():
        return "it is not packed soundly by gzip", {}
    return None, {"sha256": sha.hexdigest()}


class _Gzip:
    """Unpacks a stream of gzip members, a piece at a time and without keeping any of it, to see whether it is sound."""

    def __init__(self) -> None:
        self._unpacker, self._within, self._sound = zlib.decompressobj(31), False, True

    def feed(self, data: bytes) -> None:
        while data and self._sound:
            self._within = True
            try:
                self._unpacker.decompress(data, _CHUNK)
            except zlib.error:
                self._sound = False
            data = self._unpacker.unconsumed_tail
            if self._unpacker.eof:
                data, self._unpacker, self._within = self._unpacker.unused_data, zlib.decompressobj(31), False

    def is_whole(self) -> bool:
        return self._sound and not self._within
