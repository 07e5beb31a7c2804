"""A Python interpreter for code that a model wrote: it computes and prints, and it can do nothing else.

    with Sandbox() as sandbox:
        sandbox.run("37 * 412 - 5").wire()     # "completed\\n[stdout]15239[/stdout]"

The code runs in namespaces of its own (no network, no other process, a read-only root that holds the interpreter's
files alone), behind a list of allowed system calls (``seccomp``), as a user without rights, within limits of time,
memory, threads and output.  Bubblewrap builds the root where it is installed, ``sandbox_enter`` does so otherwise; a
process inside (``sandbox_server``) forks a child for every call, so that a call costs milliseconds and leaves nothing
behind.  Before a sandbox is used, attacks are tried in it; where any of them succeeds, or where the kernel allows no
sandbox, ``Sandbox.unavailable()`` says why in one sentence and nothing is ever run.
"""

import contextlib
import functools
import json
import os
import secrets
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal

from pydantic import Field

from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.tools import seccomp
from herd.tools.sandbox_files import InterpreterFiles, bubblewrap_command, interpreter_files

Backend = Literal["auto", "bubblewrap", "namespaces"]

_STARTING_SECONDS = 20.0
_GRACE_SECONDS = 5.0
_LONGEST_CODE = 20_000
_MESSAGE_BYTES = 1 << 24
_PRELOAD = (
    "math",
    "re",
    "json",
    "random",
    "itertools",
    "collections",
    "functools",
    "datetime",
    "statistics",
    "string",
    "decimal",
)
# What must fail inside before the outside trusts it; each is an expression that is true where it did fail.
_SELF_TEST = """
import os, socket
def fails(function, *arguments):
    try:
        function(*arguments)
    except OSError:
        return True
    return False
files = [fails(open, "/etc/passwd"), fails(os.listdir, "/proc"), fails(open, "/herd", "w"), fails(open, "/tmp/h", "w")]
calls = [fails(socket.socket), fails(os.fork), fails(os.execv, "/bin/true", ["true"]), fails(os.mkdir, "/herd")]
"contained" if all(files + calls) and os.getpid() < 100 else [files, calls, os.getpid()]
"""


class SandboxConfig(Config):
    """The limits of one call, and how much of its output is kept."""

    backend: Backend = "auto"
    seconds: float = Field(default=3.0, gt=0, le=600)
    memory_megabytes: int = Field(default=256, ge=64, le=65536)
    threads: int = Field(default=16, ge=1, le=1024)
    output_characters: int = Field(default=4000, ge=100, le=1_000_000)
    wire_characters: int = Field(default=400, ge=40, le=1_000_000)


@dataclass(frozen=True)
class ToolOutput:
    """What a piece of code printed, and whether it ended well; ``wire_characters`` bounds what a model reads of it."""

    ok: bool
    stdout: str
    stderr: str
    wire_characters: int = 400

    def wire(self) -> str:
        """The text that a model reads (fact sheet section 14.3)."""
        parts = ["completed" if self.ok else "failed"]
        for name, text in (("stdout", self.stdout.rstrip("\n")), ("stderr", self.stderr.rstrip("\n"))):
            if text:
                parts.append(f"[{name}]{_cut(text, self.wire_characters)}[/{name}]")
        return "\n".join(parts)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


class Sandbox:
    """One sandbox with a warm server in it; safe to share between threads, which take turns.

    Raises ``HerdError`` with the reason where this machine allows no sandbox.
    """

    def __init__(self, config: SandboxConfig | None = None) -> None:
        self.config = config or SandboxConfig()
        self._lock = threading.Lock()
        self._server: _Server | None = None
        if reason := self.unavailable(self.config.backend):
            raise HerdError(f"the interpreter is off: {reason}")

    @staticmethod
    def unavailable(backend: Backend = "auto") -> str | None:
        """Why no code can be run here, in one sentence, or None where it can; tried once in a process."""
        found = _working_way(backend)
        return found if isinstance(found, str) else None

    def run(self, code: str, seconds: float | None = None) -> ToolOutput:
        """Runs ``code`` as at a prompt: the value of a last expression is printed.  Nothing is kept."""
        if len(code) > _LONGEST_CODE:
            return self._output(
                {"ok": False, "stdout": "", "stderr": f"the code is longer than {_LONGEST_CODE} characters"}
            )
        limit = min(seconds or self.config.seconds, self.config.seconds)
        with self._lock:
            try:
                return self._output(
                    self._running_server().ask({"code": code, "seconds": limit}, limit + _GRACE_SECONDS)
                )
            except (OSError, ValueError, HerdError) as error:
                self._stop()
                return self._output({"ok": False, "stdout": "", "stderr": f"the interpreter stopped: {error}"})

    def close(self) -> None:
        """Ends the server and everything in the sandbox."""
        with self._lock:
            self._stop()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._stop()

    def _output(self, reply: dict[str, Any]) -> ToolOutput:
        limit = self.config.output_characters
        return ToolOutput(
            bool(reply["ok"]), reply["stdout"][:limit], reply["stderr"][:limit], self.config.wire_characters
        )

    def _running_server(self) -> "_Server":
        # A forked copy of this process must not speak over its parent's pipe.
        if self._server is not None and (self._server.owner != os.getpid() or not self._server.alive()):
            self._stop()
        if self._server is None:
            way = _working_way(self.config.backend)
            if isinstance(way, str):
                raise HerdError(way)
            self._server = _Server(way, self.config)
        return self._server

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None


