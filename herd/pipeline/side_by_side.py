"""Runs the stages of a recipe side by side, each in a process of its own, with its share of the cores.

    outcomes = run_side_by_side(recipe, 2, progress)

Small networks lose more to the cost of each operator than to arithmetic: a second thread hardly helps them, and two
stages at once use two cores well.  Of the stages whose inputs are there, the one starts on which the longest chain of
planned work waits.  A stage's threads follow from jobs and cores alone, never from what runs beside it, so that
the result does not depend on the order either.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from herd.foundation.errors import UnfinishedError
from herd.foundation.progress import Progress
from herd.foundation.workers import workers
from herd.pipeline.graph import Outcome, Stage, Todo, look, open_directory
from herd.pipeline.manifest import Manifest
from herd.pipeline.planning import plan_stages
from herd.pipeline.recipe import Recipe
from herd.pipeline.stages import build

_JOBS = 2
_OTHER_WORK = 1e10
"""FLOPs that stand for a stage that computes nothing that is planned."""


def usual_jobs() -> int:
    """Stages at the same time where nobody says how many: two, but one beside a GPU or on a single core."""
    import torch

    return 1 if torch.cuda.is_available() else min(_JOBS, _cores())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_side_by_side(recipe: Recipe, jobs: int, progress: Progress) -> list[Outcome]:
    """Brings every artifact of the recipe up to date, up to ``jobs`` at a time; returns what ran and why.

    Where a stage fails, that is said at once; those that run beside it are finished first, since their work is kept,
    and nothing else begins.
    """
    stages = build(recipe)
    open_directory(stages, recipe.output)
    planned = {name: estimate.flops for name, estimate in plan_stages(recipe, peak=1.0).items()}
    return _Run(recipe, stages, urgency(stages, planned), jobs, progress).go()


def urgency(stages: Sequence[Stage], planned: Mapping[str, float]) -> dict[str, float]:
    """FLOPs of the longest chain of stages that begins with each, itself included."""
    rest: dict[str, float] = {}
    for stage in reversed(stages):
        waiting = (rest[other.name] for other in stages if stage.name in other.inputs.values())
        rest[stage.name] = planned.get(stage.name, 0.0) + _OTHER_WORK + max(waiting, default=0.0)
    return rest


class _Run:
    """What waits, what runs, what is done."""

    def __init__(
        self,
        recipe: Recipe,
        stages: Sequence[Stage],
        rest: Mapping[str, float],
        jobs: int,
        progress: Progress,
    ) -> None:
        self.recipe, self.stages, self.rest, self.progress = recipe, stages, rest, progress
        self.jobs, self.threads = jobs, max(_cores() // jobs, 1)
        self.waiting = {stage.name: stage for stage in stages}
        self.running: dict[Future[Manifest], Todo] = {}
        self.digests: dict[str, str] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.pool: ProcessPoolExecutor

    def go(self) -> list[Outcome]:
        """Makes all: what needs the whole machine here, while no worker holds memory, the rest in workers."""
        while self.waiting:
            for stage in self._whole():
                self._start(stage)
            with workers(self.jobs, "a stage") as self.pool:
                self._stretch()
        return [self.outcomes[stage.name] for stage in self.stages]

    def _stretch(self) -> None:
        """Starts what can start and waits for what runs, until what is left needs the whole machine first."""
        while (startable := self._startable()) or self.running:
            for stage in startable:
                self._start(stage)
            if not startable:
                for future in wait(self.running, return_when=FIRST_COMPLETED).done:
                    self._settle(self.running[future], self._result(future))
                    del self.running[future]

    def _result(self, future: Future[Manifest]) -> Manifest:
        """What a worker made; its failure is told before those that run beside it are waited for."""
        try:
            return future.result()
        except BrokenProcessPool:
            names = " or ".join(sorted(todo.stage.name for todo in self.running.values()))
            raise UnfinishedError(
                f"{names}: a worker process was killed; run again to go on from what is done"
            ) from None
        except Exception as error:
            beside = sorted(self.running[other].stage.name for other in self.running if not other.done())
            if beside:
                failed = f"{self.running[future].stage.name} failed: {str(error) or type(error).__name__}"
                self.progress.say(f"{failed}; the run ends when {' and '.join(beside)}, which it keeps, is finished")
            raise

    def _ready(self) -> list[Stage]:
        return [stage for stage in self.waiting.values() if self.digests.keys() >= set(stage.inputs.values())]

    def _whole(self) -> list[Stage]:
        """The stages that could start if the whole machine were theirs."""
        return [stage for stage in self._ready() if stage.whole_machine]

    def _startable(self) -> list[Stage]:
        """The most urgent stages that have their inputs; none where one of them waits for the whole machine."""
        if self._whole():
            return []
        ready = sorted(self._ready(), key=lambda stage: -self.rest[stage.name])
        return ready[: self.jobs - len(self.running)]

    def _start(self, stage: Stage) -> None:
        del self.waiting[stage.name]
        found = look(stage, self.recipe.output, self.digests)
        if isinstance(found, Manifest):
            self._note(stage, found, Outcome(stage.name, False, "up to date", found.seconds))
            return
        place = f"{len(self.stages) - len(self.waiting)}/{len(self.stages)}"
        self.progress.say(f"[{place}] {stage.name}: {found.reason}")
        if stage.whole_machine:
            self._settle(found, found.make(self.recipe.output, self.progress))
        else:
            future = self.pool.submit(_make, self.recipe, stage.name, found.inputs, found.outside, self.threads)
            self.running[future] = found

    def _settle(self, todo: Todo, manifest: Manifest) -> None:
        self._note(todo.stage, manifest, Outcome(todo.stage.name, True, todo.reason, manifest.seconds))

    def _note(self, stage: Stage, manifest: Manifest, outcome: Outcome) -> None:
        self.digests[stage.name], self.outcomes[stage.name] = manifest.digest, outcome


def _make(recipe: Recipe, name: str, inputs: dict[str, str], outside: dict[str, str], threads: int) -> Manifest:
    """In a worker: makes one stage; its lines begin with its name."""
    import torch

    torch.set_num_threads(threads)
    stage = next(stage for stage in build(recipe) if stage.name == name)
    progress = Progress(sys.stderr, prefix=f"{name}: ", bars=False)
    return Todo(stage, "", inputs, outside).make(recipe.output, progress)
