"""One writer for a run directory.

The lock is the kernel's (``flock``), so it ends with the process that holds it however that process ends: a stale
lock cannot exist.  The file holds the process id, for the sentence that a second writer gets.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from herd.foundation.errors import HerdError


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Holds ``directory`` for this process; raises ``HerdError`` with the holder's process id if another has it.

    A file system that cannot lock is a ``HerdError`` too: two writers would tear each other's work.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / ".lock"
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise HerdError(
                f"{directory}: process {holder} is writing this run; wait until it has finished or end it first"
            ) from None
        except OSError as error:
            raise HerdError(f"{directory}: cannot be locked there ({error.strerror}); write to another disk") from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.seek(0)
            file.truncate()
            file.flush()
