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

from herd.foundation.errors import HerdError
from herd.foundation.files import digest_value
from herd.tokenizer.calls import dump_json, read_call
from herd.tokenizer.tokenizer import Tokenizer

Kind = Literal["content", "call"]

_BROKEN = "\udcff"
"""Stands for bytes that are not UTF-8 until they become U+FFFD, which a model may also write on purpose."""


def _mark_broken(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _BROKEN, error.end


codecs.register_error("herd.mark", _mark_broken)


@dataclass(frozen=True)
class Piece:
    """Some more text of the answer (``content``) or of the wire form of a tool call (``call``)."""

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

    def __init__(self, tokenizer: Tokenizer, *, call_id: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._call_id = call_id
        self._kind: Kind = "content"
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
        if self._kind == "content":
            self._check_stop(self._tokenizer.eot_id)
            return self._parsed({"role": "assistant", "content": content})
        call = self._read_call(call_text)
        if call is None:
            self._blame("its tool call cannot be read")
            return self._parsed({"role": "assistant", "content": content + call_text})
        self._check_stop(self._tokenizer.eom_id)
        return self._parsed({"role": "assistant", "content": content or None, "tool_calls": [call]})

    def _take(self, ordinary: list[int], pieces: list[Piece]) -> None:
        if ordinary:
            self._add(self._decoder.decode(self._tokenizer.decode_bytes(ordinary)), pieces)

    def _add(self, text: str, pieces: list[Piece]) -> None:
        if _BROKEN in text:
            self._blame("its bytes are not UTF-8")
            text = text.replace(_BROKEN, "\ufffd")
        if text:
            self._texts[self._kind].append(text)
            pieces.append(Piece(self._kind, text))

    def _close_text(self, pieces: list[Piece]) -> None:
        """Ends a stretch of text: bytes still waiting for their character are broken."""
        self._add(self._decoder.decode(b"", final=True), pieces)

    def _control(self, token: int, pieces: list[Piece]) -> None:
        if self._stop_id is not None:
            self._blame("something follows its end")
            return
        self._close_text(pieces)
        if token in self._tokenizer.stop_ids:
            self._stop_id = token
        elif token == self._tokenizer.python_tag_id and self._kind == "content":
            self._kind = "call"
        else:
            self._blame("it holds a control token out of place")

    def _read_call(self, text: str) -> dict[str, Any] | None:
        """The call in OpenAI's shape; None where it cannot be read or was cut before its end."""
        read = read_call(text) if self._stop_id is not None else None
        if read is None:
            return None
        name, arguments = read
        try:
            written = dump_json(arguments, "the arguments")
        except HerdError:
            return None
        call_id = self._call_id or f"call_{digest_value([name, written])[:12]}"
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": written}}

    def _check_stop(self, expected: int) -> None:
        if self._stop_id is not None and self._stop_id != expected:
            self._blame("it ends with the terminator of another kind of message")

    def _blame(self, problem: str) -> None:
        self._problem = self._problem or problem

    def _parsed(self, message: dict[str, Any]) -> Parsed:
        return Parsed(message, self._problem is None, self._stop_id, self._problem)
