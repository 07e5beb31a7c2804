"""The terminal: calls and results are shown as they happen, a conversation goes on, lines break between words."""

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from herd.foundation.errors import HerdError
from herd.serve.terminal import Flow, _wait_for_line, clean, talk
from herd.tools.sandbox import Sandbox


@pytest.fixture(autouse=True)
def _heeds_ctrl_c() -> Iterator[None]:
    """A test run that a shell put into the background ignores Ctrl-C, and so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_conversation_with_a_tool(run_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # noqa: ANN001
    monkeypatch.setattr("sys.stdin", io.StringIO("What does json.dumps do?\n/new\n\nHello\n/quit\n"))
    talk(run_directory / "chat")
    shown = " ".join(capsys.readouterr().out.split())
    assert "→ search json.dumps" in shown
    assert "← json.dumps(obj)" in shown
    assert "Serialize obj to a JSON formatted str. Hello. How are you?" in shown
    assert "no guard, there is none" in shown


@pytest.mark.skipif(Sandbox.unavailable() is not None, reason="no sandbox can be had here")
def test_the_interpreter_answers(run_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # noqa: ANN001
    monkeypatch.setattr("sys.stdin", io.StringIO("What is 2 + 3?\n"))
    talk(run_directory / "chat")
    shown = capsys.readouterr().out
    assert "→ python 2 + 3" in shown
    assert "It is 5." in shown


def test_what_is_too_long_is_said_and_the_conversation_goes_on(
    run_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{'x' * 600}\n"))
    talk(run_directory / "chat")
    assert "the context has 512" in " ".join(capsys.readouterr().out.split())


def test_what_is_no_model_is_refused(tmp_path: Path, run_directory: Path) -> None:
    with pytest.raises(HerdError, match="holds no model"):
        talk(tmp_path)
    with pytest.raises(HerdError, match=f"this is a run, whose model is {run_directory / 'chat'}"):
        talk(run_directory)


@given(st.text(alphabet="ab \n", max_size=80), st.lists(st.integers(0, 80), max_size=8))
def test_lines_break_between_words_whatever_the_pieces(text: str, cuts: list[int]) -> None:
    console = Console(file=io.StringIO(), width=10, color_system=None)
    flow = Flow(console)
    places = [0, *sorted(cuts), len(text)]
    for start, end in pairwise(places):
        flow.write(text[start:end])
    flow.end()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= 10 for line in shown.split("\n"))
    if all(len(word) < 10 for word in text.split()):
        assert shown.split() == text.split()
    assert "".join(shown.split()) == "".join(text.split())


def test_a_model_cannot_steer_the_terminal() -> None:
    assert clean("red\x1b[31m\x9b2J\rover\ttab\n") == "red\ufffd[31m\ufffd2J\ufffdover\ttab\n"


def _until(screen: int, wanted: str, seconds: float = 60.0) -> str:
    """What a terminal's program has printed by the time that ``wanted`` is there."""
    shown, deadline = "", time.monotonic() + seconds
    while wanted not in shown and time.monotonic() < deadline:
        if select.select([screen], [], [], 0.1)[0]:
            shown += os.read(screen, 4096).decode(errors="replace")
    assert wanted in shown, shown
    return shown


@pytest.fixture
def in_a_terminal(run_directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A conversation in a terminal of its own of 40 columns, and the terminal's other side."""
    screen, other_side = pty.openpty()
    talking = "from pathlib import Path; from herd.serve.terminal import talk; talk(Path({!r}))"
    command = [sys.executable, "-c", talking.format(str(run_directory / "chat"))]
    environment = {**os.environ, "COLUMNS": "40", "TERM": "xterm", "OMP_NUM_THREADS": "1"}
    program = subprocess.Popen(
        command, stdin=other_side, stdout=other_side, stderr=other_side, env=environment, start_new_session=True,
        preexec_fn=lambda: os.close(screen),
    )  # fmt: skip
    os.close(other_side)
    yield program, screen
    program.kill()
    program.wait()
    os.close(screen)


def test_in_a_real_terminal_of_40_columns_and_left_by_ctrl_c(
    in_a_terminal: tuple[subprocess.Popen[bytes], int],
) -> None:
    program, screen = in_a_terminal
    _until(screen, "you ›")
    os.write(screen, b"What does json.dumps do?\n")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", _until(screen, "you ›"))
    assert all(len(line) <= 40 for line in shown.splitlines())
    assert "Serialize obj to a JSON formatted str." in " ".join(shown.split())
    program.send_signal(signal.SIGINT)
    assert program.wait(60) == 0


def test_a_ctrl_c_just_before_a_line_is_read_is_not_slept_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes after the last moment at which Python looks for one, as it does under load."""
    screen, other_side = pty.openpty()
    waiting = select.select

    def late(readable: list[Any], writable: list[Any], broken: list[Any]) -> object:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return waiting(readable, writable, broken, 5.0)

    with os.fdopen(other_side, encoding="utf-8") as keyboard:
        monkeypatch.setattr("sys.stdin", keyboard)
        monkeypatch.setattr("herd.serve.terminal.select.select", late)
        started = time.monotonic()
        _wait_for_line()
    assert time.monotonic() - started < 4
    os.close(screen)
