"""The seconds and the memory that a stage took, over all the processes that worked on it.

    with Spent(record) as spent:
        stage.run(...)
    spent.seconds, spent.peak_bytes

A process that is killed takes its clock with it.  So what was spent is written to ``record`` every few seconds, and the
process that goes on begins with what it finds there: seconds add up, and of memory the most counts.
"""

import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from herd.foundation.files import read_json, write_json
from herd.pipeline.memory import PeakMemory

_SECONDS = 5.0


class Spent:
    """A context that knows what the sessions before it and its own have spent so far."""

    def __init__(self, record: Path, seconds: float = _SECONDS) -> None:
        """Goes on from ``record`` where it is there, and writes it every ``seconds``."""
        before = read_json(record) if record.exists() else {"seconds": 0.0, "peak_bytes": 0}
        self._record, self._pause = record, seconds
        self._seconds_before, self._peak_before = float(before["seconds"]), int(before["peak_bytes"])
        self._peak = PeakMemory()
        self._done = threading.Event()
        self._writer = threading.Thread(target=self._write, name="spent", daemon=True)

    def __enter__(self) -> Self:
        """Begins to count."""
        self._started = time.monotonic()
        self._peak.__enter__()
        self._writer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Writes a last time; of memory nothing more is counted."""
        self._peak.__exit__(kind, error, trace)
        self._done.set()
        self._writer.join()
        self._note()

    @property
    def seconds(self) -> float:
        """Wall seconds of all sessions until now."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def peak_bytes(self) -> int:
        """The most memory of any session."""
        return max(self._peak_before, self._peak.bytes)

    def _write(self) -> None:
        while not self._done.wait(self._pause):
            self._note()

    def _note(self) -> None:
        # On a full disk the stage itself says so; its account alone must not be what stops it.
        with suppress(OSError):
            write_json(self._record, {"seconds": self.seconds, "peak_bytes": self.peak_bytes})
