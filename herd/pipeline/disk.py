"""Whether work failed because the disk is full, whatever library it was that noticed.

Each says it in its own way: Python with an errno, SQLite and safetensors in words, NumPy and torch with an error that
speaks of anything else.  So the error is asked first, and then the disk.
"""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from herd.foundation.errors import HerdError, UnfinishedError

_NUMBERS = {errno.ENOSPC, errno.EDQUOT}
_WORDS = ("no space left on device", "disk is full", "disk quota exceeded")
_LEAST_BYTES = 64 * 1024


class DiskFullError(UnfinishedError):
    """The disk is full; what was done so far is kept, so that the same command goes on once there is space."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)  # a worker's error is made anew in its parent, from these very arguments

    def __str__(self) -> str:
        return f"{self.args[0]}: no space left on the disk; free some and run the same command again"


@contextmanager
def naming_a_full_disk(place: Path) -> Iterator[None]:
    """Turns whatever a full disk does to the work inside into a ``DiskFullError`` that names ``place``, made there."""
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        if is_full(error, place):
            raise DiskFullError(place) from error
        raise


def is_full(error: BaseException, place: Path) -> bool:
    """Whether ``error`` tells of a full disk, or it is no user's mistake and ``place`` has next to nothing left."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in _NUMBERS:
            return True
        if any(words in str(cause).lower() for words in _WORDS):
            return True
    if isinstance(error, HerdError):
        return False
    existing = next(path for path in (place, *place.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free < _LEAST_BYTES


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
