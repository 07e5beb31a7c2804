"""The sandbox under attack, with every back end that this machine has."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pydantic
import pytest

from herd.foundation.errors import HerdError
from herd.tools import sandbox as module
from herd.tools.sandbox import Sandbox, SandboxConfig, ToolOutput
from herd.tools.sandbox_files import interpreter_files

BACKENDS = ("bubblewrap", "namespaces")


@pytest.fixture(scope="module", params=BACKENDS)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    if reason := Sandbox.unavailable(request.param):
        pytest.skip(f"not measured: {reason}")
    with Sandbox(SandboxConfig(backend=request.param, seconds=5.0)) as opened:
        yield opened


def test_at_least_one_way_works_where_the_kernel_allows_it() -> None:
    if subprocess.run(["unshare", "-Urnpf", "true"], capture_output=True).returncode != 0:
        pytest.skip("this kernel allows no user namespaces")
    assert Sandbox.unavailable() is None


@pytest.mark.parametrize(
    ("code", "stdout"),
    [
        ("37 * 412 - 5", "15239\n"),
        (" 37 * 412 - 5", "15239\n"),
        ("  x = 3\n  x + 1", "4\n"),
        ("'a' + 'b'", "'ab'\n"),
        ("print('hi')\nx = 3\nx", "hi\n3\n"),
        ("None", ""),
        ("x = 5", ""),
        ("", ""),
        ("def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\nf(12)", "144\n"),
        ("import math, json; json.dumps(math.pi)", "'3.141592653589793'\n"),
        ("import sqlite3; sqlite3.connect(':memory:').execute('select 2').fetchall()", "[(2,)]\n"),
        ("import threading; r = []; t = threading.Thread(target=r.append, args=(1,)); t.start(); t.join(); r", "[1]\n"),
        ("import sys; sys.exit(0)", ""),
        ("'über 日本'", "'über 日本'\n"),
    ],
)
def test_runs_like_a_prompt(sandbox: Sandbox, code: str, stdout: str) -> None:
    assert sandbox.run(code) == ToolOutput(True, stdout, "")


@pytest.mark.parametrize(
    ("code", "stderr"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("import numpy", "ModuleNotFoundError: No module named 'numpy'"),
        ("input()", "EOFError: EOF when reading a line"),
        ("raise SystemExit('no')", "no"),
        ("exit(3)", ""),
        ("'\udc80'", "surrogates not allowed"),
        ("a\0b", "null bytes"),
        ("(" * 5000, "Error"),
    ],
)
def test_says_what_failed_in_one_line(sandbox: Sandbox, code: str, stderr: str) -> None:
    output = sandbox.run(code)
    assert not output.ok
    assert stderr in output.stderr
    assert "\n" not in output.stderr.strip()


HOST_FILES = [
    "/etc/passwd",
    "/etc/hostname",
    "/proc/self/maps",
    "/proc/1/environ",
    str(Path.home()),
    __file__,
    "/dev/sda",
    "/dev/null",
]


@pytest.mark.parametrize("path", HOST_FILES)
def test_host_files_do_not_exist(sandbox: Sandbox, path: str) -> None:
    # The interpreter itself may live below the home directory; then what can be listed is the way to it and no more.
    output = sandbox.run(
        f"import os; sorted(os.listdir({path!r})) if os.path.isdir({path!r}) else open({path!r}).read()"
    )
    if path == str(Path.home()) and output.ok:
        below = [
            place[len(path) + 1 :].split("/")[0]
            for _, place in interpreter_files().binds
            if place.startswith(path + "/")
        ]
        assert eval(output.stdout) == sorted(set(below))
    else:
        assert re.match(r"(FileNotFound|NotADirectory)Error", output.stderr)


def test_everything_that_can_be_read_belongs_to_the_interpreter(sandbox: Sandbox) -> None:
    walk = """
import os
found = set()
for root, directories, files in os.walk("/"):
    found.update(os.path.join(root, name) for name in files)
