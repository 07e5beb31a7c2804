"""The graph: what runs, what does not, and what a kill leaves behind."""

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from herd.foundation.errors import HerdError
from herd.foundation.files import read_json
from herd.foundation.progress import Progress
from herd.pipeline.graph import PARTIAL, Stage, run_graph
from herd.pipeline.lock import exclusive

SILENT = Progress.silent()


class Notebook:
    """Three stages that write their configuration and inputs, and a count of how often each ran."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.sources = {"interpreter": "3.11"}

    def stages(self, page_limit: int = 3, shout: bool = False) -> list[Stage]:
        def write(name: str, text: str) -> object:
            def run(inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
                self.runs.append(name)
                before = "".join((path / "text").read_text() for path in inputs.values())
                (out / "text").write_text(before + text)
                (out / "stats.json").write_text(str(len(self.runs)))

            return run

        return [
            Stage("pages", write("pages", "p" * page_limit), {"limit": page_limit}, outside=lambda: dict(self.sources)),
            Stage("corpus", write("corpus", "c"), {"shout": False}, {"pages": "pages"}),
            Stage("report", write("report", "R" if shout else "r"), {"shout": shout}, {"corpus": "corpus"}),
        ]


def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    book = Notebook()
    run_graph(book.stages(), tmp_path, SILENT)
    outcomes = run_graph(book.stages(), tmp_path, SILENT)
    assert book.runs == ["pages", "corpus", "report"]
    assert not any(outcome.ran for outcome in outcomes)
    assert (tmp_path / "report" / "text").read_text() == "pppcr"


def test_a_changed_key_runs_what_depends_on_it_and_says_so(tmp_path: Path) -> None:
    book = Notebook()
    run_graph(book.stages(), tmp_path, SILENT)
    outcomes = run_graph(book.stages(shout=True), tmp_path, SILENT)
    assert [outcome.stage for outcome in outcomes if outcome.ran] == ["report"]
    assert outcomes[-1].reason == "again, since shout changed"
    outcomes = run_graph(book.stages(page_limit=4, shout=True), tmp_path, SILENT)
    assert [outcome.reason for outcome in outcomes] == [
        "again, since limit changed",
        "again, since its input pages changed",
        "again, since its input corpus changed",
    ]


def test_the_same_content_made_anew_does_not_reach_further(tmp_path: Path) -> None:
    book = Notebook()
    run_graph(book.stages(), tmp_path, SILENT)
    book.sources["interpreter"] = "3.12"
    outcomes = run_graph(book.stages(), tmp_path, SILENT)
    assert [outcome.ran for outcome in outcomes] == [True, False, False]
    assert outcomes[0].reason == "again, since interpreter changed"


@pytest.mark.parametrize("diary", ["stats.json", "metrics.jsonl", "tensorboard", "checkpoints"])
def test_what_holds_clock_times_does_not_reach_further(tmp_path: Path, diary: str) -> None:
    def run(inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
        (out / diary).mkdir()
        (out / diary / "events").write_text(str(time.monotonic_ns()))
        (out / "model").write_text("weights")

    digests = []
    for limit in (1, 2):
        run_graph([Stage("base", run, {"limit": limit})], tmp_path, SILENT)
        digests.append(read_json(tmp_path / "base" / "manifest.json")["digest"])
    assert digests[0] == digests[1]


def test_a_file_changed_by_hand_is_made_again(tmp_path: Path) -> None:
    book = Notebook()
    run_graph(book.stages(), tmp_path, SILENT)
    (tmp_path / "corpus" / "text").write_text("tampered")
    outcomes = run_graph(book.stages(), tmp_path, SILENT)
    assert [outcome.reason for outcome in outcomes if outcome.ran] == ["again, since text in it was changed or removed"]
    assert (tmp_path / "report" / "text").read_text() == "pppcr"


def test_an_interrupted_stage_finds_its_own_work_again_but_not_that_of_other_settings(tmp_path: Path) -> None:
    found: list[bool] = []

    def stage(steps: int, fail: bool) -> Stage:
        def run(inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
            found.append((out / "checkpoint").exists())
            (out / "checkpoint").write_text("half")
            if fail:
                raise KeyboardInterrupt

        return Stage("base", run, {"steps": steps})

    with pytest.raises(KeyboardInterrupt):
        run_graph([stage(1, fail=True)], tmp_path, SILENT)
    assert not (tmp_path / "base").exists()
    assert (tmp_path / PARTIAL / "base" / "checkpoint").exists()
    run_graph([stage(1, fail=False)], tmp_path, SILENT)
    with pytest.raises(KeyboardInterrupt):
        run_graph([stage(2, fail=True)], tmp_path, SILENT)
    run_graph([stage(3, fail=False)], tmp_path, SILENT)
    assert found == [False, True, False, False]


def test_what_a_kill_left_half_written_is_no_part_of_the_artifact(tmp_path: Path) -> None:
    def stage(fail: bool) -> Stage:
        def run(inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
            if fail:
                (out / "parts" / ".quality.bin.4711.tmp").mkdir(parents=True)
                (out / "parts" / ".model.json.4711.tmp").write_text("{")
                raise KeyboardInterrupt
            (out / "text").write_text("whole")

        return Stage("corpus", run, {})

    with pytest.raises(KeyboardInterrupt):
        run_graph([stage(fail=True)], tmp_path, SILENT)
    run_graph([stage(fail=False)], tmp_path, SILENT)
    assert set(read_json(tmp_path / "corpus" / "manifest.json")["files"]) == {"text"}
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_graph_that_cannot_be_ordered_is_refused(tmp_path: Path) -> None:
    book = Notebook()
    with pytest.raises(HerdError, match="its input pages is pages, which no earlier stage makes"):
        run_graph(book.stages()[1:], tmp_path, SILENT)


def test_a_second_writer_is_refused_with_the_process_id(tmp_path: Path) -> None:
    import os

    with exclusive(tmp_path), pytest.raises(HerdError, match=f"process {os.getpid()} is writing"), exclusive(tmp_path):
        pass
    with exclusive(tmp_path):
        pass
