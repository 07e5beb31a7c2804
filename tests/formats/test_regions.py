"""Files filled region by region: whole or absent, and what a kill leaves behind."""

import json
from pathlib import Path

import pytest

from herd.formats import regions
from herd.formats.regions import RegionFiles

SIZES = {"a": 6, "b": 3}


@pytest.fixture(autouse=True)
def flush_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "_FLUSH_BYTES", 1)


def opened(place: Path, plan: str = "plan") -> RegionFiles:
    return RegionFiles(place, SIZES, ".journal", plan)


def test_files_appear_when_they_are_full(tmp_path: Path) -> None:
    files = opened(tmp_path)
    files.write("second", [("a", 3, b"def"), ("b", 0, b"xyz")], note={"sum": 3})
    files.write("first", [("a", 0, b"abc")])
    assert not (tmp_path / "a").exists()
    assert files.done == {"second": {"sum": 3}, "first": None}
    files.finish()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a": b"abcdef", "b": b"xyz"}


def test_the_next_call_knows_what_is_on_the_disk(tmp_path: Path) -> None:
    opened(tmp_path).write("first", [("a", 0, b"abc")], note=7)
    again = opened(tmp_path)
    assert again.done == {"first": 7}
    again.write("second", [("a", 3, b"def"), ("b", 0, b"xyz")])
    opened(tmp_path).finish()
    assert (tmp_path / "a").read_bytes() == b"abcdef"


def test_a_line_that_the_kill_cut_does_not_count(tmp_path: Path) -> None:
    files = opened(tmp_path)
    for key in ("first", "second"):
        files.write(key, [("b", 0, b"x")])
    journal = tmp_path / ".journal"
    journal.write_text(journal.read_text()[:-4])
    again = opened(tmp_path)
    assert again.done == {"first": None}
    again.write("third", [("b", 0, b"x")])
    assert [json.loads(line)[0] for line in journal.read_text().splitlines()] == ["plan", "first", "third"]


def test_another_plan_or_a_lost_file_begins_anew(tmp_path: Path) -> None:
    opened(tmp_path).write("first", [("a", 0, b"abc")])
    assert opened(tmp_path, "other").done == {}
    assert (tmp_path / ".a.partial").read_bytes() == bytes(6)
    opened(tmp_path, "other").write("first", [("a", 0, b"abc")])
    (tmp_path / ".b.partial").write_bytes(b"")
    assert opened(tmp_path, "other").done == {}
    opened(tmp_path, "other").write("first", [("a", 0, b"abc")])
    (tmp_path / ".a.partial").unlink()
    assert opened(tmp_path, "other").done == {}
