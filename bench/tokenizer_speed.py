"""Encoding throughput beside other libraries, on one long document and on many short ones, and whether ids agree.

    python bench/tokenizer_speed.py tokenizer.model TEXTS --megabytes 5 --short 20000 --rounds 3

Herd (arrays, much text, lists), ``tiktoken``, ``tokenizers`` and, where they are installed, ``gigatoken`` and
``rustbpe`` encode the same texts with the same ranks in turn, round by round, in one process.  A row gives the best and
the median rate in MB of UTF-8 a second, the ratio of Herd's arrays to it by medians, and the number of texts whose ids
differ from ``tiktoken``'s.  ``gigatoken`` reads the ``tokenizer.json`` that Herd writes.  ``rustbpe`` reads no rank
files, so it encodes with a vocabulary that it learns on the same texts; its ids are not compared.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import tiktoken
from tokenizer_identity import without_control_tokens
from tokenizer_texts import folder_texts, random_unicode

from herd.tokenizer.special import SPLIT_PATTERN
from herd.tokenizer.tokenizer import Tokenizer

Encode = Callable[[list[str]], Sequence[Sequence[int]]]
_LEARNT_VOCABULARY = 8192


def encoders(ranks: Path, texts: list[str]) -> dict[str, Encode]:
    """What is measured, by name."""
    herd, much = Tokenizer.load(ranks), Tokenizer.load(ranks)
    much.encode_arrays([" " * 50_000_000])  # from here on by the fast encoder, where it is installed
    reference = tiktoken.Encoding("reference", pat_str=SPLIT_PATTERN, mergeable_ranks=herd.ranks, special_tokens={})
    library = without_control_tokens(herd)
    found: dict[str, Encode] = {
        "herd, arrays": lambda texts: [herd.encode_array(text) for text in texts],
        "herd, much text": much.encode_arrays,
        "herd, lists": herd.encode_batch,
        "tiktoken": lambda texts: [reference.encode_ordinary(text) for text in texts],
        "tokenizers": lambda texts: [each.ids for each in library.encode_batch(texts, add_special_tokens=False)],
    }
    if find_spec("gigatoken"):
        import gigatoken

        giga = gigatoken.Tokenizer.from_json(library.to_str())
        found["gigatoken, arrays"] = giga.encode_batch
        found["gigatoken, arrays, one thread"] = lambda texts: giga.encode_batch(texts, parallel=False)
        found["gigatoken, lists"] = giga.encode_batch_list
    if find_spec("rustbpe"):
        import rustbpe

        learnt = rustbpe.Tokenizer()
        learnt.train_from_iterator(iter(texts), _LEARNT_VOCABULARY, pattern=SPLIT_PATTERN)
        found["rustbpe, lists, own vocabulary"] = lambda texts: [learnt.encode(text) for text in texts]
    return found


def measure(
    found: dict[str, Encode], texts: list[str], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of every round by name, all names in turn within a round."""
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(rounds):
        for name, encode in found.items():
            started = clock()
            encode(texts)
            seconds[name].append(clock() - started)
    return seconds


def differing(found: dict[str, Encode], texts: list[str]) -> dict[str, int]:
    """How many texts each encodes otherwise than tiktoken; texts beyond the limits on long runs are left out."""
    expected = [list(ids) for ids in found["tiktoken"](texts)]
    counts = {}
    for name, encode in found.items():
        if "own vocabulary" not in name:
            counts[name] = sum(list(ids) != wanted for ids, wanted in zip(encode(texts), expected, strict=True))
    return counts


def main() -> None:
    """Measures both workloads and prints their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ranks", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--megabytes", type=float, default=5.0, help="size of the long document")
    parser.add_argument("--short", type=int, default=20_000, help="number of short documents")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: where others use the machine")
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of the names to measure; else all")
    options = parser.parse_args()
    documents = [text for _, text in folder_texts(options.texts, 150_000)]
    long = "\n".join(documents)[: int(options.megabytes * 1e6)]
    lines = (line for text in documents for line in text.splitlines() if len(line) > 20)
    workloads = {"one long document": [long], "short documents": list(islice(lines, options.short))}
    found = encoders(options.ranks, documents)
    wanted = {name: encode for name, encode in found.items() if name.startswith(tuple(options.only or ("",)))}
    checked = [text for text in documents if len(text) < 25_000] + [text for _, text in random_unicode(300_000)]
    wrong = differing(wanted | {"tiktoken": found["tiktoken"]}, checked)
    for title, texts in workloads.items():
        size = sum(len(text.encode()) for text in texts) / 1e6
        clock = time.process_time if options.clock == "cpu" else time.perf_counter
        seconds = measure(wanted, texts, options.rounds, clock)
        ours = statistics.median(seconds["herd, arrays"])
        print(f"{title}: {len(texts):,} texts, {size:.1f} MB, {options.rounds} rounds")
        print(f"{'':32}{'best MB/s':>10}{'median':>10}{'herd / it':>11}{f'differ of {len(checked):,}':>18}")
        for name, taken in seconds.items():
            middle = statistics.median(taken)
            rates = f"{size / min(taken):>10.1f}{size / middle:>10.1f}{middle / ours:>11.2f}"
            print(f"{name:32}{rates}{wrong.get(name, '-'):>18}")


if __name__ == "__main__":
    main()
