"""Rules of thumb about a text, one small class each: what it measures, how much is too much, and why it rejects.

The paper names duplicated n-gram coverage, "dirty word" counting and the divergence of the token distribution (section
3.1.1) without thresholds; the limits here are Gopher's (Rae et al. 2021) where it has one.  Every rule's value is kept
with every document, rejected or not.  References, formulas and code repeat themselves and are full of symbols by
nature: technical text has wider limits, and source code is judged by rules of its own.
"""

from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from herd.corpus.characters import ALPHABETIC, SYMBOL
from herd.corpus.published_rules import published_rules
from herd.corpus.rules import DIRTY_WORDS, Between, DuplicateNgrams, HeuristicsConfig, Repetition, Rule, TopNgram, View

_STOP_WORDS = frozenset(files("herd.corpus").joinpath("wordlists/stop.txt").read_text(encoding="utf-8").split())


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
        return (len(view.words) - int(np.count_nonzero(view.numbers))) / max(len(view.words), 1)

    def reject(self, value: float, view: View) -> str | None:
        """Mathematics may be all numbers."""
        return None if view.domain == "math" else super().reject(value, view)


class Symbols(Between):
    """Characters that are neither letters, digits, white space nor common punctuation."""

    def value(self, view: View) -> float:
        """Share of the characters that are not white space."""
        symbols = int(np.count_nonzero(view.kinds & SYMBOL))
        return symbols / max(len(view.text) - view.text.count(" "), 1)

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
        return len(_STOP_WORDS & view.vocabulary)

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
        found = DIRTY_WORDS & view.vocabulary
        return sum(word in found for word in view.words) if found else 0

    def reject(self, value: float, view: View) -> str | None:
        """Enough of them, and enough of the text."""
        if value >= self.count and value / max(len(view.words), 1) > self.share:
            return f"dirty_words {self.count} or more and above {self.share:.1%}"
        return None


class DuplicateLines(Repetition):
    """Characters in lines that stood in the document before."""

    def value(self, view: View) -> float:
        """Share of the lines' characters."""
        total = sum(map(len, view.lines))
        return 1 - sum(map(len, set(view.lines))) / total if total else 0.0


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
        return int(np.count_nonzero(view.kinds & ALPHABETIC)) / max(view.solid, 1)

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
        *published_rules(config.published),
    ]


def judge(view: View, rules: list[Rule]) -> tuple[dict[str, float], str | None]:
    """Every rule's value, and the reason of the first rule that rejects."""
    values = {rule.name: rule.value(view) for rule in rules}
    reasons = (rule.reject(values[rule.name], view) for rule in rules)
    return values, next((reason for reason in reasons if reason), None)
