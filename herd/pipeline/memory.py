"""The most memory that a run's processes held together while a stage was made.

    with PeakMemory() as peak:
        stage.run(...)
    peak.bytes

A stage may start workers, sandboxes and renderers, and the process that started them stays small; so on Linux a thread
looks at the whole tree of processes twice a second.  Pages that several processes share are counted once: a process's
share of them (PSS) is asked for where the plain sum (RSS), which is cheap but counts them again and again, could be a
new peak.  Elsewhere the figure is the kernel's for this process, of its whole life, without its children.
"""

import os
import resource
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

_PROC = Path("/proc")
_SECONDS = 0.5


class PeakMemory:
    """A context whose ``bytes`` is the peak between its begin and now, or its end."""

    def __init__(self, seconds: float = _SECONDS, proc: Path = _PROC, root: int | None = None) -> None:
        """Looks every ``seconds`` at the tree of the process ``root``, this one by default, in ``proc``."""
        self.bytes = 0
        self._seconds, self._proc, self._root = seconds, proc, os.getpid() if root is None else root
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="peak memory", daemon=True)

    def __enter__(self) -> Self:
        """Begins to look."""
        if (self._proc / "self" / "statm").exists():
            self.look()
            self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Looks a last time."""
        if self._watcher.ident is None:
            self.bytes = own_peak()
            return
        self._done.set()
        self._watcher.join()
        self.look()

    def look(self) -> None:
        """Counts what the processes hold at this moment."""
        processes = process_tree(self._proc, self._root)
        resident = {process: _resident(self._proc / str(process)) for process in processes}
        # No process holds more alone than with what it shares: a sum below the peak cannot hide a new one.
        if sum(resident.values()) > self.bytes:
            shares = (_proportional(self._proc / str(process), resident[process]) for process in processes)
            self.bytes = max(self.bytes, sum(shares))

    def _watch(self) -> None:
        while not self._done.wait(self._seconds):
            self.look()


def process_tree(proc: Path, root: int) -> list[int]:
    """The process ``root`` and everything that descends from it, by the parents that ``proc`` names."""
    children: dict[int, list[int]] = {}
    for process in _numbers(proc):
        try:
            stat = (proc / str(process) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:  # it has just ended
            continue
        # The name in brackets may hold anything, brackets too; behind it stand state and parent.
        parent = int(stat.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(process)
    tree = [root]
    for process in tree:
        tree += children.get(process, ())
    return tree


def own_peak() -> int:
    """The kernel's figure for this process over its whole life, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _numbers(proc: Path) -> Iterable[int]:
    return (int(entry.name) for entry in proc.iterdir() if entry.name.isdigit())


def _resident(process: Path) -> int:
    """Bytes in memory, those shared with other processes included; 0 where it has ended."""
    try:
        return int((process / "statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def _proportional(process: Path, resident: int) -> int:
    """Bytes in memory with the process's share of what it shares; ``resident`` where the kernel does not tell."""
    try:
        for line in (process / "smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resident
