"""A small run in a process of its own, which the tests of the loop kill: ``python killed_run.py OUT STEP``.

At ``STEP`` the process ends itself with SIGKILL in the middle of making a batch, as an operating system out of memory
would; a step beyond the run's last lets it finish.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from herd.foundation.progress import Progress
from herd.foundation.seeds import numpy_from
from herd.model.config import ModelConfig
from herd.model.transformer import Transformer
from herd.train.average import AverageConfig
from herd.train.batch import Batch, document_batch, next_token_loss
from herd.train.loop import TrainConfig, TrainReport, train
from herd.train.schedule import OptimizerConfig

SHAPE = ModelConfig(vocab_size=64, dim=32, layers=2, heads=2, kv_heads=1, ffn_dim=48, tied=True)
STEPS = 14


class Documents:
    """Repeated random strings of unequal lengths, two micro-batches a step; dies at ``fatal_step``."""

    def __init__(self, fatal_step: int) -> None:
        self._fatal_step = fatal_step

    def batches(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""
        if step == self._fatal_step:
            os.kill(os.getpid(), signal.SIGKILL)
        chance = numpy_from(1, "documents", step)
        return [
            document_batch([chance.integers(0, 64, chance.integers(2, 20)).tolist() * 2 for _ in range(3)])
            for _ in range(2)
        ]


def run(out: Path, fatal_step: int, compile_layers: bool = False) -> tuple[Transformer, TrainReport]:
    """Starts the run or goes on with it."""
    torch.set_num_threads(1)
    model = Transformer(SHAPE)
    model.init_weights(2)
    config = TrainConfig(
        steps=STEPS,
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=3),
        average=AverageConfig(last=4, every=2),
        checkpoint_steps=3,
        compile="on" if compile_layers else "off",
        tensorboard=False,
    )
    return model, train(config, model, Documents(fatal_step), next_token_loss, out, Progress.silent())


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), "compile" in sys.argv[3:])
