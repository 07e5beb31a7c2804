"""Raises a herd: checks the machine once, runs the graph under the lock, says what there is to do with the result."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from herd.foundation.files import digest_value, read_json, write_json
from herd.foundation.progress import Progress
from herd.pipeline.graph import Outcome, run_graph
from herd.pipeline.lock import exclusive
from herd.pipeline.memory import PeakMemory
from herd.pipeline.planning import plan_file
from herd.pipeline.recipe import Recipe
from herd.pipeline.side_by_side import run_side_by_side, usual_jobs
from herd.pipeline.sources import remark
from herd.pipeline.stages import build
from herd.pipeline.standing import PLAN, is_published, note_standing, nothing_to_do
from herd.tools.sandbox import Sandbox
from herd.train.compiled import compiler_available

MEMORY = "memory.json"


def raise_herd(recipe: Recipe, asked: str, progress: Progress, jobs: int | None = None) -> str:
    """Brings every artifact of the recipe up to date, ``jobs`` stages at a time; returns what to say at the end.

    ``asked`` is the ``question`` that the recipe's file puts, kept for the next run that asks the same.
    """
    started = time.monotonic()
    with exclusive(recipe.output):
        stages = build(recipe)
        names = [stage.name for stage in stages]
        changed = remark(recipe.output, names)
        for sentence in [*what_is_missing(), *([changed] if changed else [])]:
            progress.say(sentence)
        keep_plan(recipe)
        jobs = jobs or usual_jobs()
        with PeakMemory() as peak:
            if jobs > 1:
                outcomes = run_side_by_side(recipe, jobs, progress)
            else:
                outcomes = run_graph(stages, recipe.output, progress)
        if any(outcome.ran for outcome in outcomes):
            keep_memory(recipe.output, peak.bytes)
        if not is_published(recipe.output, names):
            publish(recipe)
        outside = dict(found for stage in stages for found in stage.outside().items())
        note_standing(recipe.output, asked, (recipe.pages, recipe.corpus.blocklists), outside, names)
    return _summary(recipe, outcomes, time.monotonic() - started)


def keep_plan(recipe: Recipe) -> None:
    """Writes ``plan.json`` unless it is there and of this very recipe: what was spent is shown beside it."""
    path, digest = recipe.output / PLAN, digest_value(recipe.model_dump(mode="json"))
    if not path.exists() or read_json(path).get("recipe") != digest:
        write_json(path, {"recipe": digest, **plan_file(recipe)})


def keep_memory(output: Path, peak_bytes: int) -> None:
    """Writes what all processes of the run held together at most, of its sessions that ended: the largest."""
    path = output / MEMORY
    before = read_json(path)["peak_bytes"] if path.exists() else 0
    write_json(path, {"peak_bytes": max(before, peak_bytes)})


def publish(recipe: Recipe) -> None:
    """Puts what people look for at the top of the run: ``results.json``, ``chat`` and ``report.html``."""
    from herd.report.page import write_report  # what draws takes a second to load

    write_json(recipe.output / "results.json", read_json(recipe.output / "evaluation" / "results.json"))
    link = recipe.output / ".chat.tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(f"chat-{recipe.flagship}")
    link.replace(recipe.output / "chat")
    write_report(recipe.output)


def what_is_missing() -> list[str]:
    """What this machine lacks, and what the run does without it, a sentence each."""
    sentences = []
    if reason := compiler_available():
        sentences.append(f"training runs eagerly: {reason}")
    if reason := Sandbox.unavailable():
        sentences.append(f"the interpreter stays off, its rows will read 'not measured: no sandbox': {reason}")
    elif shutil.which("bwrap") is None:
        sentences.append("there is no bubblewrap: the sandbox uses user namespaces, seccomp and limits directly")
    return sentences


def _summary(recipe: Recipe, outcomes: Sequence[Outcome], seconds: float) -> str:
    ran = [outcome for outcome in outcomes if outcome.ran]
    if not ran:
        return nothing_to_do(recipe.output, len(outcomes), seconds)
    lines = [
        f"{recipe.output}: {len(ran)} of {len(outcomes)} stages ran in {seconds / 60:.1f} minutes",
        f"  read   {recipe.output}/report.html",
        f"  talk   herd chat {recipe.output}/chat",
        f"  serve  herd serve {recipe.output}/chat",
    ]
    return "\n".join(lines)
