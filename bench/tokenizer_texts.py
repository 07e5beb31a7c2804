"""Texts that the tokenizer benches share: JSONL files of a folder, and random Unicode with runs beyond every limit.

Each line of a file is an object with a ``text``, or else its longest string counts, and possibly a ``lang``.  Usage:
``for language, text in folder_texts(Path("texts"), 1_000_000)``.
"""

import gzip
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

_BLOCKS = (
    *((0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F)),
    *((0x2000, 0x206F), (0x20A0, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xF8FF)),
    *((0x1F000, 0x1FAFF), (0x20000, 0x2A6DF), (0xE0000, 0x10FFFF)),
)


def files_of(folder: Path) -> list[Path]:
    """The JSONL files below ``folder``, plain or compressed, in the order of their names."""
    return sorted([*folder.rglob("*.jsonl"), *folder.rglob("*.jsonl.gz")])


def folder_texts(folder: Path, bytes_a_file: int) -> Iterator[tuple[str, str]]:
    """Yields (language, text) of about the first ``bytes_a_file`` UTF-8 bytes of every file."""
    for path in files_of(folder):
        left = bytes_a_file
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            for line in lines:
                row = json.loads(line)
                text = row.get("text") or max((v for v in row.values() if isinstance(v, str)), key=len, default="")
                yield row.get("lang", path.parent.name), text
                left -= len(text.encode())
                if left <= 0:
                    break


def random_unicode(size: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Yields ("random", text) of about ``size`` characters: mixed scripts, unassigned code points, white space."""
    chance = random.Random(seed)
    while size > 0:
        length = chance.choice((1, 10, 100, 5_000))
        blocks = chance.choices(_BLOCKS, k=3)
        letters = [chr(chance.randint(*chance.choice(blocks))) for _ in range(length)]
        spaces = [chance.choice(" \n\r\t\u00a0\u2003") for _ in range(length // 5)]
        chance.shuffle(mixed := letters + spaces)
        yield "random", "".join(mixed)
        size -= len(mixed)


def long_runs() -> Iterator[tuple[str, str]]:
    """Yields ("long runs", text): runs of one kind around 25,000 characters, texts around 400,000."""
    for unit in ("a", "é", "語", "🙂", "7", "-", "ab1_", "\u0301"):
        for length in (24_999, 25_000, 25_001, 60_000):
            run = (unit * length)[:length]
            yield "long runs", run
            yield "long runs", "word " + run + " " * 25_001 + run + "\n"
    for unit in (" ", "\n", " \n", "\t\u00a0"):
        yield "long runs", (unit * 50_001)[:50_001] + "x"
    for length in (399_999, 400_000, 400_001, 900_000):
        yield "long runs", ("The cat's 12345 words,\n  naïve. " * 40_000)[:length]


def special_names(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yields ("special", text): names of control tokens as a user may write them, whole, in a text, and broken."""
    for name in names:
        yield from (("special", text) for text in (name, f"a {name} b\n{name}", name[:-1], f"<{name}>", name * 3))


def every_character(at_once: int = 64) -> Iterator[tuple[str, str]]:
    """Yields ("characters", text): some code points in turn, each in eight contexts, until all have been."""
    contexts = ("{}", "a{}", "{}a", "1{}1", " {} ", "\n{}", "'{}s", "{}{}a 1")
    letters = [chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
    for start in range(0, len(letters), at_once):
        some = letters[start : start + at_once]
        yield "characters", " ".join(context.format(letter, letter) for letter in some for context in contexts)
