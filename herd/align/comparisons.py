"""Comparisons of answers on disk and in memory: a prompt, and its answers from best to worst.

One JSONL row holds ``prompt``, ``chosen``, ``rejected``, perhaps ``edited`` (lists of messages, TRL's names), ``tools``
and ``strength``; an answer that cannot be read holds the ids ``written`` by its model.  The paper keeps only pairs
whose strength is *significantly better* or *better* (section 4.2.1).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from herd.align.branches import Tree, encode_tree
from herd.foundation.errors import HerdError
from herd.foundation.files import read_jsonl
from herd.tokenizer.chat import ChatFormat

Strength = Literal["significantly better", "better", "slightly better", "marginally better"]
STRENGTHS: tuple[Strength, ...] = get_args(Strength)
STRONG = frozenset(STRENGTHS[:2])

Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Comparison:
    """A ranking edited > chosen > rejected; ``strength`` says by how much the chosen answer is better.

    ``place`` names it in a sentence about what is wrong in it.
    """

    prompt: Messages
    chosen: Messages
    rejected: Messages
    edited: Messages | None
    tools: list[Any]
    strength: Strength
    place: str = "a comparison"

    @property
    def ranking(self) -> list[Messages]:
        """The answers from best to worst, two or three; a chosen answer that is not clearly better counts for nothing.

        Two poor answers with an edited one leave edited > rejected.
        """
        answers = [self.edited] if self.edited is not None else []
        if self.strength in STRONG or self.edited is None:
            answers.append(self.chosen)
        return [*answers, self.rejected]

    @property
    def best(self) -> Messages:
        """The edited answer where there is one, else the chosen one."""
        return self.chosen if self.edited is None else self.edited

    @property
    def strong(self) -> bool:
        """Whether the best answer is clearly better than the rejected one; an edited answer always is."""
        return self.edited is not None or self.strength in STRONG


def read_comparisons(files: Iterable[Path]) -> list[Comparison]:
    """Reads the comparisons of JSONL files, or of the ``preferences.jsonl`` in directories."""
    comparisons = []
    for path in files:
        file = path / "preferences.jsonl" if path.is_dir() else path
        for number, row in enumerate(read_jsonl(file), start=1):
            comparisons.append(_read(row, f"{file}, comparison {number}"))
    return comparisons


def _read(row: Any, place: str) -> Comparison:
    if not isinstance(row, dict):
        raise HerdError(f"{place}: it is no object")
    prompt, chosen, rejected = (
        _messages(row.get(name), f"{place}, {name}") for name in ("prompt", "chosen", "rejected")
    )
    edited = None if row.get("edited") is None else _messages(row["edited"], f"{place}, edited")
    for name, answer in (("chosen", chosen), ("rejected", rejected), ("edited", edited)):
        if answer is not None and answer[0].get("role") != "assistant":
            raise HerdError(f"{place}, {name}: an answer begins with a message of the assistant")
    strength, tools = row.get("strength", STRENGTHS[0]), row.get("tools") or []
    if strength not in STRENGTHS:
        raise HerdError(f"{place}: the strength {strength!r} is none of {', '.join(STRENGTHS)}")
    if not isinstance(tools, list):
        raise HerdError(f"{place}: its tools are no list")
    return Comparison(prompt, chosen, rejected, edited, tools, strength, place)


def _messages(value: Any, place: str) -> Messages:
    """A list of messages, of which there is one at least."""
    if not isinstance(value, list) or not value or not all(isinstance(message, dict) for message in value):
        raise HerdError(f"{place}: it must be a list of messages, and not empty")
    return value


def encode_rankings(
    chat: ChatFormat, comparisons: Sequence[Comparison], longest: int, pairs_only: bool = False
) -> tuple[list[Tree], dict[str, int]]:
    """The strong comparisons as trees with the best answer first, and how many were left out for what reason.

    ``pairs_only`` keeps the best and the rejected answer alone, as DPO wants them.  ``HerdError`` names the comparison
    that cannot be written.
    """
    trees: list[Tree] = []
    dropped = {"weak": 0, "too long": 0, "alike": 0}
    for comparison in comparisons:
        answers = [comparison.best, comparison.rejected] if pairs_only else comparison.ranking
        if not comparison.strong:
            dropped["weak"] += 1
            continue
        try:
            tree = encode_tree(chat, comparison.prompt, answers, comparison.tools)
        except HerdError as error:
            raise HerdError(f"{comparison.place}: {error}") from None
        if any(a.ids == b.ids for a, b in zip(tree.branches, tree.branches[1:], strict=False)):
            dropped["alike"] += 1
        elif len(tree.prompt) + max(len(branch.ids) for branch in tree.branches) > longest:
            dropped["too long"] += 1
        else:
            trees.append(tree)
    return trees, dropped
