"""What one of many accelerators would hold, send and receive in a step, printed on a machine without any.

    .venv/bin/python bench/dry_run.py --tp 8 --pp 16 --dp 128 --stages 8 --rows 16 --length 8192 --rank 37

Weights have shapes and no values, and collectives return at once (``herd.train.parallel.dry_run``): what is printed is
what the program does, not what a formula says it should do.  Bytes are those of fp32, as on a CPU.
"""

import argparse
import time

from herd.model.config import PRESETS
from herd.train.parallel.dry_run import View, dry_run
from herd.train.parallel.mesh import MeshConfig


def show(view: View) -> None:
    """Prints place, shards (those of equal layers once) and collectives."""
    print("place: " + ", ".join(f"{name} {index}" for name, index in view.place.items()))
    print(
        f"{view.parameters:,} parameters on this rank; with gradients and AdamW in fp32 "
        f"{16 * view.parameters / 2**30:.2f} GiB"
    )
    layers = sorted({int(shard.name.split(".")[1]) for shard in view.shards if shard.name.startswith("layers.")})
    print(f"layers {layers}, each like the first:" if layers else "no layers")
    for shard in view.shards:
        if not shard.name.startswith("layers.") or int(shard.name.split(".")[1]) == layers[0]:
            print(f"  {shard.name:34} {shard.whole!s:>17} here {shard.own}")
    print("collectives of one step's forward and backward passes:")
    for (kind, over), count in sorted(view.collectives.items()):
        print(f"  {kind:15} over {over:14} {count:6,} x, {view.moved[kind, over] / 2**30:9.2f} GiB in all")


def main() -> None:
    """Reads the mesh, makes the view, prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama-3.1-405b", choices=sorted(PRESETS))
    for name, default in (("tp", 8), ("cp", 1), ("pp", 16), ("dp", 128), ("replicas", 1), ("stages", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--reshard", action="store_true", help="free gathered weights between forward and backward")
    parser.add_argument("--rows", type=int, default=16, help="micro-batches of one row in a step of one rank")
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--rank", type=int, default=37)
    given = parser.parse_args()
    degrees = {name: getattr(given, name) for name in ("tp", "cp", "pp", "dp", "replicas", "stages", "reshard")}
    began = time.monotonic()
    config = MeshConfig(**degrees)
    print(f"{given.model} on {config.ranks:,} ranks: {config.describe()}; rank {given.rank}")
    show(dry_run(PRESETS[given.model], config, given.rank, given.rows, given.length))
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
