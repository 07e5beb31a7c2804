"""What starts when: inputs first, the longest chain first, and what needs the whole machine alone.

That a whole recipe is raised side by side, killed and resumed, is shown by ``test_road`` and ``test_kill``.
"""

import io
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, cast

import pytest

from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.pipeline.graph import Stage
from herd.pipeline.planning import plan_stages
from herd.pipeline.recipe import Recipe, load_recipe
from herd.pipeline.side_by_side import _Run, urgency
from herd.pipeline.stages import build


def nothing(inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    (out / "text").write_text("made")


def stage(name: str, *needs: str, whole_machine: bool = False) -> Stage:
    return Stage(name, nothing, {}, {need: need for need in needs}, whole_machine=whole_machine)


GRAPH = [
    stage("tokens", whole_machine=True),
    stage("small", "tokens"),
    stage("large", "tokens"),
    stage("guard", "small"),
    stage("chat", "small", "large"),
    stage("evaluation", "guard", "chat", whole_machine=True),
]
PLANNED = {"small": 2e12, "large": 8e12, "guard": 5e12, "chat": 3e12, "evaluation": 1e12}


class Pool:
    """Takes stages and leaves it to the test when they are done."""

    def __init__(self) -> None:
        self.taken: dict[str, Future] = {}

    def submit(self, function: object, recipe: Recipe, name: str, *rest: object) -> Future:
        self.taken[name] = Future()
        return self.taken[name]


@pytest.fixture
def run(tmp_path: Path) -> _Run:
    recipe = load_recipe("mini", [f"output={tmp_path}"])
    made = _Run(recipe, GRAPH, urgency(GRAPH, PLANNED), 2, Progress.silent())
    made.pool = cast(Any, Pool())
    return made


def names(stages: list[Stage]) -> list[str]:
    return [stage.name for stage in stages]


def finish(run: _Run, name: str) -> None:
    """Lets the stage ``name`` end as the worker would have ended it."""
    future = run.pool.taken[name]  # type: ignore[attr-defined]
    todo = run.running.pop(future)
    run._settle(todo, todo.make(run.recipe.output, run.progress))


def test_the_longest_chain_of_planned_work_is_the_most_urgent() -> None:
    found = urgency(GRAPH, PLANNED)
    assert found["large"] == pytest.approx(8e12 + 3e12 + 1e12, rel=0.01)
    assert found["small"] == pytest.approx(2e12 + 5e12 + 1e12, rel=0.01)
    assert found["tokens"] > found["large"] > found["small"] > found["guard"] > found["chat"] > found["evaluation"]


def test_stages_start_by_urgency_and_those_for_the_whole_machine_alone(run: _Run) -> None:
    assert names(run._whole()) == ["tokens"]
    assert run._startable() == []
    run._start(GRAPH[0])
    assert (run.recipe.output / "tokens" / "text").exists()
    assert names(run._startable()) == ["large", "small"]
    for found in run._startable():
        run._start(found)
    assert run._startable() == []
    finish(run, "small")
    assert names(run._startable()) == ["guard"]
    run._start(GRAPH[3])
    finish(run, "large")
    assert names(run._startable()) == ["chat"]
    finish(run, "guard")
    run._start(GRAPH[4])
    assert run._startable() == []
    finish(run, "chat")
    assert run._startable() == []
    assert names(run._whole()) == ["evaluation"]


def test_a_stage_for_the_whole_machine_waits_until_nothing_runs(run: _Run) -> None:
    run._start(GRAPH[0])
    run._start(GRAPH[1])
    run.waiting["report"] = stage("report", "tokens", whole_machine=True)
    assert run._startable() == []
    finish(run, "small")
    assert run._startable() == []
    assert names(run._whole()) == ["report"]


def test_the_flagship_is_what_everything_waits_for() -> None:
    recipe = load_recipe("pocket")
    stages = build(recipe)
    found = urgency(stages, {name: one.flops for name, one in plan_stages(recipe, peak=1.0).items()})
    first = max((stage for stage in stages if stage.name.startswith("initial-")), key=lambda one: found[one.name])
    assert first.name == f"initial-{recipe.flagship}"


def test_a_failure_is_told_before_its_neighbour_is_waited_for(run: _Run) -> None:
    said = io.StringIO()
    run._start(GRAPH[0])
    run.progress = Progress(said)
    for found in run._startable():
        run._start(found)
    run.pool.taken["large"].set_exception(HerdError("gate: it stays shut"))  # type: ignore[attr-defined]
    with pytest.raises(HerdError, match=r"^gate: it stays shut$"):
        run._stretch()
    assert "large failed: gate: it stays shut; the run ends when small, which it keeps, is finished" in said.getvalue()


def test_a_killed_worker_is_told_with_the_stages_that_it_may_have_worked_on(run: _Run) -> None:
    run._start(GRAPH[0])
    for found in run._startable():
        run._start(found)
    for future in run.pool.taken.values():  # type: ignore[attr-defined]
        future.set_exception(BrokenProcessPool("a child process terminated abruptly"))
    with pytest.raises(HerdError, match=r"^large or small: a worker process was killed; run again"):
        run._stretch()
