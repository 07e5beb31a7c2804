"""Accuracy of language identification on sentences of known language.

Run: ``python bench/corpus/language.py PATH/pud.jsonl.gz`` (rows with ``lang`` and ``text``).
"""

import gzip
import json
import sys
import time
from collections import Counter
from pathlib import Path

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
    """Prints one line a language, and the speed."""
    started = time.perf_counter()
    table = measure(Path(sys.argv[1]))
    seconds = time.perf_counter() - started
    for language, (seen, right) in table.items():
        print(f"{language}: {right}/{seen} = {right / seen:.3f}")
    print(f"{sum(seen for seen, _ in table.values()) / seconds:,.0f} sentences/s")


if __name__ == "__main__":
    main()
