"""Keeps what the evaluation asks and expects out of the dialogues that train (paper, section 5.1.4).

A dialogue is dropped where it holds a whole prompt or reference answer of the evaluation, or shares eight words in a
row with one.  Words are compared without case, markup and punctuation.  Eight words that several evaluation texts or
training questions share, names, numbers and single letters aside, are a phrasing that the split allows both sides, and
do not count.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from herd.foundation.files import read_jsonl
from herd.tasks.task import read_tasks

NGRAM = 8
_SHARED_BY = 3
# A dotted name is one word: pieces of it beside a phrasing would make every question about a module a leak.
_WORD = re.compile(r"\w+(?:\.\w+)*")
_SHORTEST = 3


def words(text: str) -> list[str]:
    """Lower-cased words, dotted names whole; everything else only divides them."""
    return _WORD.findall(text.lower())


def _ngrams(tokens: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(tokens[start : start + NGRAM]) for start in range(len(tokens) - NGRAM + 1)}


def _phrasing(ngram: Sequence[str]) -> tuple[str, ...]:
    """The n-gram with names, numbers and single letters left open."""
    return tuple("" if "." in word or len(word) == 1 or word.isdigit() else word for word in ngram)


class Decontaminator:
    """Knows the evaluation's texts and says why a dialogue must not be trained on."""

    def __init__(self, texts: Iterable[Mapping[str, Any]], asked: Iterable[str] = ()) -> None:
        """``texts`` have ``role`` (``prompt`` or ``answer``) and ``text``; ``asked`` are training's questions."""
        self._prompts: set[tuple[str, ...]] = set()
        self._answers: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        phrasings: Counter[tuple[str, ...]] = Counter()
        for tokens in {tuple(words(question)) for question in asked}:
            phrasings.update({_phrasing(ngram) for ngram in _ngrams(tokens)})
        ngrams: set[tuple[str, ...]] = set()
        distinct = {(str(row["role"]), tuple(words(str(row["text"])))) for row in texts}
        for role, tokens in sorted(distinct):
            found = _ngrams(tokens)
            ngrams |= found
            phrasings.update({_phrasing(ngram) for ngram in found})
            if role == "prompt":
                self._prompts.add(tokens)
            elif len(tokens) >= _SHORTEST:
                self._answers.setdefault(tokens[:_SHORTEST], []).append(tokens)
        self._ngrams = {ngram for ngram in ngrams if phrasings[_phrasing(ngram)] < _SHARED_BY}

    @classmethod
    def read(cls, tasks: Path) -> "Decontaminator":
        """Reads the evaluation's texts and training's questions of a directory of tasks."""
        asked = (task.question for task in read_tasks(tasks, "train"))
        return cls(read_jsonl(tasks / "evaluation_texts.jsonl"), asked)

    def why(self, messages: Sequence[Mapping[str, Any]]) -> str | None:
        """The reason why a dialogue leaks, or None where it does not."""
        for message in messages:
            tokens = words(str(message.get("content") or ""))
            if message["role"] == "user" and tuple(tokens) in self._prompts:
                return "a prompt of the evaluation"
            if self._holds_answer(tokens):
                return "a reference answer of the evaluation"
            if not self._ngrams.isdisjoint(_ngrams(tokens)):
                return "eight words in a row of the evaluation"
        return None

    def _holds_answer(self, tokens: Sequence[str]) -> bool:
        for start in range(len(tokens) - _SHORTEST + 1):
            for answer in self._answers.get(tuple(tokens[start : start + _SHORTEST]), ()):
                if tuple(tokens[start : start + len(answer)]) == answer:
                    return True
        return False
