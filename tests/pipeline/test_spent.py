"""What a stage took is the sum over the processes that worked on it, even where one was killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, write_json
from herd.foundation.progress import Progress
from herd.pipeline.graph import PARTIAL, Stage, run_graph
from herd.pipeline.spent import Spent

_HOLD = """
import sys, time
from pathlib import Path
from herd.pipeline.spent import Spent
with Spent(Path(sys.argv[1]), seconds=0.2):
    held = bytearray(b"x") * (200 << 20)
    time.sleep(60)
"""


def test_what_a_killed_process_spent_is_kept(tmp_path: Path) -> None:
    record = tmp_path / "base.spent.json"
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(record)]) as process:
        deadline = time.monotonic() + 60
        while not (record.exists() and read_json(record)["peak_bytes"] > 200 << 20):
            assert time.monotonic() < deadline, "nothing was recorded"
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    before = read_json(record)
    with Spent(record) as spent:
        time.sleep(0.3)
    assert spent.seconds > before["seconds"] + 0.3
    assert read_json(record)["seconds"] == pytest.approx(spent.seconds, abs=1.0)
    assert read_json(record)["peak_bytes"] == spent.peak_bytes >= before["peak_bytes"]


def _stage(seconds: float, fail: bool, key: int = 1) -> Stage:
    def run(inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
        time.sleep(seconds)
        if fail:
            raise HerdError("the source went away")

    return Stage("corpus", run, {"key": key})


def test_the_manifest_of_a_resumed_stage_counts_all_its_sessions(tmp_path: Path) -> None:
    record = tmp_path / PARTIAL / "corpus.spent.json"
    with pytest.raises(HerdError, match="went away"):
        run_graph([_stage(0.5, fail=True)], tmp_path, Progress.silent())
    write_json(record, {**read_json(record), "peak_bytes": 1 << 50})
    run_graph([_stage(0.0, fail=False)], tmp_path, Progress.silent())
    manifest = read_json(tmp_path / "corpus" / "manifest.json")
    assert 0.5 < manifest["seconds"] < 10
    assert manifest["peak_memory_bytes"] == 1 << 50
    assert not record.exists()


def test_other_work_begins_at_nothing(tmp_path: Path) -> None:
    with pytest.raises(HerdError):
        run_graph([_stage(0.0, fail=True, key=1)], tmp_path, Progress.silent())
    write_json(tmp_path / PARTIAL / "corpus.spent.json", {"seconds": 1e6, "peak_bytes": 1 << 50})
    run_graph([_stage(0.0, fail=False, key=2)], tmp_path, Progress.silent())
    manifest = read_json(tmp_path / "corpus" / "manifest.json")
    assert manifest["seconds"] < 1000
    assert manifest["peak_memory_bytes"] < 1 << 50
