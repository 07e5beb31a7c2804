"""One way to say how long work goes on: a bar with rate and time left on a terminal, a line now and then elsewhere.

A stage receives a ``Progress`` and never prints.  ``silent()`` is the one for tests and for library use.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TextIO, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

Item = TypeVar("Item")

_SECONDS_BETWEEN_LINES = 15.0


class Task:
    """Work of a known or unknown number of units; ``advance`` it, and ``note`` what a reader should see beside it."""

    def __init__(self, progress: "Progress", description: str, total: float | None, unit: str) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done, self.remark = 0.0, ""
        self._progress = progress
        self._started = self._last_line = time.monotonic()

    def advance(self, amount: float = 1.0) -> None:
        """Counts ``amount`` more units as done."""
        self.done += amount
        self._progress._show(self)

    def note(self, remark: str) -> None:
        """Replaces the remark beside the count, for example the current loss."""
        self.remark = remark

    @property
    def rate(self) -> float:
        """Units a second since the task began."""
        return self.done / max(time.monotonic() - self._started, 1e-9)

    def line(self) -> str:
        """The task in one line of plain text: description, units done, rate, remark."""
        total = f" of {self.total:,.0f}" if self.total is not None else ""
        parts = [
            f"{self.description}: {self.done:,.0f}{total} {self.unit}",
            f"{self.rate:,.1f} {self.unit}/s",
            self.remark,
        ]
        return ", ".join(part for part in parts if part)


class Progress:
    """Shows tasks and sentences on ``stream``; ``Progress(None)`` shows nothing.

    Where several processes write to one stream, each gives its lines a ``prefix`` and draws no ``bars``.
    """

    def __init__(self, stream: TextIO | None = sys.stderr, prefix: str = "", bars: bool = True) -> None:
        self._stream, self._prefix = stream, prefix
        self._console = Console(file=stream) if stream is not None else None
        self._draws = bars and self._console is not None and self._console.is_terminal
        self._bars: Bars | None = None

    @classmethod
    def silent(cls) -> "Progress":
        """A progress that shows nothing."""
        return cls(None)

    def say(self, sentence: str) -> None:
        """Prints one sentence, above the bars if there are any."""
        if self._console is not None:
            self._console.print(Text(self._prefix + sentence), soft_wrap=True)

    @contextmanager
    def task(self, description: str, total: float | None = None, unit: str = "steps") -> Iterator[Task]:
        """Opens a task for the duration of a ``with`` block."""
        task = Task(self, description, total, unit)
        if not self._draws:
            yield task
            self._line(task)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[remark]}"),
        )
        try:
            with Bars(*columns, console=self._console, transient=True) as self._bars:
                self._bars.add_task(description, total=total, remark="")
                yield task
        finally:
            self._bars = None
        self._line(task)

    def track(
        self, items: Iterable[Item], description: str, total: float | None = None, unit: str = "items"
    ) -> Iterator[Item]:
        """Yields ``items`` and counts them."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        with self.task(description, total, unit) as task:
            for item in items:
                yield item
                task.advance()

    def _show(self, task: Task) -> None:
        if self._bars is not None:
            remark = f"{task.rate:,.0f} {task.unit}/s {task.remark}"
            self._bars.update(self._bars.task_ids[0], completed=task.done, remark=remark)
        elif self._console is not None and time.monotonic() - task._last_line > _SECONDS_BETWEEN_LINES:
            self._line(task)

    def _line(self, task: Task) -> None:
        task._last_line = time.monotonic()
        self.say(task.line())
