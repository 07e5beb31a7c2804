"""Killed at any moment, a run ends with the same artifacts, byte for byte, base models and all.

The whole road of the mini recipe, with less of everything, so that it can be run twice: once in one go, once killed
again and again, at moments drawn in every chapter of the road.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from herd.foundation.files import read_json
from herd.pipeline.recipe import load_recipe
from herd.pipeline.stages import build
from herd.report.ledger import chapter_of

KILLS = {"alignment": 3}  # in the stages of a chapter; one in the others
PATIENCE = 3600.0  # seconds, for a core that others use too
SMALL = (
    "pretraining.compile='off'",
    "annealing.compile='off'",
    "scaling.isoflop.budgets=[2.0e+10, 4.0e+10]",
    "scaling.isoflop.least_tokens=2000",
    "alignment.rounds=[{preferences: {prompts: 8}, sampling: {prompts: 3, answers: 4}, sft: {tokens: 6000}}]",
    "guard={examples: 64, calibration: 60, pages: 10}",
    "evaluation.suite={per_kind: 1, per_kind_largest: 1, max_tokens: 24}",
)


def start(output: Path) -> subprocess.Popen[bytes]:
    options = [word for override in (f"output={output}", *SMALL) for word in ("--set", override)]
    command = [sys.executable, "-c", "from herd.cli import main; main()", "run", "mini", *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors.decode()[-2000:]


def wait_for_stage(process: subprocess.Popen[bytes], run: Path, stage: str) -> None:
    """Until ``stage`` is being made; a stage of a blink may be over before it is seen."""
    deadline = time.monotonic() + PATIENCE
    while not (run / ".partial" / stage).exists() and not (run / stage).exists():
        assert time.monotonic() < deadline, f"{stage} was not reached"
        assert process.poll() is None, "the run ended on its own"
        time.sleep(0.02)


def drawn(stages: list[str], chance: random.Random) -> list[str]:
    """Some stages of every chapter, in the order of the road."""
    chapters: dict[str, list[str]] = {}
    for stage in stages:
        chapters.setdefault(chapter_of(stage), []).append(stage)
    chosen = [stage for name, own in chapters.items() for stage in chance.sample(own, KILLS.get(name, 1))]
    return sorted(chosen, key=stages.index)


def content(run: Path, stages: list[str]) -> dict[str, str]:
    return {stage: read_json(run / stage / "manifest.json")["digest"] for stage in stages}


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
def test_a_run_killed_again_and_again_ends_with_the_same_artifacts(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    stages = [stage.name for stage in build(load_recipe("mini", SMALL))]
    finish(start(whole))
    seconds = {stage: read_json(whole / stage / "manifest.json")["seconds"] for stage in stages}
    chance = random.Random(7)
    for stage in drawn(stages, chance):
        process = start(killed)
        wait_for_stage(process, killed, stage)
        time.sleep(chance.random() * seconds[stage])
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    finish(start(killed))
    assert content(killed, stages) == content(whole, stages)
