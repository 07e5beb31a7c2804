"""Runs on several processes that are killed, hang, are stopped or lose their disk, and go on on others."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from herd.foundation.files import digest_value, read_json, read_jsonl

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
STEPS = 12
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def launch(place: Path, *plan: dict[str, Any]) -> list[dict[str, Any]]:
    """What became of the launches of ``faulty_run``."""
    command = [sys.executable, str(HERE / "faulty_run.py"), str(place), json.dumps(plan)]
    subprocess.run(command, env=ENVIRONMENT, check=True)
    return read_json(place / "results.json")


def losses(out: Path) -> list[float]:
    lines = list(read_jsonl(out / "metrics.jsonl"))
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    return [line["loss"] for line in lines]


def rows(out: Path, number: int) -> dict[int, list[str]]:
    """Digests of the rows of every step that all processes of a launch reached."""
    steps: dict[int, list[list[str]]] = {}
    files = sorted(out.glob(f"rows-{number}-*.txt"))
    for file in files:
        for line in file.read_text().splitlines():
            step, *digests = line.split()
            steps.setdefault(int(step), []).append(digests)
    return {step: list(chain.from_iterable(each)) for step, each in steps.items() if len(each) == len(files)}


def same_end(one: Path, other: Path, tolerance: float = 0.0) -> None:
    """Weights and averaged weights of two runs, and the losses of all their steps."""
    assert losses(one) == pytest.approx(losses(other), rel=tolerance, abs=0)
    states = load_file(one / "final.safetensors"), load_file(other / "final.safetensors")
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=0, atol=tolerance)


def test_killed_on_two_processes_and_resumed_on_two_and_on_one(tmp_path: Path) -> None:
    kill = random.Random(os.urandom(8)).randrange(1, STEPS)
    results = launch(
        tmp_path,
        {"ranks": 1, "out": "alone"},
        {"ranks": 2, "out": "same", "kill_at": kill},
        {"ranks": 2, "out": "same"},
        {"ranks": 2, "out": "other", "kill_at": 7},
        {"ranks": 1, "out": "other"},
        {"ranks": 2, "out": "whole"},
    )
    assert results[1]["statuses"] == [-signal.SIGKILL] * 2
    assert results[2]["statuses"] == [0, 0]
    same_end(tmp_path / "whole", tmp_path / "same")
    same_end(tmp_path / "alone", tmp_path / "other", 1e-5)
    seen = [rows(tmp_path / out, number) for number, out in enumerate(("alone", "same", "same", "other", "other"))]
    assert seen[0].keys() == set(range(STEPS))
    assert len({digest_value(digests) for digests in seen[0].values()}) == STEPS
    for later in seen[1:]:
        assert later.items() <= seen[0].items()
    assert seen[1].keys() | seen[2].keys() == seen[3].keys() | seen[4].keys() == set(range(STEPS))


@pytest.mark.slow
def test_killed_again_and_again_on_four_processes_and_resumed_on_one_two_and_four(tmp_path: Path) -> None:
    chance = random.Random(os.urandom(8))
    first, second = sorted(chance.sample(range(1, STEPS), 2))
    plan = [{"ranks": 4, "out": "whole"}, {"ranks": 1, "out": "alone"}]
    for ranks in (4, 2, 1):
        plan += [{"ranks": 4, "out": str(ranks), "kill_at": first}, {"ranks": ranks, "out": str(ranks)}]
    plan[3:3] = [{"ranks": 4, "out": "4", "kill_at": second}]
    launch(tmp_path, *plan)
    same_end(tmp_path / "whole", tmp_path / "4")
    for ranks in (2, 1):
        same_end(tmp_path / "whole", tmp_path / str(ranks), 1e-5)
    stream = rows(tmp_path / "alone", 1)
    for number, fault in enumerate(plan):
        assert rows(tmp_path / str(fault["out"]), number).items() <= stream.items()


@pytest.mark.slow
def test_a_pipeline_that_was_killed_goes_on_as_a_pipeline_and_as_one_process(tmp_path: Path) -> None:
    mesh = {"ranks": 2, "mesh": {"pp": 2}}
    launch(
        tmp_path,
        {"out": "whole", **mesh},
        {"out": "same", "kill_at": 7, **mesh},
        {"out": "same", **mesh},
        {"out": "other", "kill_at": 7, **mesh},
        {"out": "other", "ranks": 1},
    )
    same_end(tmp_path / "whole", tmp_path / "same")
    same_end(tmp_path / "whole", tmp_path / "other", 1e-5)


@pytest.mark.slow
def test_a_sentence_names_the_process_that_died_or_hangs_and_a_stopped_run_is_saved(tmp_path: Path) -> None:
    died, hung, stopped, full = launch(
        tmp_path,
        {"ranks": 4, "out": "died", "kill_at": 4, "rank": 1},
        {"ranks": 2, "out": "hung", "hang_at": 4, "rank": 1, "patience": 3},
        {"ranks": 2, "out": "stopped", "stop_at": 4, "rank": 1},
        {"ranks": 2, "out": "full", "limit_at": 4, "rank": 1},
    )
    assert died["statuses"][1] == -signal.SIGKILL
    # Rank 0 keeps the store here, where no torchrun does: the others may only see that it has left.
    assert [died["statuses"][rank] for rank in (0, 2, 3)] == [1, 1, 1]
    assert "rank 1 gives no sign of life, its last collective was " in died["words"][0]
    assert hung["statuses"] == [1]
    assert "rank 1 lives but has kept the others waiting for" in hung["words"][0]
    assert "after the exchange of figures; rank 0 was in the passes of step 4" in hung["words"][0]
    assert stopped["statuses"] == [143, 143]
    assert "stopped by SIGTERM and saved after step 5" in stopped["words"][0]
    assert (tmp_path / "stopped" / "checkpoints" / "00000005" / "checkpoint.json").exists()
    assert full["statuses"] == [2, 2]
    assert "00000006: the checkpoint could not be written (process 1: " in full["words"][0]
    assert [path.name for path in (tmp_path / "full" / "checkpoints").glob("0*")] == ["00000003"]


@pytest.mark.slow
def test_a_loss_that_is_no_number_on_one_process_leaves_the_step_out_on_all(tmp_path: Path) -> None:
    [poisoned, bound] = launch(
        tmp_path,
        {"ranks": 2, "out": "poisoned", "poison_at": 4, "rank": 1},
        {"ranks": 2, "out": "bound", "poison_at": 4, "rank": 1, "max_skipped": 0},
    )
    assert poisoned["statuses"] == [0, 0]
    lines = list(read_jsonl(tmp_path / "poisoned" / "metrics.jsonl"))
    assert [line["skipped"] for line in lines] == [0] * 4 + [1] * (STEPS - 4)
    assert [line["loss"] is not None for line in lines] == [step != 4 for step in range(STEPS)]
    state = load_file(tmp_path / "poisoned" / "final.safetensors")
    assert all(torch.isfinite(value).all() for value in state.values())
    assert bound["statuses"] == [2, 2]
    assert "the loss or gradient of 1 steps was not finite, the last at step 4" in bound["words"][0]


def _pids_below(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for the processes in /proc")
def test_torchrun_restarts_from_the_last_checkpoint_when_a_process_is_killed(
    artifacts: tuple[Path, Path], tmp_path: Path
) -> None:
    tokens, tokenizer = artifacts
    settings = ("tokens=12800", "sequence_length=64", "compile=off", "precision=fp32", "checkpoint_steps=5")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", "1", "-m", "herd", "pretrain", str(tokens), str(tokenizer), "--shape", "0.5m"]
    command += ["--out", str(tmp_path / "base"), *(word for each in settings for word in ("--set", each))]
    run = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    checkpoints = tmp_path / ".base.partial" / "base" / "checkpoints"
    try:
        while not list(checkpoints.glob("0*/checkpoint.json")):
            assert run.poll() is None
            time.sleep(0.1)
        os.kill(_pids_below(run.pid)[-1], signal.SIGKILL)
        said = run.communicate()[0].decode()
    finally:
        run.terminate()  # torchrun ends its processes with it; nothing is left where this test fails
    assert run.returncode == 0, said
    steps = [line["step"] for line in read_jsonl(tmp_path / "base" / "metrics.jsonl")]
    assert steps == list(range(1, len(steps) + 1))
    assert read_json(tmp_path / "base" / "stats.json")["resumed_from"] >= 5
