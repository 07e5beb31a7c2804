"""What rules on a text are made of: its view, with what several rules measure on it, and the kinds of verdict.

    judge(View(text, "general", config), build_rules(config))

``heuristics`` holds Herd's own rules, ``published_rules`` those of Gopher, C4 and FineWeb.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from herd.corpus.characters import ALPHABETIC, SPACE, Kinds, kinds
from herd.corpus.repeats import Repeats
from herd.corpus.words import Hashes, hash_words, split_words
from herd.foundation.config import Config

RuleSet = Literal["gopher", "c4", "fineweb"]
Use = Literal["measure", "reject"]


class HeuristicsConfig(Config):
    """Limits of the rules; shares are of words unless said otherwise.

    ``technical_allowance`` is added to the repetition limits of technical text; ``technical_share`` is the share of
    lines with code tokens from which a text is technical.  ``published`` names sets of published rules (see
    ``published_rules``), each to "measure" or to "reject".
    """

    minimum_words: int = 30
    maximum_words: int = 500_000
    mean_word_length: tuple[float, float] = (2.0, 14.0)
    minimum_alphabetic: float = 0.6
    maximum_symbols: float = 0.35
    maximum_ellipses: float = 0.3
    minimum_stop_words: int = 2
    maximum_dirty_words: int = 3
    maximum_dirty_share: float = 0.005
    duplicate_lines: float = 0.30
    top_ngrams: dict[int, float] = {2: 0.20, 3: 0.18, 4: 0.16}
    duplicate_ngrams: dict[int, float] = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
    technical_share: float = 0.10
    technical_allowance: float = Field(default=0.80, ge=0)
    code_line_length: float = 400.0
    code_minimum_letters: float = 0.25
    repeated_line_ngram: int = 6
    repeated_line_times: int = 12
    repeated_line_reach: int = 100
    repeated_line_share: float = 0.8
    published: dict[RuleSet, Use] = {}


DIRTY_WORDS = frozenset(files("herd.corpus").joinpath("wordlists/dirty.txt").read_text(encoding="utf-8").split())
_CODE_LINE = re.compile(r"[(\[{]\S*[)\]}]|\w_\w|\w\.\w|[=<>]=|->|::|>>>|\w\(|`|\s=\s|^\s*[-+*]?\s*:\w+|^\s{4,}\S")


@dataclass
class View:
    """A text and what several rules measure on it, each computed once.  ``domain`` is one of ``domains.DOMAINS``."""

    text: str
    domain: str
    config: HeuristicsConfig

    @cached_property
    def words(self) -> list[str]:
        """Case-folded alphanumeric words."""
        return split_words(self.text)

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """The distinct words."""
        return frozenset(self.words)

    @cached_property
    def numbers(self) -> NDArray[np.bool_]:
        """Which words are digits only."""
        return np.fromiter(map(str.isdigit, self.words), dtype=np.bool_, count=len(self.words))

    @cached_property
    def hashes(self) -> Hashes:
        """One digest a word."""
        return hash_words(self.words)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Characters of each word."""
        return np.fromiter(map(len, self.words), dtype=np.int64, count=len(self.words))

    @cached_property
    def repeats(self) -> Repeats:
        """Runs of words that come back."""
        return Repeats(self.hashes, self.lengths)

    @cached_property
    def kinds(self) -> Kinds:
        """What each character is (see ``characters``)."""
        return kinds(self.text)

    @cached_property
    def solid(self) -> int:
        """Characters that are not white space."""
        return len(self.text) - int(np.count_nonzero(self.kinds & SPACE))

    @cached_property
    def tokens(self) -> tuple[int, int]:
        """How many stretches there are between white space, and how many of them hold a letter."""
        solid = (self.kinds & SPACE) == 0
        starts = np.flatnonzero(solid & ~np.concatenate([[False], solid[:-1]]))
        if not len(starts):
            return 0, 0
        return len(starts), int(np.count_nonzero(np.bitwise_or.reduceat(self.kinds, starts) & ALPHABETIC))

    @cached_property
    def lines(self) -> list[str]:
        """Lines with something on them, without the white space around it."""
        return [stripped for line in self.text.split("\n") if (stripped := line.strip())]

    @cached_property
    def repeated_lines(self) -> tuple[float, float]:
        """What of the lines came before: the share of their number, and of their characters."""
        return repeated(self.lines)

    @cached_property
    def technical_lines(self) -> float:
        """The share of lines that hold code tokens; a sample of 400 lines speaks for a long text."""
        sample = self.text.split("\n")
        sample = [line for line in sample[:: max(len(sample) // 400, 1)] if line.strip()]
        return sum(_CODE_LINE.search(line) is not None for line in sample) / max(len(sample), 1)

    @property
    def allowance(self) -> float:
        """What is added to repetition limits: technical text repeats itself by nature."""
        technical = self.domain in ("code", "math") or self.technical_lines >= self.config.technical_share
        return self.config.technical_allowance if technical else 0.0


class Rule(Protocol):
    """A named measure with a verdict."""

    @property
    def name(self) -> str:
        """The column that holds the value."""

    def value(self, view: View) -> float:
        """What the rule measures."""

    def reject(self, value: float, view: View) -> str | None:
        """The reason to reject, or None."""


@dataclass(frozen=True)
class Between(ABC):
    """The value must lie within bounds; ``code`` says whether source code is held to them."""

    name: str
    low: float = float("-inf")
    high: float = float("inf")
    code: bool = False

    @abstractmethod
    def value(self, view: View) -> float:
        """What the rule measures."""

    def reject(self, value: float, view: View) -> str | None:
        """Out of bounds is a reason, on the side where it is."""
        if view.domain == "code" and not self.code:
            return None
        if value < self.low:
            return f"{self.name} below {self.low:g}"
        return f"{self.name} above {self.high:g}" if value > self.high else None


@dataclass(frozen=True)
class Repetition(ABC):
    """Base of the rules on repeated content: a share of the characters with a limit that technical text may exceed."""

    name: str
    limit: float
    n: int = 1

    @abstractmethod
    def value(self, view: View) -> float:
        """What the rule measures."""

    def reject(self, value: float, view: View) -> str | None:
        """Source code is never rejected for repeating itself."""
        # The limit first: whether a text is technical takes a look at each of its lines.
        if view.domain == "code" or value <= self.limit or value <= self.limit + view.allowance:
            return None
        return f"{self.name} above {self.limit + view.allowance:g}"


class TopNgram(Repetition):
    """Characters in the most frequent n-gram."""

    def value(self, view: View) -> float:
        """Share of the words' characters."""
        return view.repeats.top(self.n)


class DuplicateNgrams(Repetition):
    """Characters in n-grams that stood in the document before, overlaps counted once."""

    def value(self, view: View) -> float:
        """Share of the words' characters."""
        return view.repeats.again(self.n)


def repeated(parts: list[str]) -> tuple[float, float]:
    """What of ``parts`` came before: the share of their number, and of their characters."""
    distinct = set(parts)
    characters = sum(map(len, parts))
    return share(len(parts) - len(distinct), len(parts)), share(characters - sum(map(len, distinct)), characters)


def share(part: int, whole: int) -> float:
    """``part`` of ``whole``; 0 of nothing."""
    return part / whole if whole else 0.0
