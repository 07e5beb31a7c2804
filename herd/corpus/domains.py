"""Which of the mix's four domains a document belongs to: general, math, code or multilingual.

The paper separates math-relevant and code pages from the rest and mixes the four in fixed shares (sections 3.1.1 and
3.1.2).  Code is what came as source code or reads like it line by line; multilingual is prose whose language is surely
not English; math is told by the density of mathematical vocabulary and of formulas.
"""

import re
from importlib.resources import files
from typing import Literal

from herd.corpus.language import UNDETERMINED, Language
from herd.foundation.config import Config

Domain = Literal["general", "math", "code", "multilingual"]
DOMAINS: tuple[Domain, ...] = ("general", "math", "code", "multilingual")


class DomainConfig(Config):
    """Shares of words (``math_share``) and of lines (``code_share``) from which a document changes domain."""

    math_share: float = 0.03
    code_share: float = 0.7
    minimum_words: int = 20
    foreign_confidence: float = 0.8
    sample_characters: int = 60_000


_MATH_WORDS = frozenset(files("herd.corpus").joinpath("wordlists/math.txt").read_text(encoding="utf-8").split())
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_FORMULA = re.compile(
    r"[∑∏∫√∂∇≤≥≠≈≡∈∉⊂⊆∪∩∀∃∞±×÷πθλσμΔΩαβγ]"
    r"|\\(?:frac|sum|int|sqrt|alpha|beta|pi|theta|lambda|sigma|cdot|times|leq?|geq?|in|left|mathbb|mathrm|text)\b"
    r"|\$[^$\n]{1,200}\$"
    r"|\b[a-z]\s?\^\s?[\d{(n]"
    r"|\b[a-zA-Z]\s?=\s?[a-zA-Z\d]\s?[-+*/^]\s?[a-zA-Z\d]"
)
_FORMULA_SIGN = re.compile(r"[∑∏∫√∂∇≤≥≠≈≡∈∉⊂⊆∪∩∀∃∞±×÷πθλσμΔΩαβγ\\$^=]")  # each formula holds one
_CODE_LINE = re.compile(
    r"^\s*(?:def |class |import |from \w[\w.]* import |return\b|if .*:$|elif .*:$|else:$|for .*:$|while .*:$|try:$"
    r"|except\b.*:$|with .*:$|@\w|#include|public |private |static |const |let |var |fn |func |package |use |\}|//|/\*"
    r"|\*/)|[;{}]\s*$|^\s*[\w.\[\]]+ = .|^\s*[\w.]+\(.*\)\s*$"
)


def math_density(text: str) -> float:
    """Mathematical words and formulas as a share of all words; formulas without any such word are other symbols."""
    return _math_density(_WORD.findall(text), text)


def _math_density(words: list[str], text: str) -> float:
    hits = sum(map(_MATH_WORDS.__contains__, map(str.lower, words)))
    formulas = min(len(_FORMULA.findall(text)), 20 * hits) if hits and _FORMULA_SIGN.search(text) else 0
    return (hits + formulas) / max(len(words), 1)


def code_density(text: str) -> float:
    """The share of the lines that are written that reads like statements of a programming language."""
    lines = [line for line in text.splitlines() if line.strip()]
    return sum(_CODE_LINE.search(line) is not None for line in lines) / max(len(lines), 1)


def _is_code(text: str, share: float) -> bool:
    """Whether ``code_density`` is ``share`` or more; prose is told by its first lines."""
    lines = [line for line in text.splitlines() if line.strip()]
    possible = len(lines)
    for line in lines:
        if possible / len(lines) < share:
            return False
        possible -= _CODE_LINE.search(line) is None
    return possible / max(len(lines), 1) >= share


def classify(text: str, kind: str, language: Language | None, config: DomainConfig) -> Domain:
    """The domain of a document; ``kind`` is the page's ("code" is believed), ``language`` is None for code."""
    if kind == "code" or language is None:
        return "code"
    if language.code not in ("en", UNDETERMINED) and language.confidence >= config.foreign_confidence:
        return "multilingual"
    sample = text[: config.sample_characters]
    words = _WORD.findall(sample)
    if len(words) >= config.minimum_words and _math_density(words, sample) >= config.math_share:
        return "math"
    return "code" if _is_code(sample, config.code_share) else "general"
