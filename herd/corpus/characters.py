"""What stands at each place of a text, as an array: letters, white space and signs are counted without a loop.

    int(np.count_nonzero(kinds(text) & ALPHABETIC))

A kind is a set of bits; they mean exactly what Python's methods and patterns mean by them.  The table of all characters
is filled as they come.
"""

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Kinds = NDArray[np.uint16]

ALPHABETIC, ALPHANUMERIC, SPACE, WORD, UNSPACED, SYMBOL, LATIN, BEFORE_CODE, AFTER_WORD, DECIMAL = (
    1 << n for n in range(10)
)
_KNOWN = 1 << 15

# Scripts written without spaces: each character is a word of its own.
UNSPACED_SCRIPTS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"


def _pattern(characters: str) -> Callable[[str], bool]:
    compiled = re.compile(characters)
    return lambda character: compiled.match(character) is not None


_TESTS: dict[int, Callable[[str], bool]] = {
    ALPHABETIC: str.isalpha,
    ALPHANUMERIC: str.isalnum,
    SPACE: str.isspace,
    WORD: _pattern(r"\w"),
    UNSPACED: _pattern(f"[{UNSPACED_SCRIPTS}]"),
    # Neither letters, digits, white space nor common punctuation.
    SYMBOL: _pattern(r"[^\w\s.,;:!?'\"()\u2010-\u201f-]"),
    LATIN: _pattern("[A-Za-zÀ-ɏ]"),
    # What makes the letters behind it part of an expression, and what may follow a word of prose.
    BEFORE_CODE: _pattern(r"[\w.(=]"),
    AFTER_WORD: _pattern(r"[\s,;:.!?)]"),
    DECIMAL: str.isdecimal,  # what \d matches
}
_TABLE = np.zeros(0x110000, dtype=np.uint16)


def code_points(text: str) -> NDArray[np.uint8] | NDArray[np.uint32]:
    """The number of each character; lone surrogates too have one."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def kinds(text: str) -> Kinds:
    """What each character of ``text`` is."""
    return kinds_of(code_points(text))


def kinds_of(codes: NDArray[np.uint8] | NDArray[np.uint32]) -> Kinds:
    """What each of the characters with these numbers is."""
    found: Kinds = _TABLE[codes]
    if not found.all():
        for code in np.unique(codes[found == 0]).tolist():
            _TABLE[code] = _KNOWN | sum(bit for bit, test in _TESTS.items() if test(chr(code)))
        found = _TABLE[codes]
    return found


class Digits:
    """Where the decimal digits of a text are, which tells most patterns of numbers that they need not look."""

    def __init__(self, text: str) -> None:
        self._places = np.flatnonzero(kinds(text) & DECIMAL)

    def crowd(self, count: int, reach: int) -> bool:
        """Whether ``count`` of them anywhere lie so close that the last is at most ``reach`` behind the first."""
        runs = max(len(self._places) - count + 1, 0)
        return bool((self._places[len(self._places) - runs :] - self._places[:runs] <= reach).any())
