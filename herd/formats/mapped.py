"""Files read through memory maps without the pages adding up.

A mapped tensor costs nothing until its bytes are touched, but every touched page then counts as the process's memory
for as long as the map lives.  ``MappedFiles`` therefore opens its files anew once enough was read through them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

Opened = TypeVar("Opened")

_MAPPED_BYTES = 64 << 20


class MappedFiles(Generic[Opened]):
    """Files opened by ``open_file``, of whose bytes at most 64 MB, or those of one tensor, stay mapped."""

    def __init__(self, open_file: Callable[[Path], Opened]) -> None:
        self._open_file = open_file
        self._opened: dict[Path, Opened] = {}
        self._touched = 0

    def get(self, file: Path, nbytes: int) -> Opened:
        """The opened ``file``, of which the caller is about to read ``nbytes``; it must not keep what it is given."""
        if self._touched + nbytes > _MAPPED_BYTES:
            self._opened.clear()
            self._touched = 0
        self._touched += nbytes
        if file not in self._opened:
            self._opened[file] = self._open_file(file)
        return self._opened[file]
