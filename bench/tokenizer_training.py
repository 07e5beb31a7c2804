"""Learning a vocabulary beside other trainers: processor time, peak memory, and whether the tokens are the same.

    OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1 python bench/tokenizer_training.py TEXTS --megabytes 8 --vocabulary 8192

Herd's trainer (the native one of ``tokenizers``) and, where they are installed, ``rustbpe`` and ``gigatoken`` learn
from the same texts, each in a process of its own, one after another.  A row gives the speed in processor time, how much
the process's peak memory grew while it learnt, and how many tokens stand at the same rank as Herd's.  ``gigatoken``
takes no split pattern and its documents as one run of bytes; what it learns is shown for its speed alone.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from tokenizer_texts import files_of, folder_texts

from herd.tokenizer.special import SPECIAL_TOKENS, SPLIT_PATTERN

Train = Callable[[list[str], int], list[bytes]]


def herd(texts: list[str], wanted: int) -> list[bytes]:
    """Tokens by rank, as Herd learns them."""
    from herd.tokenizer.bpe import train_bpe

    return list(train_bpe(texts, wanted + len(SPECIAL_TOKENS)).ranks)


def rustbpe(texts: list[str], wanted: int) -> list[bytes]:
    """The same by ``rustbpe``."""
    import rustbpe

    learner = rustbpe.Tokenizer()
    learner.train_from_iterator(iter(texts), wanted, pattern=SPLIT_PATTERN)
    return [bytes(token) for token, _ in learner.get_mergeable_ranks()]


def gigatoken(texts: list[str], wanted: int) -> list[bytes]:
    """Tokens by ``gigatoken``, whose pattern is another."""
    import gigatoken

    vocabulary, _ = gigatoken.train_bpe("\n".join(texts).encode(), wanted, [])
    return [vocabulary[token] for token in sorted(vocabulary)]


TRAINERS: dict[str, Train] = {"herd": herd, "rustbpe": rustbpe, "gigatoken": gigatoken}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def learn(name: str, texts: list[str], wanted: int) -> tuple[float, float, list[bytes]]:
    """Seconds, MiB by which the peak grew, tokens; in a process that has done nothing else."""
    TRAINERS[name](texts[:40], 270)  # imports and first use are not what is measured
    before, began = _peak(), time.process_time()
    tokens = TRAINERS[name](texts, wanted)
    return time.process_time() - began, _peak() - before, tokens


def main() -> None:
    """Reads the texts, lets every trainer learn, prints one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--megabytes", type=float, default=8)
    parser.add_argument("--vocabulary", type=int, default=8192, help="bytes and merges")
    arguments = parser.parse_args()
    share = int(arguments.megabytes * 1e6) // max(len(files_of(arguments.texts)), 1)
    texts = [text for _, text in folder_texts(arguments.texts, share)]
    size = sum(len(text.encode()) for text in texts)
    reference: list[bytes] = []
    for name in TRAINERS:
        if name != "herd" and not find_spec(name):
            continue
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, mebibytes, tokens = pool.apply(learn, (name, texts, arguments.vocabulary))
        reference = reference or tokens
        same = sum(one == other for one, other in zip(reference, tokens, strict=False))
        common = len(set(reference) & set(tokens))
        figures = {"mb_a_second": round(size / 1e6 / seconds, 2), "peak_mib": round(mebibytes), "same_rank": same}
        print(json.dumps({"trainer": name, "mb": round(size / 1e6, 1), **figures, "same_tokens": common}), flush=True)


if __name__ == "__main__":
    main()