shown = tuple(SHOWN)
[path for path in sorted(found) if path not in shown and not path.startswith(tuple(place + "/" for place in shown))]
"""
    shown = [place for _, place in interpreter_files().binds]
    assert sandbox.run(walk.replace("SHOWN", repr(shown))).stdout == "[]\n"
    assert (
        sandbox.run(
            "import os; os.path.exists(os.path.join(os.path.dirname(os.__file__), 'site-packages', 'pip'))"
        ).stdout
        == "False\n"
    )


@pytest.mark.parametrize(
    "path", ["/tmp/x", "/x", "/dev/shm/x", os.__file__, str(Path.home() / "x"), "/var/tmp/x", "/proc/x"]
)
def test_nothing_can_be_written(sandbox: Sandbox, path: str) -> None:
    before = Path(path).read_bytes() if Path(path).exists() else None
    output = sandbox.run(f"open({path!r}, 'w').write('x')")
    assert not output.ok
    assert (Path(path).read_bytes() if Path(path).exists() else None) == before


FORBIDDEN = {
    "network": "import socket; socket.create_connection(('127.0.0.1', 80))",
    "unix socket": "import socket; socket.socketpair()",
    "fork": "import os; os.fork()",
    "fork bomb": "import os\nwhile True:\n    os.fork()",
    "subprocess": "import subprocess; subprocess.run(['/bin/sh', '-c', 'id'])",
    "exec": "import os, sys; os.execv(sys.executable, [sys.executable, '-c', '1'])",
    "multiprocessing": "import multiprocessing; multiprocessing.Process(target=print).start()",
    "chroot": "import os; os.chroot('/')",
    "setuid": "import os; os.setuid(0)",
    "raise limits": "import resource; resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)",
    "other's limits": "import resource; resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))",
}
# System calls by their numbers, for what Python has no function for: (x86-64, 64-bit ARM), arguments.
CALLS = {
    "ptrace": (101, 117, (16, 1, 0, 0)),
    "process_vm_writev": (311, 271, (1, 0, 0, 0, 0, 0)),
    "mount": (165, 40, (0, 0, 0, 0, 0)),
    "unshare": (272, 97, (0x10000000,)),
    "setns": (308, 268, (0, 0)),
    "clone into namespaces": (56, 220, (0x7E010000, 0, 0, 0, 0)),
    "bpf": (321, 280, (0, 0, 0)),
    "io_uring_setup": (425, 425, (1, 0)),
    "memfd_create": (319, 279, (0, 0)),
    "shmget": (29, 194, (0, 1 << 30, 0o1600)),
    "keyctl": (250, 219, (0, 0)),
    "perf_event_open": (298, 241, (0, 0, 0, 0, 0)),
    "userfaultfd": (323, 282, (0,)),
    "seccomp": (317, 277, (0, 0, 0)),
    "prctl": (157, 167, (38, 0, 0, 0, 0)),
    "pidfd_getfd": (438, 438, (0, 0, 0)),
    "socket": (41, 198, (2, 1, 0)),
    "sched_setaffinity": (203, 122, (0, 8, 0)),
    "tiocsti": (16, 29, (0, 0x5412, 0)),
}


@pytest.mark.parametrize("attack", FORBIDDEN)
def test_forbidden_things_fail(sandbox: Sandbox, attack: str) -> None:
    output = sandbox.run(FORBIDDEN[attack])
    assert not output.ok
    assert re.search(r"PermissionError|not permitted|ValueError: (?:not allowed|current limit)", output.stderr), output


@pytest.mark.parametrize("name", CALLS)
def test_system_calls_beyond_the_list_fail(sandbox: Sandbox, name: str) -> None:
    x86, arm, arguments = CALLS[name]
    number = x86 if os.uname().machine == "x86_64" else arm
    code = (
        f"import ctypes; c = ctypes.CDLL(None, use_errno=True); (c.syscall({number}, *{arguments}), ctypes.get_errno())"
    )
    assert sandbox.run(code).stdout == "(-1, 1)\n"


def test_clone3_pretends_not_to_exist_so_that_threads_fall_back(sandbox: Sandbox) -> None:
    code = "import ctypes; c = ctypes.CDLL(None, use_errno=True); (c.syscall(435, 0, 0), ctypes.get_errno())"
    assert sandbox.run(code).stdout == "(-1, 38)\n"


def test_an_endless_loop_is_stopped_by_the_clock(sandbox: Sandbox) -> None:
    began = time.monotonic()
    output = sandbox.run("while True: pass", seconds=0.5)
    assert (output.ok, output.stderr) == (False, "TimeoutError: stopped after 0.5 seconds")
    assert time.monotonic() - began < 4
    assert not sandbox.run("import time; time.sleep(60)", seconds=0.2).ok


def test_ignoring_signals_does_not_help(sandbox: Sandbox) -> None:
    ignore = (
        "import signal\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n    except OSError: pass\n"
    )
    code = ignore + "while True: pass"
    assert "stopped after" in sandbox.run(code, seconds=0.3).stderr
    assert sandbox.run("1").ok


def test_memory_is_bounded(sandbox: Sandbox) -> None:
    assert sandbox.run("x = bytearray(1 << 30)").stderr == "MemoryError"
    assert not sandbox.run("x = []\nwhile True:\n    x.append('x' * 1000000)").ok
    assert not sandbox.run("import mmap; mmap.mmap(-1, 1 << 30)").ok


def test_threads_are_bounded(sandbox: Sandbox) -> None:
    code = """
