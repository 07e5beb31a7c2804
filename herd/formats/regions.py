"""Large files filled region by region, each whole or absent, and resumable after a kill.

The format plans its files beforehand: how long each is and where a tensor's bytes lie.  Until ``finish`` a file is a
hidden neighbour of its final place; a journal says which regions are on the disk.

    files = RegionFiles(out, {"model.safetensors": total}, journal=".convert.jsonl", plan=digest)
    if "header" not in files.done:
        files.write("header", [("model.safetensors", 0, header)])
    files.write("lm_head.weight", [("model.safetensors", offset, data)])
    files.finish()
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from herd.foundation.files import sync_directory, write_text

_FLUSH_BYTES = 256 << 20

Region = tuple[str, int, bytes | memoryview]
"""A file's name, an offset in it, the bytes that belong there (a flat memoryview of bytes)."""


class RegionFiles:
    """The files of one directory while they are being filled."""

    def __init__(self, directory: Path, sizes: Mapping[str, int], journal: str, plan: str) -> None:
        """Finds the work of an interrupted call with the same ``plan`` (a digest of everything that decides the bytes).

        ``sizes`` maps each file's name to its length in bytes.  Afterwards ``done`` maps the regions that are on the
        disk to the notes that were given with them.
        """
        self.directory, self._sizes, self._plan = directory, dict(sizes), plan
        self._journal = directory / journal
        self._waiting: dict[str, Any] = {}
        self._waiting_bytes = 0
        directory.mkdir(parents=True, exist_ok=True)
        self.done: dict[str, Any] = self._found() or {}
        if not self.done:
            self._start()

    def write(self, key: str, regions: Sequence[Region], note: Any = None) -> None:
        """Writes one key's regions; ``key`` is in ``done``, with its ``note`` (a JSON value), once it is flushed."""
        for name, offset, data in regions:
            with self._partial(name).open("r+b") as out:
                out.seek(offset)
                out.write(data)
            self._waiting_bytes += len(data)
        self._waiting[key] = note
        if self._waiting_bytes >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Brings everything written so far to the disk, and only then says so in the journal."""
        for name in self._sizes:
            _sync(self._partial(name))
        with self._journal.open("a", encoding="utf-8") as out:
            out.writelines(json.dumps([key, note]) + "\n" for key, note in self._waiting.items())
        _sync(self._journal)
        self.done |= self._waiting
        self._waiting, self._waiting_bytes = {}, 0

    def finish(self) -> None:
        """Flushes, moves every file into its place and removes the journal."""
        self.flush()
        for name in self._sizes:
            self._partial(name).replace(self.directory / name)
        self._journal.unlink()
        sync_directory(self.directory)

    def _partial(self, name: str) -> Path:
        return self.directory / f".{name}.partial"

    def _found(self) -> dict[str, Any] | None:
        """What an interrupted call with the same plan wrote; None where there is nothing to go on from."""
        try:
            lines = self._journal.read_text(encoding="utf-8").splitlines()
            sizes = {name: self._partial(name).stat().st_size for name in self._sizes}
        except OSError:
            return None
        entries = []
        for line in lines:
            try:
                entries.append(json.loads(line))
            except ValueError:
                break  # the line that the kill cut
        if not entries or entries[0] != ["plan", self._plan] or sizes != self._sizes:
            return None
        write_text(self._journal, "".join(json.dumps(entry) + "\n" for entry in entries))
        return dict(entries[1:])

    def _start(self) -> None:
        """Makes the files at their full length, sparse, and a fresh journal."""
        self._journal.unlink(missing_ok=True)
        for name, size in self._sizes.items():
            with self._partial(name).open("wb") as out:
                out.truncate(size)
        self._waiting["plan"] = self._plan
        self.flush()
        del self.done["plan"]


def _sync(file: Path) -> None:
    with file.open("rb") as source:
        os.fsync(source.fileno())
