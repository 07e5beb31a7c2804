"""One artifact alone: whole or absent, resumed, never over what somebody made, and with its lineage."""

import errno
import fcntl
import os
import pickle
import signal
from pathlib import Path

import pytest

from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.foundation.workers import workers
from herd.pipeline.alone import Work, make_alone
from herd.pipeline.disk import DiskFullError
from herd.pipeline.lineage import ancestors, as_text
from herd.pipeline.lock import exclusive


class Settings(Config):
    steps: int = 1


def make(out: Path, inputs: dict[str, Path], steps: int = 1, run: Work | None = None) -> bool:
    def write(place: Path, progress: Progress) -> None:
        (place / "text").write_text(f"{steps} " + " ".join(path.name for path in inputs.values()))

    return make_alone("copy", Settings(steps=steps), inputs, out, run or write, Progress.silent())


def test_the_same_call_again_does_nothing_and_another_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.txt"
    page.write_text("words")
    out = tmp_path / "new" / "copy"
    assert make(out, {"page": page})
    assert not make(out, {"page": page})
    with pytest.raises(HerdError, match=r"copy: holds the result of another call \(steps changed\)"):
        make(out, {"page": page}, steps=2)
    page.write_text("other words")
    with pytest.raises(HerdError, match=r"another call \(page changed\)"):
        make(out, {"page": page})
    assert sorted(path.name for path in out.parent.iterdir()) == ["copy"]


def test_what_somebody_made_is_never_written_over(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    assert make(mine, {})
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("dear diary")
    for name in ("notes", "notes/a.txt"):
        with pytest.raises(HerdError, match="was not made by Herd"):
            make(tmp_path / name, {})
    assert (tmp_path / "notes" / "a.txt").read_text() == "dear diary"


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(HerdError, match=r"nowhere: there is no such file or directory \(corpus of herd copy\)"):
        make(tmp_path / "out", {"corpus": tmp_path / "nowhere"})


def failing(error: BaseException, seen: list[bool]) -> Work:
    def run(place: Path, progress: Progress) -> None:
        seen.append((place / "checkpoint").exists())
        (place / "checkpoint").write_text("half")
        raise error

    return run


def test_an_interrupted_call_goes_on_and_a_mistake_leaves_nothing(tmp_path: Path) -> None:
    out, seen = tmp_path / "out", list[bool]()
    for error in (KeyboardInterrupt(), HerdError("a mistake"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            make(out, {}, run=failing(error, seen))
    assert seen == [False, True, False]
    assert not out.exists()
    make(out, {})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_another_call_does_not_throw_away_what_an_interrupted_one_left(tmp_path: Path) -> None:
    out, seen = tmp_path / "out", list[bool]()
    with pytest.raises(KeyboardInterrupt):
        make(out, {}, steps=3, run=failing(KeyboardInterrupt(), seen))
    with pytest.raises(HerdError, match=r"out: holds what an interrupted call with other settings or inputs left; "):
        make(out, {}, steps=2)
    with pytest.raises(KeyboardInterrupt):
        make(out, {}, steps=3, run=failing(KeyboardInterrupt(), seen))
    assert seen == [False, True]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("database or disk is full"),
        HerdError("x.safetensors: could not be written (No space left on device)"),
    ],
)
def test_a_full_disk_is_named_and_the_work_is_kept(tmp_path: Path, error: Exception) -> None:
    seen = list[bool]()
    for _ in range(2):
        with pytest.raises(DiskFullError, match="out: no space left on the disk"):
            make(tmp_path / "out", {}, run=failing(error, seen))
    assert seen == [False, True]


def test_what_a_killed_workers_neighbours_have_done_is_kept(tmp_path: Path) -> None:
    def killed(place: Path, progress: Progress) -> None:
        (place / "run-1").write_text("an hour's work")
        with workers(1, "runs") as pool:
            os.kill(pool.submit(os.getpid).result(), signal.SIGKILL)
            pool.submit(os.getpid).result()

    def on(place: Path, progress: Progress) -> None:
        assert (place / "run-1").read_text() == "an hour's work"

    with pytest.raises(HerdError, match="run again to go on from what is done"):
        make(tmp_path / "out", {}, run=killed)
    assert make(tmp_path / "out", {}, run=on)


def test_a_full_disk_reads_the_same_when_a_worker_tells_of_it() -> None:
    error = DiskFullError(Path("runs/pocket/tokens"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_defect_stays_a_defect(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        make(tmp_path / "out", {}, run=failing(ZeroDivisionError(), []))


def test_a_second_call_for_the_same_place_is_refused_and_for_another_is_not(tmp_path: Path) -> None:
    with exclusive(tmp_path / ".out.partial"):
        with pytest.raises(HerdError, match="is writing this run"):
            make(tmp_path / "out", {})
        make(tmp_path / "other", {})


def test_a_file_system_that_cannot_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(HerdError, match=r"cannot be locked there \(No locks available\)"):
        make(tmp_path / "out", {})


def test_lineage_goes_through_artifacts_in_other_places_and_names_plain_files(tmp_path: Path) -> None:
    page = tmp_path / "page.txt"
    page.write_text("words")
    make(tmp_path / "a" / "pages", {"page": page})
    make(tmp_path / "b" / "c" / "corpus", {"pages": tmp_path / "a" / "pages"})
    make(tmp_path / "tokens", {"corpus": tmp_path / "b" / "c" / "corpus", "more": page})
    found = [(a.depth, a.role, a.stage) for a in ancestors(tmp_path / "tokens")]
    assert found == [(0, "", "tokens"), (1, "corpus", "corpus"), (2, "pages", "pages")]
    text = as_text(tmp_path / "tokens")
    assert text.count("page.txt (") == 2
    (tmp_path / "a" / "pages" / "text").write_text("changed")
    assert [a.stale for a in ancestors(tmp_path / "tokens")] == [None, None, "text was changed after it was made"]