import threading, time
threading.stack_size(32768)
for count in range(2000):
    threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
"""
    assert "can't start new thread" in sandbox.run(code).stderr


def test_output_is_bounded_and_never_stalls(sandbox: Sandbox) -> None:
    output = sandbox.run("print('x' * 300000)")
    assert output.ok
    assert len(output.stdout) == sandbox.config.output_characters
    assert len(output.wire()) < 450
    endless = sandbox.run("while True: print('x' * 1000)")
    assert "bytes of output" in endless.stderr
    assert not sandbox.run("import os\nwhile True: os.write(2, b'x' * 1000)").ok


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP, signal.SIGPIPE, signal.SIGCHLD]
)
def test_signals_to_the_server_do_nothing(sandbox: Sandbox, number: int) -> None:
    sandbox.run("1")
    server = sandbox._server
    sandbox.run(f"import os\nfor target in (1, 0, -1): os.kill(target, {int(number)})", seconds=1.0)
    assert sandbox.run("2").stdout == "2\n"
    assert sandbox._server is server, "the server had to be started again"


def test_closing_or_forging_descriptors_does_not_reach_the_protocol(sandbox: Sandbox) -> None:
    forged = "import os\nfor n in range(3, 64):\n    try: os.write(n, b'\\0\\0\\0\\2{}')\n    except OSError: pass\n"
    assert sandbox.run(forged + "'quiet'").stdout == "'quiet'\n"
    sandbox.run("import os; os.closerange(0, 64)\nwhile True: pass", seconds=1.0)
    assert sandbox.run("3").stdout == "3\n"


def test_nothing_stays_for_the_next_call(sandbox: Sandbox) -> None:
    sandbox.run("import json, builtins; json.dumps = None; builtins.left = 1; x = 1")
    assert "NameError" in sandbox.run("x").stderr
    assert "NameError" in sandbox.run("left").stderr
    assert sandbox.run("import json; json.dumps(1)").stdout == "'1'\n"


def test_a_thread_that_outlives_its_code_ends_with_the_call(sandbox: Sandbox) -> None:
    began = time.monotonic()
    sandbox.run("import threading, time; threading.Thread(target=time.sleep, args=(30,)).start(); 1", seconds=1.0)
    assert time.monotonic() - began < 5
    assert sandbox.run("1").ok


def test_runs_as_nobody_without_rights(sandbox: Sandbox) -> None:
    ids = eval(sandbox.run("import os; (os.getuid(), os.getgid(), os.getgroups())").stdout)
    assert 0 not in ids[:2]
    assert sandbox.run("import ctypes; ctypes.CDLL(None).getuid()").ok


def test_recovers_when_its_server_is_killed_from_outside(sandbox: Sandbox) -> None:
    sandbox.run("1")
    assert sandbox._server is not None
    os.killpg(sandbox._server._process.pid, signal.SIGKILL)
    sandbox._server._process.wait()
    assert sandbox.run("2").stdout == "2\n"


def test_threads_of_the_caller_share_it(sandbox: Sandbox) -> None:
    results: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda n=n: results.update({n: sandbox.run(f"{n} * 2").stdout})) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: f"{n * 2}\n" for n in range(8)}


def test_a_call_is_cheap(sandbox: Sandbox) -> None:
    sandbox.run("1")
    began = time.monotonic()
    for _ in range(20):
        sandbox.run("1 + 1")
    assert (time.monotonic() - began) / 20 < 0.2


def test_it_dies_with_its_owner(sandbox: Sandbox) -> None:
    code = (
        "import os, sys; from herd.tools.sandbox import *\n"
        f"s = Sandbox(SandboxConfig(backend={sandbox.config.backend!r})); s.run('1')\n"
        "print(s._server._process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    server = int(ended.stdout)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and Path(f"/proc/{server}").exists():
        time.sleep(0.05)
    assert not Path(f"/proc/{server}").exists()


def test_wire_text() -> None:
    assert ToolOutput(True, "15239\n", "").wire() == "completed\n[stdout]15239[/stdout]"
    assert ToolOutput(True, "", "").wire() == "completed"
    assert ToolOutput(False, "", "E: x").wire() == "failed\n[stderr]E: x[/stderr]"
    assert ToolOutput(False, "a\n", "E: x").wire() == "failed\n[stdout]a[/stdout]\n[stderr]E: x[/stderr]"


def test_code_that_is_too_long_is_not_run(sandbox: Sandbox) -> None:
    assert "longer than" in sandbox.run("1" * 30_000).stderr


def test_a_sandbox_that_does_not_hold_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail closed: where the trial finds a hole, there is a reason and no sandbox."""
    monkeypatch.setattr(module, "_SELF_TEST", "'an attack went through'")
    module._working_way.cache_clear()
    try:
        reason = Sandbox.unavailable()
        assert reason is not None
        assert "does not contain an attack" in reason or "allows no sandbox" in reason
        assert "\n" not in reason
        with pytest.raises(HerdError, match="the interpreter is off"):
            Sandbox()
    finally:
        module._working_way.cache_clear()


