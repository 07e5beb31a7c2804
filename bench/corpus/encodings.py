"""Counts which ways of writing formulas and code come out of extraction exactly, each formula once.

    python bench/corpus/encodings.py ../shared/data/html-encodings.jsonl

A row holds ``html`` and either ``code``, which must stand in the text to the space, or ``accept_any``, of which one
must stand there as often as its page writes it.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

from herd.corpus.extract import extract_html

# This page writes its formula in two cells.
_TWICE = {"math/math in table cell"}


def kept(row: dict[str, str]) -> bool:
    """Whether the page's formula or code came out exactly."""
    text = extract_html(row["html"]).text
    if "code" in row:
        return text.count(row["code"]) == 1
    return max(map(text.count, row["accept_any"])) == (2 if row["id"] in _TWICE else 1)


def main() -> None:
    """Prints the counts and the names of what was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    rows = [json.loads(line) for line in parser.parse_args().file.read_text(encoding="utf-8").splitlines()]
    right = [row for row in rows if kept(row)]
    total, found = (Counter(row["kind"] for row in part) for part in (rows, right))
    print(", ".join(f"{kind}: {found[kind]} of {total[kind]}" for kind in sorted(total)))
    for row in rows:
        if row not in right:
            print(f"  lost: {row['id']}")


if __name__ == "__main__":
    main()
