"""Runs ``render_pydoc`` in child processes: one child does many modules, is timed, and is replaced when it fails.

``render(names, ...)`` yields an answer for every name in their order.  A module that fails to import costs one line,
one that crashes or hangs costs its child; the next child goes on with the next name.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_PROGRAM = Path(__file__).with_name("render_pydoc.py")
_START_SECONDS = 60.0  # starting the interpreter on a busy machine is not the module's fault


@dataclass(frozen=True)
class Rendered:
    """The HTML page of a module, or the reason why there is none."""

    name: str
    html: str | None
    reason: str | None = None


def _environment(home: str, search_path: Sequence[Path]) -> dict[str, str]:
    """The same few variables everywhere: what ``pydoc`` prints must not depend on who runs it."""
    steady = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC", "COLUMNS": "80", "OMP_NUM_THREADS": "1"}
    steady |= {"PYTHONPATH": os.pathsep.join(map(str, search_path))} if search_path else {}
    return steady | {"HOME": home, "MPLCONFIGDIR": home, "MPLBACKEND": "agg", "PYTHONNOUSERSITE": "1"}


class _Child:
    """One running renderer; ``ask`` it for one module after another."""

    def __init__(self, home: str, search_path: Sequence[Path]) -> None:
        command = [sys.executable, "-P", "-B", str(_PROGRAM)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=home,
            env=_environment(home, search_path), encoding="utf-8", start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._questions: IO[str] = self._process.stdin
        self._replies: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()
        self._ended = self._reply(_START_SECONDS) is None

    def _listen(self, lines: IO[str]) -> None:
        with contextlib.suppress(ValueError):  # the pipe is closed under the reader when the child is ended
            for line in lines:
                self._replies.put(line)
        self._replies.put("")

    def _reply(self, seconds: float) -> dict[str, str] | None:
        """The next line of the child; None when it ended or said nothing within ``seconds``."""
        try:
            line = self._replies.get(timeout=seconds)
        except queue.Empty:
            return None
        self._ended = not line.endswith("\n")
        return None if self._ended else json.loads(line)

    def ask(self, name: str, seconds: float) -> Rendered | None:
        """The answer for ``name``; None when the child ended, took longer than ``seconds`` or speaks of another."""
        try:
            self._questions.write(name + "\n")
            self._questions.flush()
        except OSError:
            self._ended = True
            return None
        reply = self._reply(seconds)
        if reply is None or reply.get("name") != name:
            return None
        return Rendered(name, reply.get("html"), reply.get("reason"))

    def end(self, seconds: float) -> str:
        """Ends the child and everything that it started; returns what had become of it."""
        if self._ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)
        status = self._process.poll()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(OSError):
            self._questions.close()
        if status is None:
            return f"took longer than {seconds:g} seconds"
        return f"ended the interpreter with {f'signal {-status}' if status < 0 else f'status {status}'}"


def render(names: Sequence[str], seconds: float, search_path: Sequence[Path] = ()) -> Iterator[Rendered]:
    """Yields the pydoc page of every module in ``names``, each within ``seconds``, in order.

    Modules are found as Python finds them, and before that in the directories of ``search_path``.
    """
    with tempfile.TemporaryDirectory(prefix="herd-pydoc-", ignore_cleanup_errors=True) as home:
        child: _Child | None = None
        try:
            for name in names:
                child = child or _Child(home, search_path)
                answer = child.ask(name, seconds)
                if answer is None:
                    answer = Rendered(name, None, child.end(seconds))
                    child = None
                yield answer
        finally:
            if child is not None:
                child.end(seconds)
