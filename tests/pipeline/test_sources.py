"""A changed room of Herd is noticed and named, and nothing runs again for it."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

import herd
from herd.foundation.files import read_json, write_json
from herd.foundation.progress import Progress
from herd.pipeline.graph import Stage, run_graph
from herd.pipeline.sources import digests, installed, remark

NAMES = ["pages", "corpus", "tasks", "search", "documents"]


def write(inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    (out / "text").write_text("x")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of five stages, made by the code that is installed."""
    run_graph([Stage(name, write, {}) for name in NAMES], tmp_path, Progress.silent())
    return tmp_path


def make_older(artifact: Path, *rooms: str) -> None:
    manifest = read_json(artifact / "manifest.json")
    manifest["sources"] |= dict.fromkeys(rooms, "0" * 32)
    write_json(artifact / "manifest.json", manifest)


def test_what_the_installed_code_made_needs_no_word(run: Path) -> None:
    assert read_json(run / "corpus" / "manifest.json")["sources"] == installed()
    assert remark(run, [*NAMES, "tokens"]) is None


def test_artifacts_of_other_code_are_named_with_what_changed_and_do_not_run_again(run: Path) -> None:
    for name in NAMES:
        make_older(run / name, "corpus", *(["tasks"] if name == "tasks" else []))
    said = remark(run, NAMES)
    assert said is not None
    assert said.startswith("pages, corpus, tasks, search and 1 more: made before herd/corpus, herd/tasks changed;")
    assert remark(run, ["tasks"]) == said.replace("pages, corpus, tasks, search and 1 more", "tasks")
    outcomes = run_graph([Stage(name, write, {}) for name in NAMES], run, Progress.silent())
    assert not any(outcome.ran for outcome in outcomes)


def test_a_room_changes_with_any_of_its_files_and_with_no_other(tmp_path: Path) -> None:
    package = tmp_path / "herd"
    shutil.copytree(Path(herd.__file__).parent, package)
    before = digests(package)
    assert {"corpus", "model", "train"} <= set(before)
    assert not {"serve", "report", "cli"} & set(before)
    for name in ("corpus/quality.py", "evaluate/handwritten.jsonl"):
        (package / name).write_text((package / name).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    (package / "train" / "__pycache__").mkdir(exist_ok=True)
    (package / "train" / "__pycache__" / "loop.pyc").write_bytes(b"compiled anew")
    after = digests(package)
    assert {room for room in after if after[room] != before[room]} == {"corpus", "evaluate"}
