"""Trainings of alignment on forked gloo processes, for the tests: ``python team_run.py BASE DATA OUT '[[2, 1], ...]'``.

Each pair is a number of processes and of copies of the weights; ``OUT/STAGE-PROCESSES-COPIES`` is what the stage made.
"""

import json
import sys
from pathlib import Path

import torch

from herd.align.dpo import DpoConfig, dpo
from herd.align.reward import RewardConfig, reward
from herd.align.sft import SftConfig, sft
from herd.foundation.progress import Progress
from herd.train.parallel.launch import Alone
from herd.train.schedule import OptimizerConfig
from tests.train.parallel.gloo import launched_ranks

# With a small eps Adam's first steps are the signs of gradients, and those of the smallest are rounding.
OPTIMIZER = OptimizerConfig(learning_rate=1e-2, clip=0.5, eps=1e-2)
SMALL = {"epochs": 2, "optimizer": OPTIMIZER, "compile": "off", "precision": "fp32"}


def stages(base: Path, data: Path, out: Path, launch: Alone, copies: int) -> None:
    """All three, one after another, as a process of the launch."""
    dialogues, preferences = [data / "dialogues.jsonl"], [data / "preferences.jsonl"]
    places = {}
    for stage in ("sft", "reward", "dpo"):
        places[stage] = out / f"{stage}-{launch.count}-{copies}"
        places[stage].mkdir(exist_ok=True)
    silent, together = Progress.silent(), (launch, copies)
    sft(SftConfig(tokens_per_step=120, **SMALL), base, dialogues, places["sft"], silent, *together)
    config = RewardConfig(tokens_per_step=120, held_out=0.4, **SMALL)
    reward(config, base, preferences, places["reward"], silent, *together)
    dpo(DpoConfig(tokens_per_step=120, **SMALL), base, preferences, places["dpo"], silent, *together)


def main(base: Path, data: Path, out: Path, teams: list[tuple[int, int]]) -> None:
    """The stages on every team."""
    for count, copies in teams:
        launched_ranks(count, lambda launch, copies=copies: stages(base, data, out, launch, copies))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*(Path(word) for word in sys.argv[1:4]), json.loads(sys.argv[4]))
