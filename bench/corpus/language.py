"""Accuracy of language identification on sentences of known language.

Run: ``python bench/corpus/language.py PATH/pud.jsonl.gz`` (rows with ``lang`` and ``text``).
"""

import gzip
import json
import sys
import time
from collections import Counter
from pathlib import Path

from herd.corpus.intervals import wilson
from herd.corpus.language import LanguageConfig, identify


def measure(path: Path, every: int = 1) -> dict[str, tuple[int, int]]:
    """Language to (sentences, rightly identified), over every ``every``-th row."""
    seen, right = Counter[str](), Counter[str]()
    with gzip.open(path, "rt", encoding="utf-8") as rows:
        for number, line in enumerate(rows):
            if number % every == 0:
                row = json.loads(line)
                seen[row["lang"]] += 1
                right[row["lang"]] += identify(row["text"], LanguageConfig()).code == row["lang"]
    return {language: (seen[language], right[language]) for language in sorted(seen)}


def main() -> None:
    """Prints one line a language, all together with an interval of 95%, and the speed."""
    started = time.perf_counter()
    table = measure(Path(sys.argv[1]))
    seconds = time.perf_counter() - started
    table["all"] = sum(seen for seen, _ in table.values()), sum(right for _, right in table.values())
    for language, (seen, right) in table.items():
        if share := wilson(right, seen):
            print(f"{language}: {right}/{seen} = {share['value']:.4f} ({share['low']:.4f}-{share['high']:.4f})")
    print(f"{table['all'][0] / seconds:,.0f} sentences/s")


if __name__ == "__main__":
    main()
