"""A run stands as long as nothing that decides it changed; anything else is left to the graph."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from herd.corpus.collect import PagesConfig
from herd.corpus.sources import HtmlSource
from herd.foundation.errors import HerdError
from herd.foundation.files import write_json
from herd.foundation.progress import Progress
from herd.pipeline import standing
from herd.pipeline.graph import Stage, run_graph
from herd.pipeline.lock import exclusive
from herd.pipeline.outside import surroundings
from herd.pipeline.standing import note_standing, question, still_stands


def write(inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    (out / "text").write_text("made")


class Run:
    """A finished run of a recipe with two stages and one page."""

    def __init__(self, place: Path) -> None:
        self.output, self.recipe, self.page = place / "run", place / "recipe.yaml", place / "page.html"
        self.recipe.write_text(f"output: {self.output}\nseed: 7\n")
        self.page.write_text("<p>a page</p>")
        self.list = place / "blocked.txt"
        self.list.write_text("example.org\n")
        pages = PagesConfig(sources=(HtmlSource(kind="html", paths=(str(self.page),)),))
        self.looked_at = (pages, (str(self.list),))
        self.raise_with({})

    def raise_with(self, config: dict[str, int]) -> None:
        stages = [Stage("first", write, config), Stage("second", write, {}, {"before": "first"})]
        run_graph(stages, self.output, Progress.silent())
        for name in ("plan.json", "results.json", "report.html"):
            write_json(self.output / name, {"recipe": "digest"})

    def note(self) -> None:
        asked = question(self.recipe, [])
        note_standing(self.output, asked, self.looked_at, surroundings(*self.looked_at), ["first", "second"])

    def stands(self, *overrides: str) -> bool:
        return still_stands(self.recipe, overrides, Progress.silent()) is not None


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(tmp_path)
    made.note()
    return made


def test_a_run_stands_when_asked_the_same(run: Run) -> None:
    sentence = still_stands(run.recipe, [], Progress.silent())
    assert sentence is not None
    assert "nothing to do, all 2 stages" in sentence


def test_a_comment_in_the_recipe_changes_nothing(run: Run) -> None:
    run.recipe.write_text("# mine\n" + run.recipe.read_text())
    assert run.stands()


CHANGES: dict[str, Callable[[Run], object]] = {
    "a key of the recipe": lambda run: run.recipe.write_text(f"output: {run.output}\nseed: 8\n"),
    "a file": lambda run: (run.output / "second" / "text").write_text("mended by hand"),
    "a file of the same size": lambda run: (run.output / "second" / "text").write_text("MADE"),
    "a file less": lambda run: (run.output / "first" / "text").unlink(),
    "a manifest less": lambda run: (run.output / "first" / "manifest.json").unlink(),
    "an artifact of another recipe": lambda run: run.raise_with({"key": 1}),
    "a page": lambda run: run.page.write_text("<p>another page</p>"),
    "a page less": lambda run: run.page.unlink(),
    "a list": lambda run: run.list.write_text("example.com\n"),
    "no report": lambda run: (run.output / "report.html").unlink(),
    "a report that is older": lambda run: os.utime(run.output / "report.html", (0, 0)),
    "a plan of another recipe": lambda run: write_json(run.output / "plan.json", {"recipe": "another"}),
    "a torn note": lambda run: (run.output / "standing.json").write_text('{"asked": '),
    "a note of another kind": lambda run: write_json(run.output / "standing.json", ["asked"]),
    "no note": lambda run: (run.output / "standing.json").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_is_left_to_the_graph(run: Run, change: str) -> None:
    CHANGES[change](run)
    assert not run.stands()


def test_an_override_counts_as_a_change(run: Run) -> None:
    assert not run.stands("seed=8")
    assert run.stands("seed=7")


def test_changed_code_counts_as_a_change(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "installed", lambda: {"train": "edited"})
    assert not run.stands()


def test_surroundings_that_are_not_looked_at_here_are_never_noted(run: Run) -> None:
    (run.output / "standing.json").unlink()
    outside = {**surroundings(*run.looked_at), "the weather": "rain"}
    note_standing(run.output, question(run.recipe, []), run.looked_at, outside, ["first", "second"])
    assert not run.stands()


def test_a_run_that_another_process_writes_is_not_looked_at(run: Run) -> None:
    with exclusive(run.output), pytest.raises(HerdError, match=f"process {os.getpid()} is writing"):
        run.stands()


def test_looking_loads_nothing_that_trains_or_draws() -> None:
    heavy = "{'torch', 'scipy', 'matplotlib'} & set(sys.modules)"
    loads = "import sys, herd.cli, herd.pipeline.standing, herd.pipeline.recipe_file"
    code = f"{loads}; sys.exit(str({heavy}) if {heavy} else 0)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
