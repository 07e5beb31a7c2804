"""A new snapshot against the index of an older one: what is found of planted copies, speed, and memory by size.

Run: ``OMP_NUM_THREADS=1 python bench/corpus/snapshots.py --old 12500,50000,200000 --new 12500``.  Signatures are
drawn; half of the new documents are copies of old ones at similarity .9.  Every size runs in a process of its own, with
as many partitions as it is larger than the first, so that a partition stays alike.  Memory is what the process holds
(sampled; in all, its own, pages of files) above what it held before.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from memory import Held

from herd.corpus.dedup import DedupConfig
from herd.corpus.engine import LocalEngine
from herd.corpus.index import IndexWriter
from herd.corpus.lines import LineCounts, LinesConfig
from herd.corpus.signatures import Signatures
from herd.corpus.snapshots import Past

_SLICE = 12_500
_SIMILARITY = 0.9


def draw(number: int, config: DedupConfig) -> Signatures:
    """One slice of an old snapshot."""
    return np.random.default_rng([7, number]).integers(0, 1 << 32, (_SLICE, config.permutations), dtype=np.uint32)


def write_old(corpus: Path, documents: int, config: DedupConfig) -> None:
    """An index of so many drawn documents, a slice in memory at a time."""
    table = np.lib.format.open_memmap(
        corpus / "all.npy", mode="w+", dtype="<u4", shape=(documents, config.permutations)
    )
    for number in range(documents // _SLICE):
        table[number * _SLICE : (number + 1) * _SLICE] = draw(number, config)
    table.flush()
    writer = IndexWriter(corpus, config)
    writer.addresses([])
    writer.superseded([])
    ids = [f"{row:032x}" for row in range(documents)]
    writer.documents(ids, ids, np.arange(documents), corpus / "all.npy")
    writer.lines(LineCounts(LinesConfig(), 0, corpus / "lines"))
    writer.close()
    (corpus / "all.npy").unlink()


def draw_new(path: Path, old: int, new: int, config: DedupConfig) -> np.ndarray:
    """Writes the new signatures; returns the old row that each is a copy of, -1 where it is none."""
    chance = np.random.default_rng(8)
    signatures = chance.integers(0, 1 << 32, (new, config.permutations), dtype=np.uint32)
    origin = np.where(np.arange(new) % 2 == 0, chance.integers(0, old, new), -1)
    for number in np.unique(origin[origin >= 0] // _SLICE).tolist():
        rows = np.flatnonzero((origin >= 0) & (origin // _SLICE == number))
        same = chance.random((len(rows), config.permutations)) < _SIMILARITY
        signatures[rows] = np.where(same, draw(number, config)[origin[rows] - number * _SLICE], signatures[rows])
    np.save(path, signatures)
    return origin


def run(old: int, new: int, partitions: int) -> None:
    """One comparison, and what it found, took and held."""
    config = DedupConfig(partitions=partitions)
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        write_old(work, old, config)
        origin = draw_new(work / "new.npy", old, new, config)
        past = Past.open([work], config)
        started = time.process_time()
        with Held() as held:
            _, known = past.families(work / "new.npy", config, np.arange(new), LocalEngine(1))
        seconds = time.process_time() - started
        right = sum(int(found.id, 16) == origin[row] for row, found in known.items())
        copies, each = int((origin >= 0).sum()), 1e6 * seconds / (old + new)
        print(f"{old:,} old, {new:,} new, {partitions} partitions: {right:,} of {copies:,} copies found", end=", ")
        print(f"{len(known) - right} others; {seconds:.1f} processor seconds, {each:.1f} µs a document", end="; ")
        print("MiB above what it held:", {kind: f"{most - held.before[kind]:.0f}" for kind, most in held.peak.items()})


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", default="12500", help=f"sizes, multiples of {_SLICE:,}; the first in one partition")
    parser.add_argument("--new", type=int, default=12_500)
    parser.add_argument("--partitions", type=int, default=0, help="used for the sizes' own processes")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.old.split(",")]
    if arguments.partitions:
        run(sizes[0], arguments.new, arguments.partitions)
        return
    for size in sizes:
        line = ["--old", str(size), "--new", str(arguments.new), "--partitions", str(size // sizes[0])]
        subprocess.run([sys.executable, __file__, *line], check=True)


if __name__ == "__main__":
    main()
