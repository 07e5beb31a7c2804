"""Arithmetic expressions with their value: drawn from a list of numbers, written in signs or in words.

Every number of two digits and more comes from the split's own numbers; an expression holds at least one of them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

_SHAPES = (
    "a + b",
    "a - b",
    "a * s",
    "a * b",
    "a * b + c",
    "a * b - s",
    "a + b + c",
    "a + b - c",
    "(a + b) * s",
    "(a - s) * s",
    "a + s * b",
)
_IN_WORDS = {" + ": " plus ", " - ": " minus ", " * ": " times "}
_SHARE_IN_WORDS = 0.25


@dataclass(frozen=True)
class Expression:
    """An expression as Python source, as the user writes it, and its value."""

    code: str
    text: str
    value: int
    shape: str


def draw_expression(numbers: Sequence[int], chance: random.Random) -> Expression:
    """Draws one expression; ``a``, ``b``, ``c`` come from ``numbers``, ``s`` is one digit."""
    shape = chance.choice(_SHAPES)
    fill = {"a": str(chance.choice(numbers)), "b": str(chance.choice(numbers)), "c": str(chance.choice(numbers))}
    code = "".join(fill.get(sign) or (str(chance.randint(2, 9)) if sign == "s" else sign) for sign in shape)
    in_words = "(" not in code and chance.random() < _SHARE_IN_WORDS
    return Expression(code, _words(code) if in_words else code, value_of(code), "words" if in_words else "signs")


def _words(code: str) -> str:
    for sign, word in _IN_WORDS.items():
        code = code.replace(sign, word)
    return code


def value_of(code: str) -> int:
    """The value of an expression in ``+ - *``, brackets and whole numbers; nothing else is evaluated."""
    if set(code) - set("0123456789+-*() "):
        raise ValueError(f"{code!r} is not an expression in + - * and whole numbers")
    return int(eval(code, {"__builtins__": {}}))
