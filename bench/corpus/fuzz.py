"""Feeds damaged pages and archives to extraction and reading for a while, and counts what went wrong: nothing should.

    python bench/corpus/fuzz.py ../shared/data --seconds 60

Real pages and archives are cut, spliced, repeated, nested and littered with random bytes.  Wrong is any exception, and
any input that takes more than ten seconds of processor time.
"""

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from herd.corpus.extract import extract
from herd.corpus.heuristics import build_rules, judge
from herd.corpus.privacy import PrivacyConfig, redact
from herd.corpus.rules import HeuristicsConfig, View
from herd.corpus.sources import WarcSource, read_pages

_SLOW = 10.0
_TAGS = ("div", "p", "b", "table", "tr", "td", "ul", "li", "pre", "code", "math", "mfrac", "script", "svg", "a", "font")


def seeds(data: Path) -> tuple[list[bytes], list[bytes]]:
    """Pages and archives to start from."""
    rows = (data / "html-encodings.jsonl").read_bytes().splitlines()
    archives = [path.read_bytes() for path in sorted((data / "warc").rglob("*.warc*")) if path.stat().st_size < 300_000]
    return [*rows, *(path.read_bytes() for path in sorted((data / "html-math").rglob("*.html"))[:40])], archives


def mutate(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """A few random injuries."""
    text = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(text) + 1)
        end = min(len(text), at + chance.randint(1, 2000))
        other = chance.choice(others)
        tag = chance.choice(_TAGS).encode()
        start = chance.randrange(len(other))
        injury: Callable[[], bytes] = chance.choice([
            lambda: chance.randbytes(chance.randint(1, 40)),
            lambda other=other, start=start: other[start : start + chance.randint(1, 3000)],
            lambda at=at, end=end: bytes(text[at:end]) * chance.randint(2, 40),
            lambda tag=tag: (b"<" + tag + b" class=x>") * chance.randint(1, 3000),
            lambda tag=tag: b"</" + tag + b">",
            lambda: chance.choice([b"\x00", b"<!--", b"<![CDATA[", b"&#x110000;", b"\xed\xa0\x80", b"\\(", b"$$"]),
            lambda: b"",
        ])  # fmt: skip
        text[at : end if chance.random() < 0.5 else at] = injury()
    return bytes(text[:3_000_000])


def read_page(data: bytes) -> None:
    """Everything that curation does to one page."""
    found = extract(data, "http://a.b/c")
    text, _ = redact(found.text, PrivacyConfig())
    config = HeuristicsConfig(published={"gopher": "reject", "c4": "reject", "fineweb": "reject"})
    judge(View(text, "general", config), build_rules(config))


def read_archive(data: bytes, place: Path) -> None:
    """Reads an archive past its damage."""
    (place / "a.warc.gz").write_bytes(data)
    for _ in read_pages(WarcSource(paths=(str(place),)), broken=lambda damage: None):
        pass


def main() -> None:
    """Runs for the given time and prints the counts; every wrong input is kept in the current directory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance, (pages, archives) = random.Random(arguments.seed), seeds(arguments.data)
    counts: Counter[str] = Counter()
    slowest, ends = 0.0, time.process_time() + arguments.seconds
    with TemporaryDirectory() as folder:
        while time.process_time() < ends:
            kind, others = ("archive", archives) if chance.random() < 0.3 else ("page", pages)
            data = mutate(chance.choice(others), others, chance)
            before = time.process_time()
            try:
                read_page(data) if kind == "page" else read_archive(data, Path(folder))
            except Exception as error:  # the fuzzer looks for any
                counts[f"{kind}: {type(error).__name__}: {error}"[:200]] += 1
                Path(f"fuzz-{kind}-{sum(counts.values())}.bin").write_bytes(data)
            took = time.process_time() - before
            counts[f"{kind}s"] += 1
            counts[f"slow {kind}s"] += took > _SLOW
            slowest = max(slowest, took)
    for name, count in sorted(counts.items()):
        print(f"{name}: {count:,}")
    print(f"slowest: {slowest:.2f} s")


if __name__ == "__main__":
    main()
