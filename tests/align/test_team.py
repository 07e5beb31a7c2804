"""Finetuning, reward model and preference optimisation on several processes against one.

The trainings are those of ``team_run.py``.  Sums are taken in another order, so figures and weights agree to a relative
2e-5, as in ``tests/train/parallel/test_proofs.py``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from herd.align.examples import DialogueSource, Example
from herd.align.fit import gather_team
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, read_jsonl, write_jsonl
from herd.model.config import ModelConfig
from herd.train.parallel.launch import Alone
from herd.train.processes import OneProcess

from .conftest import answer, question
from .test_reward import rows as comparisons

HERE = Path(__file__).parent
TOLERANCE = 2e-5


def run_teams(base: Path, place: Path, teams: list[tuple[int, int]]) -> Path:
    """What the stages made on teams of processes and copies of the weights."""
    words = ["Hello!", "Goodbye for today.", "What is the time now?", "It is late.", "Yes.", "No, not at all."]
    dialogues = [{"messages": [*question(word * (1 + number % 3)), answer(word)]} for number, word in enumerate(words)]
    write_jsonl(place / "dialogues.jsonl", dialogues)
    write_jsonl(place / "preferences.jsonl", comparisons(9))
    (place / "out").mkdir()
    command = [sys.executable, str(HERE / "team_run.py"), str(base), str(place), str(place / "out"), json.dumps(teams)]
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True)
    return place / "out"


def assert_same(one: Path, other: Path) -> None:
    """Losses, norms and counts of every step, the figures of the stage, and the weights."""
    timed = {"seconds", "tokens_per_second", "goodput", "slowest_rank", "straggling", "eager_because"}
    for lines in zip(*(read_jsonl(place / "training" / "metrics.jsonl") for place in (one, other)), strict=True):
        first, second = ({key: value for key, value in line.items() if key not in timed} for line in lines)
        assert second == pytest.approx(first, rel=TOLERANCE, abs=TOLERANCE)
    figures = [read_json(place / "stats.json") for place in (one, other)]
    trained = [each.pop("training") for each in figures]
    assert trained[0]["targets"] == trained[1]["targets"]
    dropped = [each.pop("dropped") for each in figures]
    assert dropped[0] == dropped[1]
    assert figures[1] == pytest.approx(figures[0], rel=1e-4)
    states = [load_file(place / "model.safetensors") for place in (one, other)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        error = (states[1][name].float() - value.float()).norm() / value.float().norm()
        assert error < TOLERANCE, f"{name}: off by {error:.1e}"


def test_two_processes_train_as_one_does(base: Path, tmp_path: Path) -> None:
    out = run_teams(base, tmp_path, [(1, 1), (2, 1)])
    for stage in ("sft", "reward", "dpo"):
        assert_same(out / f"{stage}-1-1", out / f"{stage}-2-1")
    rows = np.load(out / "dpo-1-1" / "reference.npy"), np.load(out / "dpo-2-1" / "reference.npy")
    np.testing.assert_allclose(*rows, rtol=1e-5)


@pytest.mark.slow
def test_copies_of_the_weights_and_four_processes_train_as_one_does(base: Path, tmp_path: Path) -> None:
    teams = [(2, 2), (4, 1), (4, 2)]
    out = run_teams(base, tmp_path, [(1, 1), *teams])
    for count, copies in teams:
        for stage in ("sft", "reward", "dpo"):
            assert_same(out / f"{stage}-1-1", out / f"{stage}-{count}-{copies}")


class _Third(OneProcess):
    data_index, data_parts = 2, 3


def test_every_item_goes_to_one_process_and_who_gets_none_goes_along() -> None:
    examples = [Example([number, number], [number, number]) for number in range(5)]
    whole = DialogueSource(examples, 8, 1, 0)
    assert [len(batch.lengths) for step in range(2) for batch in whole.batches(step)] == [4, 1]
    third = DialogueSource(examples, 8, 1, 0, processes=_Third())
    [batch], [alone] = third.batches(0), third.batches(1)
    assert batch.tokens_N.tolist() == whole.batches(0)[0].tokens_N.tolist()[4:6]
    assert not batch.idle
    assert alone.idle
    assert torch.equal(alone.tokens_N, whole.batches(1)[0].tokens_N)


def test_copies_that_do_not_divide_the_processes_are_refused() -> None:
    shape = ModelConfig(vocab_size=64, dim=32, layers=2, heads=2, kv_heads=1, ffn_dim=48)
    with pytest.raises(HerdError, match="dp 1 is not divisible by replicas 2"):
        gather_team(Alone(), 2, shape)
