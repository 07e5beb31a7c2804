"""Writes blocks of main text as Markdown, for those who ask for it; the corpus itself is plain text.

    to_markdown(blocks, "A title")

The paper found Markdown's markers harmful to a model that reads mostly web pages (section 3.1.1), so this is
an output of ``herd extract`` and no part of curation.  Headings, lists, tables and code keep their form; what stands
within a paragraph (links, emphasis) is plain, and nested lists are flat.
"""

import re
from collections.abc import Sequence
from itertools import groupby

from herd.corpus.layout import Block

_TICKS = re.compile(r"`{3,}")
_STARTS_A_BLOCK = re.compile(r"^(\s*)(#{1,6}(?=\s)|[-+*](?=\s)|>|~{3,}|\d{1,9}(?=[.)]\s))", re.MULTILINE)


def to_markdown(blocks: Sequence[Block], title: str | None = None) -> str:
    """The blocks as Markdown, the title above them as the first heading."""
    parts = [f"# {title}"] if title else []
    for kind, group in groupby(blocks, lambda block: block.kind):
        found = list(group)
        if kind == "row":
            parts.append(_table([block.text.split("\t") for block in found]))
        elif kind == "item":
            parts.append("\n".join(f"- {_indented(block)}" for block in found))
        else:
            parts += [_block(block) for block in found]
    return "\n\n".join(parts)


def _indented(block: Block) -> str:
    """An item of a list; what follows its first line belongs to it by its indentation."""
    return _escaped(block.text).replace("\n", "\n  ")


def _block(block: Block) -> str:
    if block.kind == "code":
        fence = "`" * max([3, *(len(ticks) + 1 for ticks in _TICKS.findall(block.text))])
        return f"{fence}\n{block.text}\n{fence}"
    if block.level:
        return "#" * block.level + " " + " ".join(block.text.split())
    return _escaped(block.text)


def _escaped(text: str) -> str:
    """Prose in which no line begins a heading, a list or a quotation by chance."""
    return _STARTS_A_BLOCK.sub(_with_backslash, text)


def _with_backslash(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2]}\\" if match[2].isdigit() else f"{match[1]}\\{match[2]}"


def _table(rows: list[list[str]]) -> str:
    """A table whose first row is its head; shorter rows are filled up."""
    width = max(map(len, rows))
    lines = [
        "| " + " | ".join(cell.replace("|", r"\|") for cell in [*row, *[""] * (width - len(row))]) + " |"
        for row in rows
    ]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])
