"""Rules of thumb about a text, one small class each: what it measures, how much is too much, and why it rejects.

The paper names duplicated n-gram coverage, "dirty word" counting and the divergence of the token distribution (section
3.1.1) without thresholds; the limits here are Gopher's (Rae et al. 2021) where it has one.  Every rule's value is kept
with every document, rejected or not.  References, formulas and code repeat themselves and are full of symbols by
nature: technical text has wider limits, and source code is judged by rules of its own.
"""

import re
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Protocol

import numpy as np

from herd.corpus.words import Hashes, hash_ngrams, hash_words, split_words
from herd.foundation.config import Config


class HeuristicsConfig(Config):
    """Limits of the rules; shares are of words unless said otherwise.

    ``technical_allowance`` is added to the repetition limits of technical text; ``technical_share`` is the share of
    lines with code tokens from which a text is technical.
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
    technical_allowance: float = 0.80
    code_line_length: float = 400.0
    code_minimum_letters: float = 0.25
    repeated_line_ngram: int = 6
    repeated_line_times: int = 12
    repeated_line_reach: int = 100
    repeated_line_share: float = 0.8


_STOP_WORDS = frozenset(files("herd.corpus").joinpath("wordlists/stop.txt").read_text(encoding="utf-8").split())
_DIRTY_WORDS = frozenset(files("herd.corpus").joinpath("wordlists/dirty.txt").read_text(encoding="utf-8").split())
_SYMBOL = re.compile(r"[^\w\s.,;:!?'\"()\u2010-\u201f-]")
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
    def hashes(self) -> Hashes:
        """One digest a word."""
        return hash_words(self.words)

    @cached_property
    def lines(self) -> list[str]:
        """Lines with something on them, without the white space around it."""
        return [stripped for line in self.text.split("\n") if (stripped := line.strip())]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Characters of each word."""
        return np.fromiter(map(len, self.words), dtype=np.int64, count=len(self.words))

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


class Words(Between):
    """How many words there are."""

    def value(self, view: View) -> float:
        """Count of words."""
        return len(view.words)


class MeanWordLength(Between):
    """Very short or very long words on average are not language (Gopher: 3 to 10; identifiers need more room)."""

    def value(self, view: View) -> float:
        """Characters a word."""
        return float(view.lengths.mean()) if len(view.words) else 0.0

    def reject(self, value: float, view: View) -> str | None:
        """Scripts without spaces have words of one character, and are not judged."""
        return None if view.domain in ("multilingual", "math") else super().reject(value, view)


class Alphabetic(Between):
    """The share of words with a letter in them (Gopher: 0.8)."""

    def value(self, view: View) -> float:
        """Share of words."""
        return sum(not word.isdigit() for word in view.words) / max(len(view.words), 1)

    def reject(self, value: float, view: View) -> str | None:
        """Mathematics may be all numbers."""
        return None if view.domain == "math" else super().reject(value, view)


class Symbols(Between):
    """Characters that are neither letters, digits, white space nor common punctuation."""

    def value(self, view: View) -> float:
        """Share of the characters that are not white space."""
        return len(_SYMBOL.findall(view.text)) / max(len(view.text) - view.text.count(" "), 1)

    def reject(self, value: float, view: View) -> str | None:
        """Vowel signs of Indic scripts are not letters to a regular expression, and formulas are symbols."""
        return None if view.domain in ("multilingual", "math") else super().reject(value, view)


class Ellipses(Between):
    """Lines that end in an ellipsis: listings of truncated teasers (Gopher: 0.3)."""

    def value(self, view: View) -> float:
        """Share of the lines."""
        return sum(line.endswith(("...", "…")) for line in view.lines) / max(len(view.lines), 1)


class StopWords(Between):
    """English prose holds the small words; a word list or a table does not (Gopher: two of eight)."""

    def value(self, view: View) -> float:
        """Distinct stop words found."""
        return len(_STOP_WORDS.intersection(view.words))

    def reject(self, value: float, view: View) -> str | None:
        """Other languages have other small words."""
        return None if view.domain == "multilingual" else super().reject(value, view)


@dataclass(frozen=True)
class DirtyWords:
    """Words of adult sites and insults, counted and in proportion: one quotation does not condemn a page."""

    count: int
    share: float
    name: str = "dirty_words"

    def value(self, view: View) -> float:
        """How many there are."""
        counts = Counter(view.words)
        return sum(counts[word] for word in _DIRTY_WORDS if word in counts)

    def reject(self, value: float, view: View) -> str | None:
        """Enough of them, and enough of the text."""
        if value >= self.count and value / max(len(view.words), 1) > self.share:
            return f"dirty_words {self.count} or more and above {self.share:.1%}"
        return None


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
        if view.domain == "code" or value <= self.limit + view.allowance:
            return None
        return f"{self.name} above {self.limit + view.allowance:g}"


class DuplicateLines(Repetition):
    """Characters in lines that stood in the document before."""

    def value(self, view: View) -> float:
        """Share of the lines' characters."""
        total = sum(map(len, view.lines))
        return 1 - sum(map(len, set(view.lines))) / total if total else 0.0


class TopNgram(Repetition):
    """Characters in the most frequent n-gram."""

    def value(self, view: View) -> float:
        """Share of the words' characters."""
        grams = hash_ngrams(view.hashes, self.n)
        if not len(grams):
            return 0.0
        _, first, counts = np.unique(grams, return_index=True, return_counts=True)
        top = int(np.argmax(counts))
        if counts[top] < 2:
            return 0.0
        length = int(view.lengths[first[top] : first[top] + self.n].sum())
        return min(float(counts[top] * length / max(int(view.lengths.sum()), 1)), 1.0)


