"""Reading what an assistant generates, while it generates: ids in, pieces of text and a message out.

    parser = StreamParser(tokenizer)
    for ids in arriving:
        for piece in parser.feed(ids):       # Piece("content", "It retur"), then Piece("content", "ns …")
            show(piece)
    parsed = parser.finish()                  # the message, whether it was well-formed, and how it ended

Any chunking of the same ids gives the same text, piece boundaries apart, and the same message. Nothing that a model
can generate raises: what is cut short or out of place comes back with ``well_formed=False``.
"""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import regex

from herd.foundation.errors import HerdError
from herd.foundation.files import digest_value
from herd.tokenizer.calls import Call, dump_json
from herd.tokenizer.dialects import Dialect
from herd.tokenizer.tokenizer import Tokenizer

Kind = Literal["content", "call"]

_BROKEN = "\udcff"
"""Stands for bytes that are not UTF-8 until they become U+FFFD, which a model may also write on purpose."""
_CALL_BEGINS = regex.compile(r'\s*(?:\{\s*"|<function=|\[\s*[\p{L}_][\w.]*\()')
"""What a call without ``<|python_tag|>`` begins with; only the end tells whether it is one."""


def _mark_broken(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _BROKEN, error.end


codecs.register_error("herd.mark", _mark_broken)


@dataclass(frozen=True)
class Piece:
    """Some more text of the answer (``content``) or of the wire form of a tool call (``call``).

    In dialects with calls that nothing announces, a ``call`` may turn out to be content in the end.
    """

    kind: Kind
    text: str


@dataclass(frozen=True)
class Parsed:
    """An assistant message read back.

    ``message`` holds ``content`` (None where there is only a call) and ``tool_calls`` where there is one. A call that
    cannot be read stays in ``content`` as text. ``well_formed``: exactly one terminator, at the end, of the right kind
    (``<|eot_id|>`` after text, ``<|eom_id|>`` after a call), no stray control token, valid UTF-8, a readable call.
    ``stop_id``: the terminator met, None if the text was cut before it. ``problem``: why it is not well-formed.
    """

    message: dict[str, Any]
    well_formed: bool
    stop_id: int | None
    problem: str | None = None


class StreamParser:
    """Reads one assistant message from ids that arrive in any chunks."""

    def __init__(self, tokenizer: Tokenizer, dialect: Dialect, *, call_id: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._dialect = dialect
        self._call_id = call_id
        self._kind: Kind = "content"
        self._tagged = False
        self._undecided = dialect.bare_calls
        self._held = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="herd.mark")
        self._texts: dict[Kind, list[str]] = {"content": [], "call": []}
        self._stop_id: int | None = None
        self._problem: str | None = None

    def feed(self, ids: Sequence[int]) -> list[Piece]:
        """Takes more ids; returns the text that they complete, characters whose bytes are not all there held back."""
        pieces: list[Piece] = []
        ordinary: list[int] = []
        for token in ids:
            if 0 <= token < len(self._tokenizer.ranks) and self._stop_id is None:
                ordinary.append(token)
                continue
            self._take(ordinary, pieces)
            ordinary = []
            self._control(token, pieces)
        self._take(ordinary, pieces)
        return pieces

    def finish(self) -> Parsed:
        """Ends the message and reads it as a whole."""
        self._close_text([])
        if self._stop_id is None:
            self._blame("it was cut before its end")
        content, call_text = "".join(self._texts["content"]), "".join(self._texts["call"])
        calls = self._read_calls(call_text) if self._kind == "call" else None
        if calls is not None:
            self._check_stop(self._dialect.ends_message(self._tagged))
            return self._parsed({"role": "assistant", "content": content or None, "tool_calls": calls})
        if self._tagged:
            self._blame("its tool call cannot be read")
        else:
            self._check_stop(False)
        return self._parsed({"role": "assistant", "content": content + call_text})

    def _take(self, ordinary: list[int], pieces: list[Piece]) -> None:
        if ordinary:
            self._add(self._decoder.decode(self._tokenizer.decode_bytes(ordinary)), pieces)

    def _add(self, text: str, pieces: list[Piece]) -> None:
        if _BROKEN in text:
            self._blame("its bytes are not UTF-8")
            text = text.replace(_BROKEN, "\ufffd")
        if self._undecided:
            text = self._decide(text)
        self._put(text, pieces)

    def _decide(self, text: str) -> str:
        """Holds the answer's first text back until it shows whether a call without a tag may begin here."""
        self._held += text
        begun = _CALL_BEGINS.match(self._held, partial=True)
        if begun is not None and begun.partial:
            return ""
        self._kind = "content" if begun is None else "call"
        return self._release()

    def _release(self) -> str:
        """What was held back, once it is decided what it is."""
        text, self._held, self._undecided = self._held, "", False
        return text

    def _put(self, text: str, pieces: list[Piece]) -> None:
        if text:
            self._texts[self._kind].append(text)
            pieces.append(Piece(self._kind, text))

    def _close_text(self, pieces: list[Piece]) -> None:
        """Ends a stretch of text: bytes still waiting for their character are broken, text held back is content."""
        self._add(self._decoder.decode(b"", final=True), pieces)
        self._put(self._release(), pieces)

    def _control(self, token: int, pieces: list[Piece]) -> None:
        if self._stop_id is not None:
            self._blame("something follows its end")
            return
        self._close_text(pieces)
        if token in self._tokenizer.stop_ids:
            self._stop_id = token
        elif token == self._tokenizer.python_tag_id and self._kind == "content":
            self._kind, self._tagged = "call", True
        else:
            self._blame("it holds a control token out of place")

    def _read_calls(self, text: str) -> list[dict[str, Any]] | None:
        """The calls in OpenAI's shape; None where they cannot be read or were cut before their end."""
        read = self._dialect.read(text, self._tagged) if self._stop_id is not None else None
        if read is None:
            return None
        try:
            return [self._in_openai_shape(call, place) for place, call in enumerate(read)]
        except HerdError:
            return None

    def _in_openai_shape(self, call: Call, place: int) -> dict[str, Any]:
        """One call; the same call at the same place always has the same id, unless one was given."""
        name, arguments = call
        written = dump_json(arguments, "the arguments")
        if self._call_id is None:
            call_id = f"call_{digest_value([name, written, place] if place else [name, written])[:12]}"
        else:
            call_id = f"{self._call_id}_{place}" if place else self._call_id
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": written}}

    def _check_stop(self, ends_message: bool | None) -> None:
        """Blames a terminator other than the expected one; None: the end of a message and of a turn are both right."""
        tokenizer = self._tokenizer
        right = {True: (tokenizer.eom_id,), False: (tokenizer.eot_id,), None: (tokenizer.eom_id, tokenizer.eot_id)}
        if self._stop_id is not None and self._stop_id not in right[ends_message]:
            self._blame("it ends with the terminator of another kind of message")

    def _blame(self, problem: str) -> None:
        self._problem = self._problem or problem

    def _parsed(self, message: dict[str, Any]) -> Parsed:
        return Parsed(message, self._problem is None, self._stop_id, self._problem)
