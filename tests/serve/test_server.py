"""``herd serve`` as it is started: the address that it says, a port in use, an orderly end."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from herd.cli import main
from herd.foundation.errors import HerdError
from herd.serve.app import serve_model


def test_a_port_in_use_is_one_sentence_and_exit_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr("sys.argv", ["herd", "serve", str(tmp_path), "--port", str(port)])
        with pytest.raises(SystemExit) as left:
            main()
    assert left.value.code == 2
    assert capsys.readouterr().err == f"herd: 127.0.0.1:{port}: cannot listen there (Address already in use)\n"


def test_an_address_that_is_not_here_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HerdError, match="cannot listen there"):
        serve_model(tmp_path, host="no.such.host.invalid", port=0, with_guard=True, api_key=None)


def test_it_says_where_it_listens_and_ends_in_order(run_directory: Path) -> None:
    command = [sys.executable, "-c", "from herd.cli import main; main()", "serve", str(run_directory / "chat")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HERD_API_KEY": "from the environment"}
    program = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert program.stdout is not None
        said = program.stdout.readline()
        found = re.fullmatch(r"serving chat on (http://127\.0\.0\.1:\d+)\n", said)
        assert found, said
        assert httpx.get(f"{found[1]}/health", timeout=30).json()["status"] == "ok"
        assert httpx.get(f"{found[1]}/v1/models").status_code == 401
        program.send_signal(signal.SIGINT)
        assert program.wait(30) == 0
    finally:
        program.kill()
        program.communicate()
