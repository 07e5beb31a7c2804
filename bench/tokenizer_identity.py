"""The same ids as ``tiktoken`` and ``tokenizers``, on megabytes of mixed text and on random Unicode.

    python bench/tokenizer_identity.py tokenizer.model TEXTS --megabytes-per-file 1.6

``tokenizer.model`` is a tiktoken rank file, TEXTS a folder of JSONL.  Each text is encoded three ways: by Herd; by
``tiktoken`` alone, with a pattern and limits on long runs written out here once more; by ``tokenizers`` from the
``tokenizer.json`` that Herd writes (without control tokens, whose names that library would not leave as plain text),
on the same cuts.  Every text is decoded again.  Where ``gigatoken`` is installed, its arrays are compared on the same
cuts too, and ``--every-character`` adds texts in which each of Unicode's code points stands in eight contexts.  Prints
what was compared by language; exit status 1 where Herd differs from any reference.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import tiktoken
import tiktoken.load
import tokenizers
from tokenizer_texts import every_character, folder_texts, long_runs, random_unicode, special_names

from herd.tokenizer.tokenizer import Tokenizer

_PATTERN = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
_SHOWN = 3


def reference_cuts(text: str) -> Iterator[str]:
    """The limits by their definition: 400,000 characters a text, 25,000 a run of white space or of anything else."""
    for start in range(0, len(text), 400_000):
        chunk, part = text[start : start + 400_000], ""
        for _, run in itertools.groupby(chunk, str.isspace):
            stretch = "".join(run)
            for place in range(0, len(stretch), 25_000):
                if place:
                    yield part
                    part = ""
                part += stretch[place : place + 25_000]
        yield part


def without_control_tokens(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """The ``tokenizers`` library's reading of the ``tokenizer.json`` that Herd writes."""
    with tempfile.TemporaryDirectory() as place:
        tokenizer.save(place)
        data = json.loads((Path(place) / "tokenizer.json").read_text())
    return tokenizers.Tokenizer.from_str(json.dumps(data | {"added_tokens": [], "post_processor": None}))


def by_gigatoken(library: tokenizers.Tokenizer) -> Callable[[list[str]], list[int]] | None:
    """Encodes cuts with ``gigatoken``, if it is installed."""
    if not find_spec("gigatoken"):
        return None
    import gigatoken

    encoder = gigatoken.Tokenizer.from_json(library.to_str())
    return lambda cuts: [int(token) for ids in encoder.encode_batch(cuts, parallel=False) for token in ids]


def main() -> int:
    """Compares and prints; 1 if any text differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ranks", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--megabytes-per-file", type=float, default=1.6)
    parser.add_argument("--every-character", action="store_true")
    options = parser.parse_args()
    tokenizer, started = Tokenizer.load(options.ranks), time.monotonic()
    ranks = tiktoken.load.load_tiktoken_bpe(str(options.ranks))
    reference = tiktoken.Encoding("reference", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens={})
    library = without_control_tokens(tokenizer)
    gigatoken = by_gigatoken(library)
    of_folder = folder_texts(options.texts, int(options.megabytes_per_file * 1e6))
    texts = itertools.chain(of_folder, random_unicode(1_000_000), long_runs(), special_names(tokenizer.special))
    if options.every_character:
        texts = itertools.chain(texts, every_character())
    seen: dict[str, Counter[str]] = {}
    for language, text in texts:
        cuts = list(reference_cuts(text)) if len(text) > 25_000 else [text]
        ids = tokenizer.encode(text)
        counts = seen.setdefault(language, Counter())
        counts += Counter(texts=1, bytes=len(text.encode()), tokens=len(ids))
        counts["tiktoken"] += ids != [token for cut in cuts for token in reference.encode_ordinary(cut)]
        counts["tokenizers"] += ids != [token for cut in cuts for token in library.encode(cut).ids]
        counts["array"] += ids != tokenizer.encode_array(text).tolist()
        counts["decoded"] += text != tokenizer.decode(ids)
        if gigatoken is not None and ids != gigatoken(cuts):
            counts["gigatoken"] += 1
            if counts["gigatoken"] <= _SHOWN:
                print(f"gigatoken differs: {language}, {len(text):,} characters, {text[:60]!r}")
    columns = ("texts", "bytes", "tokens", "tiktoken", "tokenizers", "array", "decoded", "gigatoken")
    columns = columns if gigatoken is not None else columns[:-1]
    print(f"{'':12}" + "".join(f"{name:>13}" for name in columns) + "   (from tiktoken on: texts that differ)")
    total = sum(seen.values(), Counter())
    for language, counts in [*sorted(seen.items()), ("all", total)]:
        print(f"{language:12}" + "".join(f"{counts[name]:>13,}" for name in columns))
    print(f"{time.monotonic() - started:.0f} s")
    return int(any(total[name] for name in columns[3:7]))


if __name__ == "__main__":
    sys.exit(main())