@dataclass(frozen=True)
class _Way:
    """One way to build a sandbox: which program does it, and with which rights."""

    backend: Literal["bubblewrap", "namespaces"]
    user_namespace: bool

    def __str__(self) -> str:
        return f"{self.backend} {'with a user namespace' if self.user_namespace else 'as root'}"


class _Server:
    """The process at the other end of the pipe."""

    def __init__(self, way: _Way, config: SandboxConfig) -> None:
        self.owner = os.getpid()
        self._process = subprocess.Popen(
            _command(way, config, interpreter_files()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=interpreter_files().environment,
            cwd="/",
            start_new_session=True,
        )
        try:
            self._receive(time.monotonic() + _STARTING_SECONDS)
        except (OSError, ValueError) as error:
            self._process.kill()
            _, complaint = self._process.communicate()
            lines = complaint.decode("utf-8", "replace").strip().splitlines() or [str(error)]
            raise HerdError(lines[-1]) from None

    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        body = json.dumps(request).encode()
        stream = self._stream("stdin")
        stream.write(len(body).to_bytes(4, "big") + body)
        stream.flush()
        return self._receive(time.monotonic() + seconds)

    def stop(self) -> None:
        if self.owner != os.getpid():
            return
        self._process.kill()
        for name in ("stdin", "stdout", "stderr"):
            with contextlib.suppress(OSError):
                self._stream(name).close()
        self._process.wait()

    def _stream(self, name: str) -> BinaryIO:
        stream = getattr(self._process, name)
        assert stream is not None
        return stream

    def _receive(self, deadline: float) -> dict[str, Any]:
        length = int.from_bytes(self._read(4, deadline), "big")
        if length > _MESSAGE_BYTES:
            raise ValueError("its answer is too long")
        message = json.loads(self._read(length, deadline))
        if not isinstance(message, dict):
            raise ValueError("its answer is no message")
        return message

    def _read(self, count: int, deadline: float) -> bytes:
        descriptor, parts = self._stream("stdout").fileno(), b""
        while len(parts) < count:
            _wait_readable(descriptor, deadline)
            chunk = os.read(descriptor, count - len(parts))
            if not chunk:
                raise OSError("its process ended")
            parts += chunk
        return parts


def _wait_readable(descriptor: int, deadline: float) -> None:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise OSError("it does not answer")


def _command(way: _Way, config: SandboxConfig, files: InterpreterFiles) -> list[str]:
    # As root the server becomes a user that nothing else runs as, so that the limit on threads counts its own alone.
    uid = 0 if way.user_namespace else 0x60000000 + secrets.randbelow(1 << 24)
    plan = json.dumps(_server_plan(config, uid))
    server = [*files.command, "-c", _source("sandbox_server"), plan]
    if way.backend == "bubblewrap":
        return bubblewrap_command(files, server, user_namespace=way.user_namespace)
    entry = {
        "user_namespace": way.user_namespace,
        "binds": files.binds,
        "links": files.links,
        "empty": files.empty,
        "command": server,
        "environment": files.environment,
    }
    return [*files.command, "-c", _source("sandbox_enter"), json.dumps(entry)]


def _server_plan(config: SandboxConfig, uid: int) -> dict[str, Any]:
    seconds = int(config.seconds) + 1
    memory = config.memory_megabytes << 20
    limits = {
        "RLIMIT_AS": [memory, memory],
        "RLIMIT_CPU": [seconds, seconds + 1],
        "RLIMIT_FSIZE": [0, 0],
        "RLIMIT_NOFILE": [32, 32],
        "RLIMIT_CORE": [0, 0],
        "RLIMIT_NPROC": [config.threads + 2, config.threads + 2],
    }
    return {
        "uid": uid,
        "limits": limits,
        "cpu_seconds": seconds,
        "output_bytes": config.output_characters * 4,
        "preload": _PRELOAD,
        "seccomp": seccomp.program(os.uname().machine).hex(),
    }


def _source(name: str) -> str:
    return Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")


def _ways(backend: Backend) -> Iterator[_Way]:
    root = os.geteuid() == 0
    if backend in ("auto", "bubblewrap") and shutil.which("bwrap"):
        yield from (_Way("bubblewrap", user_namespace) for user_namespace in ([False, True] if root else [True]))
    if backend in ("auto", "namespaces"):
        yield from (_Way("namespaces", user_namespace) for user_namespace in ([False, True] if root else [True]))


@functools.cache
def _working_way(backend: Backend) -> _Way | str:
    """The first way that starts and contains what it must, or the reason why there is none."""
    if sys.platform != "linux":
        return "namespaces and filters of system calls are Linux's own"
    if not seccomp.supported():
        return f"there is no list of system calls for {os.uname().machine}"
    refusals: Sequence[str] = ()
    try:
        for way in _ways(backend):
            if (refusal := _try(way)) is None:
                return way
            refusals = [*refusals, f"{way}: {refusal}"]
    except HerdError as error:
        return str(error)
    return f"this machine allows no sandbox ({'; '.join(refusals) or 'bubblewrap is not installed'})"


def _try(way: _Way) -> str | None:
    try:
        server = _Server(way, SandboxConfig())
    except (OSError, HerdError) as error:
        return str(error)
    try:
        reply = server.ask({"code": _SELF_TEST, "seconds": 10.0}, 10.0 + _GRACE_SECONDS)
    except (OSError, ValueError) as error:
        return str(error)
    finally:
        server.stop()
    held = reply["ok"] and reply["stdout"].strip() == "'contained'"
    return None if held else f"it does not contain an attack: {reply['stdout'].strip() or reply['stderr']}"
