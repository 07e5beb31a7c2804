"""Killed at any moment, a run ends with the same base model, tensor for tensor.

The road up to a base model, from a folder of text, so small that it can be run again and again.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

RUN = """
import sys
from herd.foundation.progress import Progress
from herd.pipeline.graph import run_graph
from herd.pipeline.lock import exclusive
from herd.pipeline.recipe import load_recipe
from herd.pipeline.stages import build
recipe = load_recipe("mini", sys.argv[1:])
stages = build(recipe)
last = [stage.name for stage in stages].index("base-tiny")
needless = ("scaling",)
with exclusive(recipe.output):
    run_graph([stage for stage in stages[:last + 1] if stage.name not in needless], recipe.output, Progress.silent())
"""


def write_pages(folder: Path) -> None:
    """Some documentation in plain HTML, made by rule: sixty functions with a sentence and an example each."""
    folder.mkdir()
    verbs = ("sort", "join", "split", "count", "merge", "scan", "pack", "read", "send", "find", "check", "move")
    things = ("lists", "lines", "words", "files", "pages", "rows", "names", "trees", "keys", "logs")
    for verb in verbs:
        parts = []
        for thing in things:
            chance = random.Random(f"{verb} {thing}")
            words = " ".join(chance.choice(verbs + things) for _ in range(12))
            parts.append(
                f"<h2>{verb}.{thing}</h2><p>This tells how to {verb} the {thing}. It is used when the {words}.</p>"
            )
        (folder / f"{verb}.html").write_text(f"<html><body><h1>How to {verb}</h1>{''.join(parts)}</body></html>")


def start(pages: Path, output: Path) -> subprocess.Popen[bytes]:
    overrides = [f"output={output}", f"pages.sources=[{{kind: html, path: {pages}}}]", *SMALL]
    return subprocess.Popen([sys.executable, "-c", RUN, *overrides], stderr=subprocess.PIPE)


SMALL = (
    "tasks.test_sentences=5",
    "tasks.calibration_sentences=3",
    "pretraining.compile='off'",
    "members.tiny.tokens=40000",
)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_killed_again_and_again_ends_with_the_same_tensors(tmp_path: Path) -> None:
    write_pages(tmp_path / "pages")
    finish(start(tmp_path / "pages", tmp_path / "whole"))
    chance = random.Random(7)
    for _ in range(8):
        process = start(tmp_path / "pages", tmp_path / "killed")
        time.sleep(chance.uniform(4, 14))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    finish(start(tmp_path / "pages", tmp_path / "killed"))
    wanted = load_file(tmp_path / "whole" / "base-tiny" / "model.safetensors")
    found = load_file(tmp_path / "killed" / "base-tiny" / "model.safetensors")
    assert wanted.keys() == found.keys()
    assert all((wanted[name] == found[name]).all() for name in wanted)
