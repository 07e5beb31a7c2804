"""Extends the first 100,256 ranks of a published rank file, and compares with that file's own compression.

    python bench/tokenizer_extension.py tokenizer.model TEXTS --characters 4000000

As many tokens are learnt as the file has beyond its base, on 9 of 10 documents of each language but English and code,
which are protected.  Characters per token on the tenth that was not learnt from: of the base, of ours, of the file.
The file's tokens serve many more languages than are in TEXTS, so ours should compress at least as well there.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path

from tokenizer_texts import folder_texts

from herd.tokenizer.extend import extend_vocabulary
from herd.tokenizer.tokenizer import Tokenizer


def main() -> None:
    """Learns, measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ranks", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--base", type=int, default=100_256, help="ranks of the file that are the base")
    parser.add_argument("--characters", type=int, default=4_000_000, help="at most so many of each language")
    parser.add_argument("--protected", nargs="*", default=["en", "python"])
    parser.add_argument("--keep-ascii", action="store_true", help="no new token is ASCII alone")
    options = parser.parse_args()
    published = Tokenizer.load(options.ranks)
    base = Tokenizer({token: rank for token, rank in published.ranks.items() if rank < options.base})
    learnt: dict[str, list[str]] = defaultdict(list)
    held_out: dict[str, list[str]] = defaultdict(list)
    read: dict[str, int] = defaultdict(int)
    for number, (language, text) in enumerate(folder_texts(options.texts, 8 * options.characters)):
        if read[language] < options.characters and len(language) < 7:
            (held_out if number % 10 == 0 else learnt)[language].append(text)
            read[language] += len(text)
    protected = [text for language in options.protected for text in learnt[language]]
    texts = [text for language in sorted(learnt) if language not in options.protected for text in learnt[language]]
    started = time.monotonic()
    ours = extend_vocabulary(base, texts, protected, len(published.ranks) - options.base, options.keep_ascii)
    print(f"{len(ours.ranks) - options.base:,} tokens learnt in {time.monotonic() - started:.0f} s")
    different = sum(base.encode(text) != ours.encode(text) for text in protected)
    print(f"{different} of {len(protected):,} protected documents changed")
    print(f"{'held out':10}{'characters':>12}{'base':>8}{'ours':>8}{'published':>11}{'documents changed':>20}")
    for language in sorted(held_out):
        chosen = held_out[language]
        size = sum(map(len, chosen))
        encoded = [[each.encode(text) for text in chosen] for each in (base, ours, published)]
        rates = [size / max(sum(map(len, ids)), 1) for ids in encoded]
        changed = sum(old != new for old, new in zip(encoded[0], encoded[1], strict=True))
        shown = f"{rates[0]:>8.3f}{rates[1]:>8.3f}{rates[2]:>11.3f}{changed:>12} of {len(chosen)}"
        print(f"{language:10}{size:>12,}{shown}")


if __name__ == "__main__":
    main()
