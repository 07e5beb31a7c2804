"""The whole road in miniature, through the command line: everything a user is promised of a run.

One run of the shipped recipe ``mini`` serves all tests of this file; it is killed once on the way.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from herd.pipeline.recipe import load_recipe
from herd.pipeline.stages import build
from herd.report.ledger import cost
from herd.report.run_files import open_run

pytestmark = pytest.mark.timeout(900)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from herd.cli import main; main()", *arguments]


def herd(*arguments: str, seconds: float = 600) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=seconds, check=False)


def wait_for(path: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that was killed in the middle of its first pre-training."""
    output = tmp_path_factory.mktemp("run") / "mini"
    arguments = ("run", "mini", "--set", f"output={output}")
    with subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        wait_for(output / ".partial" / "initial-tiny" / "metrics.jsonl", 300)
        refused = herd(*arguments)
        assert refused.returncode == 2
        assert f"process {first.pid} is writing this run" in refused.stderr
        os.kill(first.pid, signal.SIGKILL)
    finished = herd(*arguments)
    assert finished.returncode == 0, finished.stderr
    assert "herd chat" in finished.stdout
    return output


def test_every_stage_is_finished_and_the_top_of_the_run_holds_what_people_look_for(run: Path) -> None:
    recipe = load_recipe("mini")
    assert all((run / stage.name / "manifest.json").exists() for stage in build(recipe))
    assert (run / "chat").resolve() == (run / f"chat-{recipe.flagship}").resolve()
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "http://" not in report.replace("http://www.w3.org", "")
    models = json.loads((run / "results.json").read_text())["models"]
    for name in ("base-tiny", "chat-tiny", "base-small", "chat-small"):
        assert models[name]
        for figures in models[name].values():
            assert {"value", "low", "high", "n", "prompts", "seed"} <= set(figures)
            assert figures["value"] is None or figures["low"] <= figures["value"] <= figures["high"]


def test_what_was_spent_covers_every_stage_that_was_planned_to_compute(run: Path) -> None:
    planned = json.loads((run / "plan.json").read_text())["stages"]
    rows = {row["name"]: row for row in cost(open_run(run))["stages"]}
    computing = [name for name, plan in planned.items() if plan["flops"]]
    assert {"preferences-1-tiny", "samples-2-small", "guard", "evaluation", "dpo-1-tiny"} <= set(computing)
    for name in computing:
        assert planned[name]["flops"] / 5 < rows[name]["flops"] < 5 * planned[name]["flops"], name
    judged = ("reward-1-tiny", "dpo-1-tiny", "guard")
    stats = {name: json.loads((run / name / "stats.json").read_text()) for name in judged}
    assert all(found["flops"] > found["training"]["flops"] for found in stats.values())


def test_a_second_run_does_nothing_and_says_so_in_under_ten_seconds(run: Path) -> None:
    started = time.monotonic()
    again = herd("run", "mini", "--set", f"output={run}")
    assert "nothing to do" in again.stdout
    assert "made before" not in again.stderr
    assert time.monotonic() - started < 10


def test_a_changed_key_runs_only_what_depends_on_it(run: Path) -> None:
    again = herd("run", "mini", "--set", f"output={run}", "--set", "guard.calibration=80")
    said = [line for line in again.stderr.splitlines() if "again, since" in line]
    assert [line.split()[1] for line in said] == ["guard:", "evaluation:"]
    assert "calibration changed" in said[0]


def test_the_flagship_leads_back_to_the_pages(run: Path) -> None:
    told = herd("lineage", str(run / "chat"))
    assert told.returncode == 0
    assert "chat-small" in told.stdout
    assert "pages" in told.stdout
    assert "STALE" not in told.stdout


def test_the_chat_answers_in_a_terminal(run: Path) -> None:
    talk = subprocess.run(
        command("chat", str(run / "chat")), input="Hello\n", capture_output=True, text=True, timeout=120, check=False
    )
    assert talk.returncode == 0, talk.stderr
    assert "guard on" in talk.stdout
