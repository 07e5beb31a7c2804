"""Cuts what is held out of the training documents: the pages of test functions and their docstrings, whole.

    withholder = Withholder(read_jsonl(tasks / "held_out.jsonl"))
    text = withholder.clean(document["id"], document["text"])

N-gram decontamination cannot see a sentence of fewer words than its n-gram, and an answer that was seen in training
could be remembered instead of read.  So each held-out passage leaves its own document, and each held-out sentence
leaves every document, wherever it stands.  Where a docstring begins with it, in a source or below another heading of a
page, the whole docstring goes: its other sentences are about the same function.  Only the spacing of the words may
differ.  Everything else stays as it is, character for character; a line of which nothing but spaces would be left goes
too.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from herd.corpus.passages import first_sentence
from herd.foundation.errors import HerdError

_FIELDS = ("document_id", "sentence", "text")
_BETWEEN_WORDS = r"[\s#]+"
_BLANK = r"[^\S\n]*"
_SHORTEST_KEY = 3
# A comment, or a string of a source with its text: on several lines after three quotes, on one after one.
_STRING = re.compile(
    r"""
    \#[^\n]*
    | (?P<three> "{3} | '{3} ) (?:\\\n)? (?P<lines> (?: \\. | [^\\] )*? ) (?P=three)
    | (?P<one> ["'] ) (?P<line> (?: \\. | (?!(?P=one)) [^\\\n] )* ) (?P=one)
    """,
    re.DOTALL | re.VERBOSE,
)
_HEADING = re.compile(r"^\S[^\n]*\n(?=[^\S\n]+\S)", re.MULTILINE)
_INDENTED = re.compile(r"(?:[^\S\n][^\n]*(?:\n|\Z)|\n)+")


@dataclass(frozen=True)
class _Sentence:
    """A held-out sentence: the words inside it, which stand alone in every text that holds it, and how to find it."""

    inside: frozenset[str]
    pattern: re.Pattern[str]


@dataclass
class Withheld:
    """What was cut so far; ``unplaced`` are passages whose document was met without them in it.

    ``docstrings`` went whole with the sentence that they began with; ``sentences`` counts these too.
    """

    passages: int = 0
    unplaced: int = 0
    sentences: int = 0
    docstrings: int = 0
    documents: int = 0
    characters: int = 0


class Withholder:
    """Cuts held-out passages and sentences out of documents, and counts them in ``withheld``.

    ``rows`` are those of ``held_out.jsonl``: ``name``, ``document_id``, ``sentence`` and ``text``, the whole passage.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self.withheld = Withheld()
        self._passages: dict[str, set[str]] = defaultdict(set)
        sentences: set[str] = set()
        for number, row in enumerate(rows, start=1):
            if not all(isinstance(row.get(name), str) and row[name].split() for name in _FIELDS):
                raise HerdError(f"held-out row {number}: it needs {', '.join(_FIELDS)}, each a text")
            self._passages[row["document_id"]].add(row["text"])
            sentences.add(" ".join(row["sentence"].split()))
        self._by_word: dict[str, list[_Sentence]] = defaultdict(list)
        self._short: list[_Sentence] = []
        for sentence in sorted(sentences):
            self._remember(sentence.split())

    def _remember(self, words: list[str]) -> None:
        body = _BETWEEN_WORDS.join(map(re.escape, words))
        sentence = _Sentence(frozenset(words[1:-1]), re.compile(body))
        # The first and the last word may touch a quote or a bracket; those between them are words of the text.
        longest = max(sentence.inside, key=lambda word: (len(word), word), default="")
        (self._by_word[longest] if len(longest) >= _SHORTEST_KEY else self._short).append(sentence)

    def clean(self, document_id: str, text: str) -> str:
        """The text without what is held out; the same object where there is nothing to cut."""
        kept = text
        for passage in sorted(self._passages.get(document_id, ()), key=lambda found: (-len(found), found)):
            kept = self._without_passage(kept, passage)
        for sentence in self._candidates(kept):
            # From the start after each cut: what it brings together may read like the sentence again.
            while match := sentence.pattern.search(kept):
                docstring = _docstring_of(kept, match)
                kept = _without(kept, *(docstring or match.span()))
                self.withheld.sentences += 1
                self.withheld.docstrings += docstring is not None
        if len(kept) != len(text):
            self.withheld.documents += 1
            self.withheld.characters += len(text) - len(kept)
        return kept

    def _candidates(self, text: str) -> list[_Sentence]:
        """The sentences of which all inner words are in the text: few, so that a large corpus is passed quickly."""
        words = set(text.replace("#", " ").split())
        found = [sentence for word in words & self._by_word.keys() for sentence in self._by_word[word]]
        return [sentence for sentence in [*found, *self._short] if sentence.inside <= words]

    def _without_passage(self, text: str, passage: str) -> str:
        """Cuts the passage with the blank lines after it; before it, where it is the last."""
        body = r"\s+".join(map(re.escape, passage.split()))
        match = re.search(rf"(?:^|(?<=\n)){_BLANK}{body}{_BLANK}(?=\n|\Z)", text)
        if match is None:
            self.withheld.unplaced += 1
            return text
        self.withheld.passages += 1
        before, after = text[: match.start()], text[match.end() :].lstrip("\n")
        return before + after if after else before.rstrip("\n")


def _docstring_of(text: str, sentence: re.Match[str]) -> tuple[int, int] | None:
    """From where to where the docstring goes that begins with the sentence; None where other text surrounds it."""
    for start, end in (_string_around(text, sentence.start()), _lines_below_heading(text, sentence.start())):
        docstring = text[start:end]
        if sentence.end() <= end and sentence.re.match(first_sentence(docstring)):
            return start + len(docstring) - len(docstring.lstrip()), start + len(docstring.rstrip())
    return None


def _string_around(text: str, place: int) -> tuple[int, int]:
    """The text of the string literal that ``place`` lies in; an empty stretch where it lies in none."""
    for found in _STRING.finditer(text):
        if found.end() > place:
            group = "lines" if found["three"] else "line"
            return found.span(group) if found[group] is not None and found.start(group) <= place else (place, place)
    return place, place


def _lines_below_heading(text: str, place: int) -> tuple[int, int]:
    """The indented lines around ``place`` under the line without indentation before them; an empty stretch if none."""
    headings = [found.end() for found in _HEADING.finditer(text, 0, place + 1)]
    body = _INDENTED.match(text, headings[-1]) if headings else None
    return body.span() if body and body.end() > place else (place, place)


def _without(text: str, start: int, end: int) -> str:
    """The text without that stretch, and without its lines where they hold nothing else."""
    before, after = text[:start], text[end:]
    line_start = before.rfind("\n") + 1
    rest, _, following = after.partition("\n")
    if before[line_start:].strip() or rest.strip():
        return before + after
    return text[:line_start] + following