class DuplicateNgrams(Repetition):
    """Characters in n-grams that stood in the document before, overlaps counted once."""

    def value(self, view: View) -> float:
        """Share of the words' characters."""
        grams = hash_ngrams(view.hashes, self.n)
        if not len(grams):
            return 0.0
        _, first = np.unique(grams, return_index=True)
        again = np.ones(len(grams), dtype=np.int64)
        again[first] = 0
        return float(view.lengths[_covered(again, self.n)].sum() / max(int(view.lengths.sum()), 1))


class LineLength(Between):
    """Mean length of the lines of source code: minified or generated files have few and endless ones."""

    def value(self, view: View) -> float:
        """Characters a line."""
        return len(view.text) / max(len(view.lines), 1)

    def reject(self, value: float, view: View) -> str | None:
        """Only source code has lines by nature."""
        return super().reject(value, view) if view.domain == "code" else None


class Letters(Between):
    """Letters among the characters of source code that are not white space: tables of numbers have few."""

    def value(self, view: View) -> float:
        """Share of the characters."""
        solid = "".join(view.text.split())
        return sum(map(str.isalpha, solid)) / max(len(solid), 1)

    def reject(self, value: float, view: View) -> str | None:
        """Prose is judged by its words."""
        return super().reject(value, view) if view.domain == "code" else None


def build_rules(config: HeuristicsConfig) -> list[Rule]:
    """The rules in their order; the first that rejects names the reason."""
    return [
        Words("words", config.minimum_words, config.maximum_words, code=True),
        MeanWordLength("mean_word_length", *config.mean_word_length),
        Alphabetic("alphabetic", low=config.minimum_alphabetic),
        Symbols("symbols", high=config.maximum_symbols),
        Ellipses("ellipses", high=config.maximum_ellipses),
        StopWords("stop_words", low=config.minimum_stop_words),
        DirtyWords(config.maximum_dirty_words, config.maximum_dirty_share),
        DuplicateLines("duplicate_lines", config.duplicate_lines),
        *(TopNgram(f"top_{n}gram", limit, n) for n, limit in config.top_ngrams.items()),
        *(DuplicateNgrams(f"duplicate_{n}gram", limit, n) for n, limit in config.duplicate_ngrams.items()),
        LineLength("line_length", high=config.code_line_length, code=True),
        Letters("letters", low=config.code_minimum_letters, code=True),
    ]


def judge(view: View, rules: list[Rule]) -> tuple[dict[str, float], str | None]:
    """Every rule's value, and the reason of the first rule that rejects."""
    values = {rule.name: rule.value(view) for rule in rules}
    reasons = (rule.reject(values[rule.name], view) for rule in rules)
    return values, next((reason for reason in reasons if reason), None)


def remove_repeated_lines(text: str, config: HeuristicsConfig) -> tuple[str, int]:
    """Cuts lines whose words lie in n-grams that keep coming back, as logs do; returns the text and the number cut.

    Numbers are all alike here, so that time stamps and counters do not hide a repetition; only what came a few lines
    ago counts, so that parameters which many functions share stay with each.  The first copies stay, and a line needs
    words to be judged: tables of numbers, formulas and brackets are left alone.
    """
    lines = text.split("\n")
    words = [split_words(line) for line in lines]
    flat = [word for line in words for word in line]
    grams = hash_ngrams(hash_words(flat, fold_numbers=True), config.repeated_line_ngram)
    if not len(grams):
        return text, 0
    again = _returns_soon(grams, config.repeated_line_times, config.repeated_line_reach)
    if not again.any():
        return text, 0
    covered = np.concatenate([[0], np.cumsum(_covered(again, config.repeated_line_ngram))])
    kept, position = [], 0
    for line, found in zip(lines, words, strict=True):
        share = (covered[position + len(found)] - covered[position]) / max(len(found), 1)
        position += len(found)
        enough = sum(not word.isdigit() for word in found) >= config.repeated_line_ngram // 2
        if not (enough and share >= config.repeated_line_share):
            kept.append(line)
    return "\n".join(kept), len(lines) - len(kept)


def _returns_soon(grams: Hashes, times: int, reach: int) -> np.ndarray:
    """Marks n-grams that occur ``times`` times or more, where the one before is at most ``reach`` words away."""
    order = np.argsort(grams, kind="stable")
    ranked = grams[order]
    same = np.concatenate([[False], ranked[1:] == ranked[:-1]])
    soon = np.zeros(len(grams), dtype=np.int64)
    soon[1:] = same[1:] & (np.diff(order) <= reach)
    starts = np.flatnonzero(~same)
    counts = np.diff(np.concatenate([starts, [len(grams)]]))
    soon *= np.repeat(counts >= times, counts)
    marks = np.zeros(len(grams), dtype=np.int64)
    marks[order] = soon
    return marks


def _covered(marks: np.ndarray, n: int) -> np.ndarray:
    """Which words lie in a marked n-gram: shape (len(marks) + n - 1,)."""
    edges = np.zeros(len(marks) + n, dtype=np.int64)
    edges[: len(marks)] += marks
    edges[n : n + len(marks)] -= marks
    return np.cumsum(edges)[:-1] > 0
