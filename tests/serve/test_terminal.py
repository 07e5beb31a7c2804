"""The terminal: calls and results are shown as they happen, and a conversation goes on."""

import io
from pathlib import Path

import pytest

from herd.foundation.errors import HerdError
from herd.serve.terminal import talk
from herd.tools.sandbox import Sandbox


def test_a_conversation_with_a_tool(run_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # noqa: ANN001
    monkeypatch.setattr("sys.stdin", io.StringIO("What does json.dumps do?\n/new\n\nHello\n/quit\n"))
    talk(run_directory / "chat")
    shown = capsys.readouterr().out
    assert '→ search {"query": "json.dumps"}' in shown
    assert "← json.dumps(obj)" in shown
    assert "Serialize obj to a JSON formatted str." in shown
    assert "no guard, there is none" in shown.replace("\n", " ")


@pytest.mark.skipif(Sandbox.unavailable() is not None, reason="no sandbox can be had here")
def test_the_interpreter_answers(run_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # noqa: ANN001
    monkeypatch.setattr("sys.stdin", io.StringIO("What is 2 + 3?\n"))
    talk(run_directory / "chat")
    shown = capsys.readouterr().out
    assert "→ python 2 + 3" in shown
    assert "It is 5." in shown


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HerdError, match="holds no model"):
        talk(tmp_path)
