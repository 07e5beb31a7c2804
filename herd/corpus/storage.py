"""Files of pages, on the disk or wherever fsspec reaches: ``s3://bucket/crawl/*.warc.gz``, ``https://...``.

    for file in find_files("s3://bucket/crawl/", (".warc.gz",)): file.open()

Paths without a scheme are the disk's and need nothing; a scheme needs fsspec and its part for it (the extra ``remote``
brings those for http and s3).
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from herd.foundation.errors import HerdError


@dataclass(frozen=True)
class PageFile:
    """One file; ``name`` is its path or address, ``system`` is fsspec's file system, None for the disk."""

    name: str
    system: Any = None

    def open(self) -> BinaryIO:
        """The bytes of the file, read piece by piece; ``OSError`` where it cannot be had."""
        if self.system is None:
            return Path(self.name).open("rb")
        try:
            return cast(BinaryIO, self.system.open(self.name, "rb"))
        except OSError:
            raise
        except Exception as error:  # every file system of fsspec has errors of its own
            raise OSError(f"{type(error).__name__}: {error}") from None

    def stamp(self) -> tuple[str, ...]:
        """What changes when the file does: name, size, and time of change or tag."""
        if self.system is None:
            status = Path(self.name).stat()
            return self.name, str(status.st_size), str(status.st_mtime_ns)
        known = self.system.info(self.name)
        tags = (known.get(key) for key in ("size", "mtime", "ETag", "LastModified", "created"))
        return self.name, *(str(tag) for tag in tags if tag is not None)


def find_files(text: str, suffixes: tuple[str, ...]) -> list[PageFile]:
    """The files that ``text`` names: a file whatever its name is, those of a folder by suffix, those of a glob.

    Raises:
        HerdError: there are none, or what it takes to look is missing.
    """
    found, exists = _remote(text, suffixes) if "://" in text else _local(text, suffixes)
    if not found:
        wanted = " or ".join(suffixes)
        raise HerdError(f"{text}: {f'holds no file that ends in {wanted}' if exists else _NOTHING}")
    return found


_NOTHING = "there is no such file or folder"


def _local(text: str, suffixes: tuple[str, ...]) -> tuple[list[PageFile], bool]:
    matches = _matches(Path(text).expanduser())
    return [PageFile(str(file)) for match in matches for file in _below(match, suffixes)], bool(matches)


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


def _remote(text: str, suffixes: tuple[str, ...]) -> tuple[list[PageFile], bool]:
    import fsspec  # type: ignore[import-untyped]

    try:
        system, path = fsspec.core.url_to_fs(text)
        found: list[str] = []
        matches = sorted(system.glob(path)) if any(sign in path for sign in "*[") else [path]
        for match in matches:
            if system.isfile(match):
                found.append(match)
            elif system.isdir(match):
                found += [name for name in sorted(system.find(match)) if name.lower().endswith(suffixes)]
        exists = bool(matches) and system.exists(matches[0])
    except (ImportError, ValueError) as error:
        raise HerdError(f"{text}: cannot be read ({error}); the extra remote brings http and s3") from None
    except Exception as error:  # every file system of fsspec has errors of its own
        raise HerdError(f"{text}: cannot be read ({type(error).__name__}: {error})") from None
    return [PageFile(system.unstrip_protocol(name), system) for name in found], exists
