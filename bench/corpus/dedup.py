"""Near-duplicates at scale: recall against the theory of bands and rows, speed beside other libraries, memory by size.

Run: ``python bench/corpus/dedup.py --documents 200000``.  ``--peers 2000`` instead takes as many documents through the
libraries that are installed; ``--memory 12500,50000,200000`` runs each size in a process of its own, with as many
partitions as keep one equally large, and prints the peaks.

Documents are drawn (words by Zipf's law, 2,000 characters on average), and every fifth is a copy of the one before it
in which a share of the words is replaced.  Drawing is not timed, everything from text to families is (processor time).
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from memory import Held
from numpy.typing import NDArray
from scipy.stats import binomtest

from herd.corpus.dedup import DedupConfig, families, sign
from herd.corpus.signatures import StoredSignatures
from herd.corpus.words import hash_ngrams, hash_words, split_words

CONFIG = DedupConfig(shingle_words=5, bands=14, rows=8)
SHARD, PLANTED_EVERY, WORDS = 2_500, 5, 268
EDITS = (0.002, 0.01, 0.02, 0.03, 0.04, 0.05)
BINS = (0.3, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.01)


def vocabulary(size: int = 100_000) -> list[str]:
    """Words of 2 to 11 letters."""
    chance = np.random.default_rng(0)
    letters = chance.integers(97, 123, (size, 11), dtype=np.uint8)
    return [bytes(row[:n]).decode() for row, n in zip(letters, chance.integers(2, 12, size), strict=True)]


def draw(shards: int) -> Iterator[tuple[list[str], NDArray[np.float64]]]:
    """Shards of texts, with the similarity of every fifth document to the one before it."""
    words = vocabulary()
    weights = np.cumsum(1.0 / (np.arange(len(words)) + 10.0))
    for shard in range(shards):
        chance = np.random.default_rng(shard + 1)
        lengths = np.maximum(chance.lognormal(np.log(WORDS) - 0.125, 0.5, SHARD).astype(int), 20)
        drawn = np.searchsorted(weights, chance.random(int(lengths.sum())) * weights[-1])
        documents = np.split(drawn, np.cumsum(lengths)[:-1])
        similarities = np.zeros(SHARD)
        for row in range(1, SHARD, PLANTED_EVERY):
            copy = documents[row - 1].copy()
            changed = chance.random(len(copy)) < chance.choice(EDITS)
            copy[changed] = chance.integers(0, len(words), int(changed.sum()))
            similarities[row] = similarity(documents[row - 1], copy)
            documents[row] = copy
        yield [" ".join([words[n] for n in document.tolist()]) for document in documents], similarities


def similarity(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Jaccard similarity of two lists of words, by shingles."""
    a, b = (set(hash_ngrams(words.astype(np.uint64), CONFIG.shingle_words).tolist()) for words in (one, other))
    return len(a & b) / len(a | b)


def expected(similarities: NDArray[np.float64], draws: int = 400) -> float:
    """The share of pairs that MinHash must find: a whole band agrees, and a share of ``similarity`` of all."""
    chance = np.random.default_rng(9)
    agree = chance.random((draws, CONFIG.permutations)) < chance.choice(similarities, (draws, 1))
    banded = agree.reshape(draws, CONFIG.bands, CONFIG.rows).all(axis=2).any(axis=1)
    return float((banded & (agree.mean(axis=1) >= CONFIG.similarity)).mean())


