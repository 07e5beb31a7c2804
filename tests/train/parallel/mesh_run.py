"""Short runs on meshes of gloo processes, for the tests: ``python mesh_run.py OUT '[{"tp": 2}, ...]'``.

Every run starts from the same weights, of which each process makes its own parts, and sees the same packed documents.
``OUT/NUMBER.safetensors`` receives a run's losses, norms, gradients of every step, first and final weights.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from gloo import on_ranks
from safetensors.torch import save_file
from torch import Tensor

from herd.formats.huggingface import save_model
from herd.foundation.seeds import numpy_from
from herd.model.config import ModelConfig
from herd.train.batch import document_batch
from herd.train.beginning import Beginning, Fresh, Stored
from herd.train.compiled import CompileMode
from herd.train.loop import TrainConfig, TrainRun
from herd.train.parallel.mesh import Mesh, MeshConfig, check_mesh
from herd.train.parallel.pipeline import processes_of
from herd.train.pretrain import PretrainSource
from herd.train.processes import OneProcess
from herd.train.schedule import BatchRamp, OptimizerConfig, RampStep
from herd.train.stream import Sample

LENGTH = 32
RAMP = BatchRamp(ramp=(RampStep(step=0, rows=4), RampStep(step=2, rows=8)))
STEPS = 4


class PackedRows:
    """Rows of documents of 1 to 40 tokens, which begin and end anywhere: chunks of any size cut through them."""

    sequence_length = LENGTH

    def sample(self, number: int) -> Sample:
        """A row and the target of its last token."""
        chance = numpy_from(11, "rows", number)
        lengths: list[int] = []
        while sum(lengths) < LENGTH + 1:
            lengths.append(min(int(chance.integers(1, 40)), LENGTH + 1 - sum(lengths)))
        return Sample(chance.integers(0, 64, LENGTH + 1).astype(np.uint16), lengths, "random")


def shape(tied: bool, layers: int) -> ModelConfig:
    """Four heads to two key-value heads."""
    return ModelConfig(vocab_size=64, dim=32, layers=layers, heads=4, kv_heads=2, ffn_dim=48, tied=tied)


def train_run(
    beginning: Beginning, mesh: MeshConfig, micro_rows: int, compile_mode: CompileMode, out: Path
) -> dict[str, Tensor]:
    """What a run of ``STEPS`` steps gave, in whole tensors; its micro-batches have ``micro_rows`` or fewer."""
    check_mesh(mesh, dist.get_world_size() if dist.is_initialized() else 1, beginning.shape, LENGTH, RAMP)
    processes = processes_of(Mesh(mesh, "cpu")) if mesh.ranks > 1 else OneProcess()
    spread = processes.begin(beginning, torch.device("cpu"))
    config = TrainConfig(
        steps=STEPS,
        batch=RAMP,
        # With a small eps Adam's first steps are the signs of gradients, and those of the smallest are rounding.
        optimizer=OptimizerConfig(learning_rate=1e-2, clip=0.5, eps=1e-2),
        compile=compile_mode,
        precision="fp32",
        tensorboard=False,
    )
    source = PretrainSource(PackedRows(), RAMP, micro_rows * LENGTH, processes.data_index, processes.data_parts)  # type: ignore[arg-type]
    run = TrainRun(config, spread, source, processes.next_token_loss, out, processes)
    assert compile_mode == "off" or run.eager_because is None, run.eager_because
    seen = {f"start/{name}": value.clone() for name, value in processes.each_weight(spread)}

    def keep_gradients(*_: object) -> None:
        gradients = {name: p.grad for name, p in spread.named_parameters() if p.grad is not None}
        whole = processes.each_weight(spread, gradients)
        seen.update({f"{step}/{name}": value.clone() for name, value in whole})

    run.optimizer.register_step_pre_hook(keep_gradients)
    figures = []
    for step in range(STEPS):
        with run.speed:
            taken = run.take_step(step)
        figures.append([taken.loss, taken.grad_norm, taken.targets, taken.tokens, taken.flops])
    run.log.close()
    seen["held out"] = torch.tensor(list(run.evaluate(partial(held_out, processes)).values()))
    seen["figures"] = torch.tensor(figures, dtype=torch.float64)
    seen |= {f"weights/{name}": value.clone() for name, value in processes.each_weight(spread)}
    return seen


def held_out(processes: OneProcess, model: Any) -> dict[str, float]:
    """The loss of documents whose number of tokens nothing divides."""
    parts = processes.next_token_loss(model, document_batch([range(20), range(30, 41)]))
    sums = processes.sum_losses({"loss": float(parts.total_sum), "weight": parts.weight})
    return {"held out": sums["loss"] / sums["weight"]}


def keep_run(train: Callable[[Path], dict[str, Tensor]], path: Path, rank: int) -> None:
    """One rank's part of a run; the first one keeps what it gave."""
    with tempfile.TemporaryDirectory() as place:
        seen = train(Path(place))
    if rank == 0:
        save_file({name: value.contiguous() for name, value in seen.items()}, path)


def main(out: Path, runs: list[dict[str, Any]]) -> None:
    """Makes the runs.

    Of the keys, ``tied`` and ``layers`` are the network's, ``micro_rows`` the micro-batches', ``compile`` the loop's;
    with ``stored``, the network is read from a directory.
    """
    torch.set_num_threads(1)
    for number, keys in enumerate(runs):
        network = shape(keys.pop("tied", False), keys.pop("layers", 4))
        beginning: Beginning = Fresh(network, 3, induction=False)
        if keys.pop("stored", False):
            save_model(beginning.whole(), None, out / f"stored-{number}")
            beginning = Stored(out / f"stored-{number}", LENGTH)
        micro_rows, compile_mode = keys.pop("micro_rows", 2), keys.pop("compile", "off")
        mesh = MeshConfig(**keys)
        train = partial(train_run, beginning, mesh, micro_rows, compile_mode)
        on_ranks(mesh.ranks, partial(keep_run, train, out / f"{number}.safetensors"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
