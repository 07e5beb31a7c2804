"""The diary of a run: ``metrics.jsonl``, one line a step, and TensorBoard events where TensorBoard is installed.

A checkpoint remembers how long the diary was; resuming cuts it there, so that no step is told twice.
"""

import importlib.util
import os
from pathlib import Path
from typing import Any

from herd.foundation.files import json_text


class MetricsLog:
    """Appends to the diary of the run in ``directory``, which is first cut to ``size`` bytes."""

    def __init__(self, directory: Path, size: int, step: int, tensorboard: bool) -> None:
        self._file = (directory / "metrics.jsonl").open("ab")
        self._file.truncate(size)
        self._file.seek(0, os.SEEK_END)
        self._events: Any = None
        if tensorboard and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter  # costs a second, so only where it is used

            self._events = SummaryWriter(directory / "tensorboard", purge_step=step)

    def write(self, step: int, figures: dict[str, float | int | bool]) -> None:
        """Adds the line of one step; figures that are not finite, as those of a step left out may be, become null."""
        self._file.write((json_text({"step": step} | figures) + "\n").encode())
        if self._events is not None:
            for name, value in figures.items():
                self._events.add_scalar(name, value, step)

    def sync(self) -> int:
        """Brings the diary to the disk and returns its length in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._events is not None:
            self._events.flush()
        return self._file.tell()

    def close(self) -> None:
        """Closes both files."""
        self._file.close()
        if self._events is not None:
            self._events.close()