def test_without_any_way_the_reason_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    module._working_way.cache_clear()
    try:
        reason = Sandbox.unavailable("bubblewrap")
        assert reason == "this machine allows no sandbox (bubblewrap is not installed)"
    finally:
        module._working_way.cache_clear()


AS_NOBODY = """
import os, signal
from herd.tools.sandbox import *
for backend in ("bubblewrap", "namespaces"):
    with Sandbox(SandboxConfig(backend=backend)) as sandbox:
        sandbox.run("1")
        first = sandbox._server
        sandbox.run(f"import os\\nfor target in (1, 0, -1): os.kill(target, 9)", seconds=1.0)
        assert sandbox.run("import os; os.getuid()").stdout == "65534\\n"
        assert sandbox._server is first, "the server was killed"
print("contained", os.getuid())
"""


def test_works_for_an_ordinary_user() -> None:
    """As root, the interpreter and the tree are first shown at places that anybody can read."""
    if os.geteuid() != 0:
        pytest.skip("every test of this file runs as an ordinary user already")
    prefix, tree, packages = Path(sys.base_prefix), Path(__file__).parents[2], Path(pydantic.__file__).parents[1]
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        for name in ("python", "tree", "packages"):
            (Path(place) / name).mkdir()
        binary = Path(sys._base_executable).resolve().relative_to(prefix.resolve())  # type: ignore[attr-defined]
        script = "\n".join(
            [
                f"mount --bind {prefix} {place}/python && mount --bind {tree} {place}/tree || exit 9",
                f"mount --bind {packages} {place}/packages && cd / || exit 9",
                f"export HOME=/ PYTHONPATH={place}/tree:{place}/packages PYTHONDONTWRITEBYTECODE=1",
                f"export LD_LIBRARY_PATH={place}/python/lib",
                f'exec setpriv --reuid 4321 --regid 4321 --clear-groups {place}/python/{binary} -c "$CODE"',
            ]
        )
        command = ["unshare", "-m", "sh", "-c", script]
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=120, env={**os.environ, "CODE": AS_NOBODY}
        )
    if ended.returncode == 9 or "unshare" in ended.stderr:
        pytest.skip(f"this machine does not let root mount: {ended.stderr.strip()}")
    assert ended.stdout == "contained 4321\n", ended.stderr
