"""Herd's order of the training data beside Grain's: what a sample costs, what a resume costs, what is promised.

    PYTHONPATH=. python bench/data_order.py --samples 2000      # with ``grain`` installed; without it, Herd's alone

Three domains of drawn documents, mixed 50 : 30 : 20, in rows of 512 tokens.

- ``herd``: ``TokenStream``, where sample n is a function of (seed, n): documents shuffled anew in every epoch, packed.
- ``grain, windows``: its random access (``MapDataset``) over windows of the shards, whose documents keep their order.
- ``grain, packed``: documents shuffled and packed as Herd does it, which its iterators alone can do.

Processor time, median of ``--rounds``; ``resume`` is a new object's way to its first sample behind ``--far`` others.
"""

import argparse
import importlib.util
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from herd.foundation.files import write_json
from herd.foundation.seeds import numpy_from
from herd.train.stream import Mix, TokenStream
from herd.train.tokens import TokenShard, open_shards

LENGTH = 512
WEIGHTS = {"general": 0.5, "code": 0.3, "math": 0.2}
Sample = Callable[[int], str]
"""Reads a sample, the next one where numbers mean nothing, and names its domain."""


def make_shards(place: Path, documents: int) -> dict[str, TokenShard]:
    """Shards of documents of 600 tokens on average, as the stage ``tokenize`` writes them."""
    (place / "train").mkdir()
    write_json(place / "meta.json", {"dtype": "uint16"})
    for name in WEIGHTS:
        chance = numpy_from(1, "documents", name)
        lengths = np.maximum(chance.lognormal(6, 0.9, documents).astype(np.int64), 3)
        ids = chance.integers(0, 30_000, int(lengths.sum())).astype("<u2")
        ids.tofile(place / "train" / f"{name}.bin")
        np.save(place / "train" / f"{name}.index.npy", np.concatenate([[0], np.cumsum(lengths)]))
    return open_shards(place)


def herd(shards: dict[str, TokenShard]) -> Sample:
    """``TokenStream``."""
    stream = TokenStream(Mix(weights=WEIGHTS).sources(shards), 7, LENGTH)
    return lambda number: stream.sample(number).domain


def grain_windows(shards: dict[str, TokenShard]) -> Sample:
    """Grain's random access."""
    import grain

    class Windows:
        def __init__(self, shard: TokenShard) -> None:
            self._shard = shard

        def __len__(self) -> int:
            return (self._shard.tokens - 1) // LENGTH

        def __getitem__(self, number: int) -> tuple[str, np.ndarray]:
            start = int(number) * LENGTH
            return self._shard.name, np.array(self._shard.stretch(start, start + LENGTH + 1))

    parts = [grain.MapDataset.source(Windows(shards[name])).seed(7).shuffle().repeat() for name in WEIGHTS]
    mixed = grain.MapDataset.mix(parts, list(WEIGHTS.values()))
    return lambda number: str(mixed[number][0])


def packed_dataset(shards: dict[str, TokenShard]) -> Any:
    """Grain's iterator over packed documents, with the domain's number beside every token."""
    import grain

    class Documents:
        def __init__(self, shard: TokenShard, domain: int) -> None:
            self._shard, self._domain = shard, domain

        def __len__(self) -> int:
            return len(self._shard)

        def __getitem__(self, number: int) -> dict[str, np.ndarray]:
            return {"tokens": np.array(self._shard.document(int(number))), "domain": np.array([self._domain])}

    def packed(number: int, name: str) -> Any:
        documents = grain.MapDataset.source(Documents(shards[name], number)).seed(7).shuffle().repeat()
        # Threads that read ahead would only cost processor time where everything is in memory.
        inline = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        return grain.experimental.ConcatThenSplitIterDataset(
            documents.to_iter_dataset(inline),
            length_struct={"tokens": LENGTH + 1, "domain": 64},
            meta_features=("domain",),
        )

    parts = [packed(number, name) for number, name in enumerate(WEIGHTS)]
    return grain.IterDataset.mix(parts, list(WEIGHTS.values()))


def grain_packed(shards: dict[str, TokenShard]) -> Sample:
    """The packed samples, one after another."""
    iterator, names = iter(packed_dataset(shards)), list(WEIGHTS)
    return lambda _: names[int(next(iterator)["domain"][0])]


def seconds(work: Callable[[], Any]) -> float:
    """Processor time of a call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    """Prints the comparison as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=20_000, help="of each domain")
    parser.add_argument("--far", type=int, default=100_000)
    options = parser.parse_args()
    kinds: dict[str, Callable[[dict[str, TokenShard]], Sample]] = {"herd": herd}
    if importlib.util.find_spec("grain") is not None:
        kinds |= {"grain, windows": grain_windows, "grain, packed": grain_packed}
    with tempfile.TemporaryDirectory() as place:
        shards = make_shards(Path(place), options.documents)
        found = {name: measure(kind, shards, options) for name, kind in kinds.items()}
        if "grain, packed" in found:
            found["grain, packed"] |= resume_packed(shards, options.far)
    print(json.dumps(found, indent=2))


def measure(kind: Callable[..., Sample], shards: dict[str, TokenShard], options: argparse.Namespace) -> dict[str, Any]:
    """Cost of a sample, of a resume by number, and the domains of the first 1,000 samples."""
    sample = kind(shards)
    domains = Counter(sample(number) for number in range(1000))
    starts = [1000 + turn * options.samples for turn in range(options.rounds)]
    turns = [seconds(lambda: [sample(n) for n in range(start, start + options.samples)]) for start in starts]  # noqa: B023
    row: dict[str, Any] = {
        "us_a_sample": round(1e6 * statistics.median(turns) / options.samples, 1),
        "first_1000": dict(sorted(domains.items())),
    }
    if kind is not grain_packed:
        row["resume_ms"] = round(1e3 * seconds(lambda: kind(shards)(options.far)), 1)
    return row


def resume_packed(shards: dict[str, TokenShard], far: int) -> dict[str, Any]:
    """What an iterator's state weighs, and what it costs to take it up again."""
    iterator = iter(packed_dataset(shards))
    for _ in range(min(far, 5000)):
        next(iterator)
    state = iterator.get_state()

    def take_up() -> None:
        again = iter(packed_dataset(shards))
        again.set_state(state)
        next(again)

    return {"state_bytes": len(json.dumps(state, default=str)), "resume_ms": round(1e3 * seconds(take_up), 1)}


if __name__ == "__main__":
    main()
