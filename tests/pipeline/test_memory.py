"""The peak of a stage is that of all its processes together, each shared page once."""

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from herd.foundation.files import read_json
from herd.foundation.progress import Progress
from herd.pipeline.graph import Stage, run_graph
from herd.pipeline.memory import PeakMemory, own_peak, process_tree

needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc on this system")
_MEGABYTES = 60
# A process that fills memory, and one that leaves this to a child of its own.
_FILL = f"import time; held = bytearray(b'x') * ({_MEGABYTES} << 20); time.sleep(0.6)"
_LEAVE = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_FILL!r}], check=True)"


def _fake(proc: Path, process: int, parent: int, name: str, pages: int, pss_kilobytes: int | None) -> None:
    directory = proc / str(process)
    directory.mkdir(parents=True)
    (directory / "stat").write_text(f"{process} ({name}) S {parent} 1 1 0")
    (directory / "statm").write_text(f"{10 * pages} {pages} 0 0 0 0 0")
    if pss_kilobytes is not None:
        (directory / "smaps_rollup").write_text(f"55-7f ---p 0 [rollup]\nRss: 999 kB\nPss: {pss_kilobytes} kB\n")


def test_a_tree_is_found_whatever_the_processes_are_called(tmp_path: Path) -> None:
    for process, parent, name in ((5, 1, "herd"), (6, 5, "a) S 1 (b"), (7, 6, "x y"), (8, 1, "stranger"), (9, 8, "z")):
        _fake(tmp_path, process, parent, name, 1, None)
    (tmp_path / "meminfo").write_text("no process")
    (tmp_path / "77").mkdir()
    assert sorted(process_tree(tmp_path, 5)) == [5, 6, 7]


def test_shared_pages_count_once_and_a_closed_process_counts_with_all_it_holds(tmp_path: Path) -> None:
    page = resource.getpagesize()
    _fake(tmp_path, 5, 1, "herd", 1000, 300)
    _fake(tmp_path, 6, 5, "closed", 50, None)
    peak = PeakMemory(proc=tmp_path, root=5)
    peak.look()
    assert peak.bytes == 300 * 1024 + 50 * page
    (tmp_path / "5" / "smaps_rollup").write_text("Pss: 100 kB\n")
    peak.look()
    assert peak.bytes == 300 * 1024 + 50 * page, "a peak does not shrink"


@needs_proc
def test_the_memory_of_a_childs_child_counts() -> None:
    with PeakMemory(seconds=0.05) as alone:
        time.sleep(0.2)
    with PeakMemory(seconds=0.05) as peak:
        subprocess.run([sys.executable, "-c", _LEAVE], check=True)
    assert peak.bytes > alone.bytes + (_MEGABYTES << 20)
    assert alone.bytes < 2 * own_peak()


@needs_proc
def test_memory_that_was_given_back_before_the_stage_does_not_count() -> None:
    held = bytearray(b"x") * (200 << 20)
    with PeakMemory() as before:
        assert held[-1] == ord("x")
    del held
    with PeakMemory() as after:
        pass
    assert after.bytes < before.bytes - (150 << 20)


@needs_proc
def test_a_manifest_holds_the_peak_of_all_processes(tmp_path: Path) -> None:
    def run(inputs: object, out: Path, progress: Progress) -> None:
        subprocess.run([sys.executable, "-c", _FILL.replace("0.6", "1.5")], check=True)

    def rest(inputs: object, out: Path, progress: Progress) -> None:
        (out / "text").write_text("nothing")

    run_graph([Stage("large", run, {}), Stage("small", rest, {})], tmp_path, Progress.silent())
    large, small = (read_json(tmp_path / name / "manifest.json")["peak_memory_bytes"] for name in ("large", "small"))
    assert large > small + (_MEGABYTES << 20) * 0.9


def test_elsewhere_the_figure_is_the_kernels(tmp_path: Path) -> None:
    with PeakMemory(proc=tmp_path) as peak:
        pass
    assert peak.bytes >= 1 << 20
