"""Output that must fit: a JSON schema, a regular expression or a list of choices.

The parsing is llguidance's (native code): before each token it says which ids may follow, and the engine removes the
others from the distribution.  A ``Grammar`` is only the description and may be shared by any number of requests;
``GrammarCompiler`` binds it to a vocabulary.

    sampling = Sampling(grammar=Grammar.json_schema({"type": "object", ...}))
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import llguidance
import llguidance.numpy
import numpy as np
import torch
from torch import Tensor

from herd.foundation.errors import HerdError
from herd.tokenizer.tokenizer import Tokenizer

_COMPILED = 64


@dataclass(frozen=True)
class Grammar:
    """A language that the whole output must belong to; ``source`` is llguidance's own form of it."""

    source: str
    description: str

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any] | str, whitespace: bool = False) -> "Grammar":
        """JSON that validates against ``schema``; without ``whitespace`` between its parts it is written compactly."""
        try:
            parsed = json.loads(schema) if isinstance(schema, str) else dict(schema)
            options: Any = {"whitespace_flexible": whitespace}
            source = llguidance.LLMatcher.grammar_from_json_schema(parsed, defaults=options)
        except (ValueError, TypeError) as error:
            raise HerdError(f"the JSON schema cannot be read ({error})") from None
        return cls._checked(source, "JSON schema")

    @classmethod
    def json_object(cls) -> "Grammar":
        """Any JSON object."""
        return cls.json_schema({"type": "object"})

    @classmethod
    def regex(cls, pattern: str) -> "Grammar":
        """Text that ``pattern`` matches from end to end (Rust's regular expressions, no look-around)."""
        return cls._checked(llguidance.LLMatcher.grammar_from_regex(pattern), "regular expression")

    @classmethod
    def lark(cls, rules: str, description: str) -> "Grammar":
        """What ``rules`` in llguidance's kind of Lark derive from ``start``; ``description`` names it in an error."""
        return cls._checked(llguidance.LLMatcher.grammar_from_lark(rules), description)

    @classmethod
    def choice(cls, options: Sequence[str]) -> "Grammar":
        """One of ``options``, literally."""
        if not options or not all(options):
            raise HerdError("a list of choices needs at least one, and none may be empty")
        return cls.regex("|".join(f"(?:{_escape(option)})" for option in options))

    @classmethod
    def _checked(cls, source: str, description: str) -> "Grammar":
        failed, messages = llguidance.LLMatcher.validate_grammar_with_warnings(source)
        if failed:
            raise HerdError(f"the {description} cannot be used: {_first_line(messages)}")
        return cls(source, description)


def _escape(text: str) -> str:
    return re.sub(r"([\\.+*?()|\[\]{}^$#&~\-/])", r"\\\1", text)


def _first_line(messages: Sequence[str]) -> str:
    return messages[0].strip().splitlines()[0] if messages else "it is not valid"


class _Vocabulary:
    """The herd tokenizer in the shape that llguidance asks for."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = tokenizer.eos_id
        self.bos_token_id = tokenizer.bos_id
        self.tokens = [tokenizer.decode_bytes([token]) for token in range(tokenizer.vocab_size)]
        self.tokens += [b""] * (vocab_size - len(self.tokens))
        self.special_token_ids = [*tokenizer.special.values(), *range(tokenizer.vocab_size, vocab_size)]

    def __call__(self, text: str | bytes) -> list[int]:
        return self._tokenizer.encode_continuation(text if isinstance(text, str) else text.decode("utf-8"))


class Matcher:
    """The state of one output's grammar."""

    def __init__(self, native: llguidance.LLMatcher) -> None:
        self.native = native

    def accept(self, token: int) -> bool:
        """Moves past ``token``; True if nothing may follow it any more."""
        self.native.consume_token(token)
        if self.native.is_error():
            raise HerdError(f"constrained decoding stopped: {_first_line([self.native.get_error()])}")
        return bool(self.native.is_stopped())


class GrammarCompiler:
    """Makes matchers for one vocabulary of ``vocab_size`` ids, and masks for a batch of them."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._tokenizer = llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(_Vocabulary(tokenizer, vocab_size)), eos_token=list(tokenizer.stop_ids)
        )
        self._executor = llguidance.LLExecutor()
        self._compiled = lru_cache(maxsize=_COMPILED)(self._compile)

    def _compile(self, source: str) -> llguidance.LLMatcher:
        return llguidance.LLMatcher(self._tokenizer, source)

    def matcher(self, grammar: Grammar) -> Matcher:
        """A fresh matcher; compiling is paid once per grammar."""
        compiled = self._compiled(grammar.source)
        if compiled.is_error():
            raise HerdError(f"the {grammar.description} cannot be used: {_first_line([compiled.get_error()])}")
        return Matcher(compiled.deep_copy())

    def mask(self, matchers: Iterable[Matcher]) -> Tensor:
        """True at every id that may come next, (matchers, vocab_size)."""
        natives = [(matcher.native, row) for row, matcher in enumerate(matchers)]
        bits = llguidance.numpy.allocate_token_bitmask(len(natives), self._vocab_size)
        llguidance.numpy.fill_next_token_bitmask_par(self._executor, natives, bits)
        flat = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")
        return torch.from_numpy(flat[:, : self._vocab_size].astype(bool))
