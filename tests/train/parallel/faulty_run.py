"""Small runs on forked processes that are killed, hang or lose their disk, for the tests and ``bench/soak.py``.

    python faulty_run.py PLACE '[{"ranks": 4, "out": "a", "kill_at": 7}, {"ranks": 2, "out": "a"}]'

Launches one after another, each on ``ranks`` processes in the run's directory ``PLACE/out``, as data parallel ones or
as those of a ``mesh``.  What goes wrong, where:

- ``kill_at``: every process ends itself with SIGKILL before it makes the batch of that step; with ``rank``, only that
  one does.  ``kill_past``: all are killed ``pause`` seconds after that step has begun, wherever they are then.
- ``hang_at``: process ``rank`` sleeps there for ever.  ``limit_at``: from there on it cannot write files of 1 kB.
- ``stop_at``: process ``rank`` gets SIGTERM there.  ``poison_at``: there its loss is no number.

``PLACE/results.json`` holds each launch's exit statuses and what every process said at its end; launches that it holds
already are not repeated.  Beside
``metrics.jsonl``, a run's directory gets ``rows-LAUNCH-RANK.txt``, digests of the rows of every step, and at its end
``final.safetensors``.
"""

import json
import math
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import torch
from mesh_run import LENGTH, RAMP, PackedRows
from safetensors.torch import save_file

from herd.foundation.errors import HerdError, Interrupted
from herd.foundation.files import digest_value, read_json, write_json
from herd.foundation.progress import Progress
from herd.model.config import ModelConfig
from herd.model.transformer import Transformer
from herd.train.average import AverageConfig
from herd.train.batch import Batch, LossFunction, LossParts
from herd.train.loop import TrainConfig, train
from herd.train.parallel.launch import Alone, launched
from herd.train.parallel.mesh import Mesh, MeshConfig
from herd.train.parallel.pipeline import processes_of
from herd.train.pretrain import PretrainSource
from herd.train.processes import OneProcess
from herd.train.schedule import OptimizerConfig

SHAPE = ModelConfig(vocab_size=64, dim=32, layers=2, heads=4, kv_heads=2, ffn_dim=48, tied=True)
STEPS = 12
Fault = dict[str, Any]


class FaultySource(PretrainSource):
    """Notes the rows of every step, and lets happen what is to happen there."""

    def __init__(self, processes: OneProcess, rank: int, fault: Fault, notes: Path) -> None:
        super().__init__(PackedRows(), RAMP, 2 * LENGTH, processes.data_index, processes.data_parts)  # type: ignore[arg-type]
        self._fault = fault if fault.get("rank", rank) == rank else {}
        self._notes = notes
        self.poisoned = False

    def poison(self, loss: LossFunction) -> LossFunction:
        """The loss, without a number where it is poisoned."""

        def poisoned(model: Any, batch: Batch) -> LossParts:
            parts = loss(model, batch)
            return LossParts(parts.total_sum * math.nan, parts.weight) if self.poisoned else parts

        return poisoned

    def batches(self, step: int) -> list[Batch]:
        """The step's batches, if the process lives that long."""
        if step == self._fault.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        if step == self._fault.get("hang_at"):
            time.sleep(3600)
        if step == self._fault.get("limit_at"):
            while not list(self._notes.parent.glob("checkpoints/*/checkpoint.json")):  # it may still be written
                time.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        if step == self._fault.get("stop_at"):
            os.kill(os.getpid(), signal.SIGTERM)
        self.poisoned = step == self._fault.get("poison_at")
        batches = super().batches(step)
        rows = [row for batch in batches for row in batch.tokens_N.view(-1, LENGTH).tolist()]
        if "limit_at" not in self._fault:
            with self._notes.open("a") as out:
                out.write(f"{step} {' '.join(digest_value(row) for row in rows)}\n")
        return batches


def train_rank(launch: Alone, fault: Fault, out: Path, notes: Path) -> None:
    """One process's part of a run."""
    model = Transformer(SHAPE)
    model.init_weights(2)
    mesh = MeshConfig(**fault.get("mesh", {"dp": launch.count}))
    processes = processes_of(Mesh(mesh, "cpu")) if launch.count > 1 else OneProcess()
    spread = processes.spread(model)
    config = TrainConfig(
        steps=fault.get("steps", STEPS),
        batch=RAMP,
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=3),
        average=AverageConfig(last=4, every=2),
        checkpoint_steps=3,
        compile="off",
        precision="fp32",
        max_skipped=fault.get("max_skipped", 20),
        tensorboard=False,
    )
    source = FaultySource(processes, launch.rank, fault, notes)
    report = train(
        config,
        spread,
        source,
        source.poison(processes.next_token_loss),
        out,
        Progress.silent(),
        processes=processes,
        launch=launch,
    )
    weights = processes.whole_weights(spread)
    averaged = processes.whole_weights(spread, report.averaged)
    if launch.rank == 0:
        save_file(weights | {f"averaged/{name}": value for name, value in averaged.items()}, out / "final.safetensors")


def run_rank(rank: int, port: int, fault: Fault, out: Path, notes: Path) -> tuple[int, str]:
    """A process from its environment to its exit status, and its last words."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(fault["ranks"]), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        with launched(fault.get("patience", 600.0), beat=0.4) as launch:
            train_rank(launch, fault, out, notes)
    except Interrupted as interruption:
        return interruption.status, str(interruption)
    except HerdError as error:
        return 2, str(error)
    return 0, ""


def _fork(rank: int, port: int, fault: Fault, out: Path, number: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    words = out / f"words-{number}-{rank}.txt"
    sys.stderr = words.open("w")
    status = 1
    try:
        status, said = run_rank(rank, port, fault, out, out / f"rows-{number}-{rank}.txt")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        sys.stderr.write(said)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


def _wait_for_step(step: int, notes: Path, pid: int) -> None:
    """Until process 0 has made the batch of ``step``, or has ended."""
    while not (notes.exists() and any(int(line.split()[0]) >= step for line in notes.read_text().splitlines()[-2:-1])):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.01)


def launch_all(fault: Fault, place: Path, number: int) -> dict[str, Any]:
    """One launch; returns exit statuses (a signal's number is negative) and last words by rank."""
    out = place / fault["out"]
    out.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    pids = [_fork(rank, port, fault, out, number) for rank in range(fault["ranks"])]
    if "kill_past" in fault:
        _wait_for_step(fault["kill_past"], out / f"rows-{number}-0.txt", pids[0])
        time.sleep(fault["pause"])
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    statuses = []
    for pid in pids:
        if fault.get("hang_at") is not None and pid == pids[fault["rank"]]:
            continue
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    if fault.get("hang_at") is not None:
        os.kill(pids[fault["rank"]], signal.SIGKILL)
        os.waitpid(pids[fault["rank"]], 0)
    words = [(out / f"words-{number}-{rank}.txt").read_text() for rank in range(fault["ranks"])]
    return {"statuses": statuses, "words": words, "seconds": time.monotonic() - began}


def main(place: Path, plan: list[Fault]) -> None:
    """The launches that are left of the plan."""
    results = read_json(place / "results.json") if (place / "results.json").exists() else []
    for number in range(len(results), len(plan)):
        results.append(launch_all(plan[number], place, number))
        write_json(place / "results.json", results)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
