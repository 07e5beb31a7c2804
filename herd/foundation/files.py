"""Files that are either whole or absent, and digests that say whether they changed.

Every artifact of Herd is written through here: to a temporary neighbour, flushed to the disk, renamed into place.
A reader therefore never meets half a file, whatever was killed when.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from herd.foundation.errors import HerdError

_CHUNK_BYTES = 1 << 20


def sync_directory(path: Path) -> None:
    """Flushes a directory's own entries, without which a rename may be lost with the power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; what was written there takes its place on success only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON; numbers that are not finite, for which JSON has no word, become null."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_with_nulls(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _with_nulls(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _with_nulls(entry) for key, entry in value.items()}
    return [_with_nulls(entry) for entry in value] if isinstance(value, list | tuple) else value


def write_json(path: Path, value: Any) -> None:
    """Writes readable JSON atomically."""
    write_text(path, json_text(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON; a missing or broken file is a ``HerdError`` that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HerdError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise HerdError(f"{path}: not readable as JSON ({error})") from None


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """Writes one JSON value a line, atomically; returns the number of lines."""
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json_text(row) + "\n")
            count += 1
    return count


def read_jsonl(path: Path) -> Iterator[Any]:
    """Yields the values of a JSONL file; a broken line is a ``HerdError`` with its number."""
    try:
        source = path.open("rb")
    except FileNotFoundError:
        raise HerdError(f"{path}: there is no such file") from None
    except OSError as error:
        raise HerdError(f"{path}: not readable ({error.strerror})") from None
    with source:
        for number, line in enumerate(source, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line.decode())
            except UnicodeDecodeError as error:
                raise HerdError(f"{path}, line {number}: byte {error.start + 1} of the line is not UTF-8") from None
            except ValueError as error:
                raise HerdError(f"{path}, line {number}: not JSON ({error})") from None
            yield value


def finish_directory(partial: Path, final: Path) -> None:
    """Moves a finished directory into its place; an older one of that name gives way at the last moment."""
    if final.exists():
        aside = final.with_name(f".{final.name}.{os.getpid()}.old")
        final.replace(aside)
        partial.replace(final)
        shutil.rmtree(aside)
    else:
        partial.replace(final)
    sync_directory(final.parent)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yields a fresh temporary directory beside ``path`` that takes its place on success and vanishes on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        finish_directory(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def digest_file(path: Path) -> str:
    """BLAKE2b of a file's bytes, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def digest_value(value: Any) -> str:
    """BLAKE2b of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