def run(documents: int, partitions: int) -> None:
    """Signs and joins; prints speed, recall by similarity, and precision."""
    config = CONFIG.model_copy(update={"partitions": partitions})
    seconds = {"sign": 0.0, "families": 0.0}
    characters, parts = 0, []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "signatures.npy"
        with path.open("wb") as file:
            header = {"descr": "<u4", "fortran_order": False, "shape": (documents, config.permutations)}
            np.lib.format.write_array_header_1_0(file, header)
            for texts, similarities in draw(documents // SHARD):
                started = time.process_time()
                sign([hash_words(split_words(text)) for text in texts], config).tofile(file)
                seconds["sign"] += time.process_time() - started
                characters += sum(map(len, texts))
                parts.append(similarities)
        started = time.process_time()
        family = families(StoredSignatures(path), config, work=path.parent)
        seconds["families"] = time.process_time() - started
    total = sum(seconds.values())
    print(f"{documents:,} documents of {characters / documents:,.0f} characters, {partitions} partitions: "
          f"{documents / total:,.0f} documents and {characters / 1e6 / total:.1f} MB a processor second "
          f"(text to signatures {seconds['sign']:.1f} s, families {seconds['families']:.1f} s)")  # fmt: skip
    judge(family, np.concatenate(parts))


def judge(family: NDArray[np.int64], similarities: NDArray[np.float64]) -> None:
    """Compares families with the planted pairs; who is together with another document is wrong."""
    rows = np.flatnonzero(similarities)
    together = family[rows] == family[rows - 1]
    for low, high in itertools.pairwise(BINS):
        here = (similarities[rows] >= low) & (similarities[rows] < high)
        if not here.any():
            continue
        found, pairs = int(together[here].sum()), int(here.sum())
        interval = binomtest(found, pairs).proportion_ci(0.95, "wilson")
        theory = expected(similarities[rows][here], 20_000)
        said = f"found {found / pairs:.3f} ({interval.low:.3f}-{interval.high:.3f})"
        print(f"  similarity {low:.2f}-{min(high, 1.0):.2f}: {said}, theory {theory:.3f}, {pairs:,} pairs")
    members = np.flatnonzero(family != np.arange(len(family)))
    wrong = [row for row in members.tolist() if similarities[row] == 0 or family[row] != row - 1]
    print(f"  joined: {len(members):,}, of them never planted: {len(wrong)}")


def compare(documents: int, rounds: int) -> None:
    """The same texts through other libraries, in turns; medians of the rounds."""
    texts = next(draw(1))[0][:documents]
    doers = {"herd": _herd, **_peers()}
    taken = defaultdict(list)
    for _ in range(rounds):
        for name, do in doers.items():
            started = time.process_time()
            do(texts)
            taken[name].append(time.process_time() - started)
    base = float(np.median(taken["herd"]))
    for name, values in taken.items():
        middle = float(np.median(values))
        speed = f"{documents / middle:,.0f} documents a processor second"
        print(f"  {name}: {speed}, herd is {middle / base:.1f} times as fast")


def _herd(texts: list[str]) -> None:
    families(sign([hash_words(split_words(text)) for text in texts], CONFIG), CONFIG)


def _peers() -> dict[str, Callable[[list[str]], None]]:
    """What is installed of datasketch and datatrove; datatrove's is its signatures alone."""
    found: dict[str, Callable[[list[str]], None]] = {}
    try:
        from datasketch import MinHash, MinHashLSH

        def with_datasketch(texts: list[str]) -> None:
            index = MinHashLSH(num_perm=CONFIG.permutations, params=(CONFIG.bands, CONFIG.rows))
            for number, text in enumerate(texts):
                words = text.lower().split()
                grams = {" ".join(words[n : n + 5]).encode() for n in range(max(len(words) - 4, 1))}
                minhash = MinHash(num_perm=CONFIG.permutations)
                minhash.update_batch(grams)
                index.query(minhash)
                index.insert(number, minhash)

        found["datasketch"] = with_datasketch
    except ImportError:
        pass
    try:
        from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

        config = MinhashConfig(n_grams=5, num_buckets=CONFIG.bands, hashes_per_bucket=CONFIG.rows)
        step = MinhashDedupSignature(output_folder=tempfile.mkdtemp(), config=config)

        def with_datatrove(texts: list[str]) -> None:
            for text in texts:
                step.get_signature(step.get_shingles(text))

        found["datatrove, signatures alone"] = with_datatrove
    except ImportError:
        pass
    return found


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=200_000, help="a multiple of 2,500")
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--peers", type=int, default=0, help="documents for the comparison")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", default="", help="sizes, the smallest in one partition")
    arguments = parser.parse_args()
    if arguments.memory:
        sizes = [int(size) for size in arguments.memory.split(",")]
        for size in sizes:
            line = ["--documents", str(size), "--partitions", str(size // sizes[0])]
            subprocess.run([sys.executable, __file__, *line], check=True)
        return
    if arguments.peers:
        compare(arguments.peers, arguments.rounds)
        return
    with Held() as held:
        run(arguments.documents, arguments.partitions)
    print("  peak MiB in all, of its own, of files:", {kind: f"{most:.0f}" for kind, most in held.peak.items()})


if __name__ == "__main__":
    main()
