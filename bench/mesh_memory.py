"""What the first weights of a large network cost one of many processes, measured on a machine with one.

    .venv/bin/python bench/mesh_memory.py --model llama-3.1-8b --tp 2 --pp 4 --dp 8 --rank 21

The process takes one rank's place among processes that do not exist, as ``bench/dry_run.py`` does, but its weights are
real: it cuts a network without values, draws its own parts, and prints what it then holds and how much its resident
memory rose at most on the way (Linux counts that).  Drawing needs no other process.
"""

import argparse
import time
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from herd.model.config import PRESETS, pocket_config
from herd.train.beginning import Fresh
from herd.train.parallel.dry_run import place_among
from herd.train.parallel.mesh import Mesh, MeshConfig
from herd.train.parallel.pipeline import processes_of

_MIB = 2**20


def resident(kind: str) -> int:
    """Bytes of this process in memory: ``VmRSS`` now, ``VmHWM`` at most since the last ``forget_peak``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{kind}:"))


def forget_peak() -> None:
    """From here on the peak counts anew."""
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Takes a rank's place, makes its weights and prints what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama-3.1-8b", help="a released model's name, or a pocket size")
    for name, default in (("tp", 2), ("cp", 1), ("pp", 4), ("dp", 8), ("replicas", 1), ("stages", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rank", type=int, default=21)
    given = parser.parse_args()
    config = MeshConfig(**{name: getattr(given, name) for name in ("tp", "cp", "pp", "dp", "replicas", "stages")})
    shape = PRESETS.get(given.model) or pocket_config(given.model, 4096)
    with place_among(config.ranks, given.rank):
        processes = processes_of(Mesh(config, "cpu"))
        before, began = resident("VmRSS"), time.monotonic()
        forget_peak()
        model = processes.begin(Fresh(shape, 7), torch.device("cpu"))
        seconds, peak = time.monotonic() - began, resident("VmHWM") - before
        own = sum(
            (weight.to_local() if isinstance(weight, DTensor) else weight.detach()).nbytes
            for weight in model.parameters()
        )
        print(f"{given.model} on {config.ranks:,} ranks, {config.describe()}; rank {given.rank}, fp32")
        print(f"whole network {4 * shape.parameters / _MIB:,.0f} MiB, this rank's part {own / _MIB:,.0f} MiB")
        print(f"resident memory rose by {peak / _MIB:,.0f} MiB at most; {seconds:.0f} s")


if __name__ == "__main__":
    main()
