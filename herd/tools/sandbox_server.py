"""The process inside the sandbox: it forks a child for every piece of code, watches it, and reports what it printed.

Started by ``sandbox`` as process 1 of namespaces of its own, with nothing but the interpreter's files around it, so it
imports the standard library only and is handed over as text.  A message on its standard input or output is four bytes
of length, then JSON: ``{"code", "seconds"}`` comes in, ``{"ok", "stdout", "stderr"}`` goes out.  It ends when its input
does; being process 1, it takes everything in the namespace with it.
"""

import ast
import builtins
import contextlib
import ctypes
import gc
import io
import json
import os
import resource
import select
import signal
import sys
import textwrap
import time
import traceback
import types
from collections.abc import Sequence
from typing import Any

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
STDOUT, STDERR = 1, 2
LONGEST_ERROR = 400
MOST_BYTES = 1 << 20


class Program(ctypes.Structure):
    """``struct sock_fprog``: the number of steps of a filter, and where they are."""

    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def serve(plan: dict[str, Any]) -> None:
    """Drops what the plan says, reports that it is ready, and answers requests until its input ends."""
    if os.getpid() != 1:
        raise SystemExit("the sandbox's server is not process 1 of its namespace")
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    drop_user(plan["uid"])
    libc = ctypes.CDLL(None, use_errno=True)
    preload(plan["preload"])
    gc.collect()
    gc.freeze()
    send({"ready": True, "uid": os.getuid()})
    while (request := receive()) is not None:
        send(answer(request, plan, libc))


def drop_user(uid: int) -> None:
    """Becomes an unprivileged user, where the plan names one; that drops every capability."""
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def preload(modules: Sequence[str]) -> None:
    """Imports what most code imports, once, so that no child pays for it."""
    for name in modules:
        with contextlib.suppress(ImportError):
            __import__(name)


def receive() -> dict[str, Any] | None:
    """The next request, or None at the end of the input."""
    header = sys.stdin.buffer.read(4)
    if len(header) < 4:
        return None
    request: dict[str, Any] = json.loads(sys.stdin.buffer.read(int.from_bytes(header, "big")))
    return request


def send(message: dict[str, Any]) -> None:
    """Writes one message."""
    body = json.dumps(message).encode()
    sys.stdout.buffer.write(len(body).to_bytes(4, "big") + body)
    sys.stdout.buffer.flush()


def answer(request: dict[str, Any], plan: dict[str, Any], libc: ctypes.CDLL) -> dict[str, Any]:
    """Runs one piece of code in a child and returns what became of it."""
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    in_read, in_write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            # A session of its own: a signal to its process group must not reach whoever started the sandbox.
            os.setsid()
            os.dup2(in_read, 0)
            os.dup2(out_write, STDOUT)
            os.dup2(err_write, STDERR)
            os.closerange(3, 256)
            status = run(request["code"], plan, libc)
        finally:
            os._exit(status)
    for descriptor in (out_write, err_write, in_read, in_write):
        os.close(descriptor)
    try:
        outputs, stopped = watch((out_read, err_read), request["seconds"], plan["output_bytes"])
    finally:
        os.close(out_read)
        os.close(err_read)
    status = reap(child)
    stdout, stderr = (bytes(output).decode("utf-8", "replace") for output in outputs)
    if stopped is None and os.WIFSIGNALED(status):
        stopped = death(os.WTERMSIG(status), plan)
    if stopped is not None:
        stderr = stopped
    return {"ok": stopped is None and status == 0, "stdout": stdout, "stderr": stderr}


def watch(readers: Sequence[int], seconds: float, limit: int) -> tuple[list[bytearray], str | None]:
    """Collects what the child prints until it has closed its outputs; returns the outputs and why it was stopped."""
    outputs = {reader: bytearray() for reader in readers}
    total = 0
    poller, deadline = select.poll(), time.monotonic() + seconds
    for reader in readers:
        poller.register(reader, select.POLLIN)
    # No interest in input: only its end is told, which means that nobody waits for the answer.
    poller.register(sys.stdin.fileno(), 0)
    open_readers = set(readers)
    stopped: str | None = None
    while open_readers and stopped is None:
        left = deadline - time.monotonic()
        if left <= 0:
            stopped = f"TimeoutError: stopped after {seconds:g} seconds"
            break
        for descriptor, _ in poller.poll(max(1, left * 1000)):
            if descriptor not in outputs:
                os._exit(0)
            chunk = os.read(descriptor, 65536)
            if not chunk:
                poller.unregister(descriptor)
                open_readers.discard(descriptor)
            outputs[descriptor] += chunk[: limit - len(outputs[descriptor])]
            total += len(chunk)
        if total > MOST_BYTES:
            stopped = f"OverflowError: stopped after {MOST_BYTES} bytes of output"
    return [outputs[reader] for reader in readers], stopped


def reap(child: int) -> int:
    """Kills whatever still lives beside this process, waits for all of it, and returns the child's status."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    found = 0
    while True:
        try:
            process, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return found
        if process == child:
            found = status


def death(number: int, plan: dict[str, Any]) -> str:
    """In words, what a signal means that ended the child."""
    if number == signal.SIGXCPU:
        return f"TimeoutError: stopped after {plan['cpu_seconds']} seconds of computing"
    if number == signal.SIGXFSZ:
        return "OSError: writing files is not allowed"
    return f"the interpreter was ended by {signal.Signals(number).name}"


def run(code: str, plan: dict[str, Any], libc: ctypes.CDLL) -> int:
    """In the child: takes away what is not needed, then runs the code as a prompt would; 0 if it ended well."""
    confine(plan, libc)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = io.TextIOWrapper(open(STDOUT, "wb", closefd=False), "utf-8", "backslashreplace")  # noqa: SIM115
    sys.stderr = io.TextIOWrapper(open(STDERR, "wb", closefd=False), "utf-8", "backslashreplace", line_buffering=True)  # noqa: SIM115
    main = types.ModuleType("__main__")
    vars(main)["__builtins__"] = builtins
    sys.modules["__main__"] = main
    vars(builtins).update(exit=sys.exit, quit=sys.exit)
    try:
        execute(code, vars(main))
        status = 0
    except SystemExit as request:
        status = 0 if request.code in (None, 0) else 1
        if isinstance(request.code, str):
            sys.stderr.write(request.code[:LONGEST_ERROR])
    except BaseException as error:
        status = 1
        sys.stderr.write(traceback.format_exception_only(error)[-1].strip()[:LONGEST_ERROR])
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    with contextlib.suppress(Exception):
        sys.stderr.flush()
    return status


def execute(code: str, namespace: dict[str, Any]) -> None:
    """Runs the statements; where the last one is an expression, its value is printed as a prompt prints it.

    Code that is indented as a whole is taken as if it were not, as a prompt takes it.
    """
    tree = ast.parse(textwrap.dedent(code), "<python>")
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        tree.body.pop()
    exec(compile(tree, "<python>", "exec"), namespace)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), "<python>", "eval"), namespace)
        if value is not None:
            print(repr(value))


def confine(plan: dict[str, Any], libc: ctypes.CDLL) -> None:
    """Sets the limits and the filter of system calls; raises if the kernel refuses any of it."""
    for name, limit in plan["limits"].items():
        resource.setrlimit(getattr(resource, name), tuple(limit))
    steps = bytes.fromhex(plan["seccomp"])
    program = Program(len(steps) // 8, steps)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)
    ):
        raise OSError(ctypes.get_errno(), "the filter of system calls was refused")


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
