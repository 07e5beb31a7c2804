"""The one chat encoder: messages to token ids and loss masks, and generated ids back to messages.

Everything in Herd that speaks to a model (SFT, reward, DPO, sampling, evaluation, guard, server) comes through here;
strings are never glued elsewhere.

    chat = ChatFormat(tokenizer)                                   # or ChatFormat(tokenizer, "huggingface")
    prompt = chat.encode(messages, tools=["search", "python"], open_assistant=True).ids
    answer = chat.parse(generated_ids)        # the terminator included
    answer.message, answer.well_formed

The format is that of the fact sheet, section 14, in one of its dialects (``dialects``).
``encode(m, open_assistant=True).ids`` is always a prefix of ``encode(m + [answer]).ids``, and text inside a message
never becomes a control token.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from herd.foundation.errors import HerdError
from herd.tokenizer import llama_guard, special
from herd.tokenizer.calls import Call, read_arguments
from herd.tokenizer.dialects import Dates, Dialect, Offer, dialect_of
from herd.tokenizer.functions import tool_name
from herd.tokenizer.reply import Parsed, StreamParser
from herd.tokenizer.tokenizer import Tokenizer

__all__ = ["ChatFormat", "Dates", "EncodedChat", "Message", "Span", "content_text", "tool_name"]

Message = Mapping[str, Any]
"""OpenAI's shape: ``role``, ``content``, and ``tool_calls`` or ``tool_call_id`` where they apply."""

_WIRE_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "ipython",
    "ipython": "ipython",
}
_IMAGE_PARTS = ("image", "image_url", "input_image")

Part = str | None
"""A piece of a message's content: text, or None for an image."""


@dataclass(frozen=True)
class Span:
    """Where a part of a conversation lies in its ids: ``ids[start:end]``.

    ``message``: the number of the message, None for what stands around messages (the begin token, a system block or a
    description of functions that no message gave, the header of the answer to come).  ``part``: ``begin``, ``header``,
    ``content``, ``call`` (``<|python_tag|>`` included) or ``end`` (the terminator).  Spans follow one another without
    gaps; one without ids is left out.
    """

    start: int
    end: int
    role: str
    part: Literal["begin", "header", "content", "call", "end"]
    message: int | None


@dataclass
class EncodedChat:
    """Token ids of a conversation, and which of them the model is trained to emit.

    ``mask``: what the assistant says, terminators included. ``content_mask``: the same without the terminators, for
    DPO (paper section 4.1.4: formatting tokens carry no preference); ``<|python_tag|>`` counts as content, since the
    choice to call a tool is one of the things that preferences are about.
    """

    ids: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    content_mask: list[bool] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    def _add(
        self,
        ids: Sequence[int],
        role: str,
        part: Literal["begin", "header", "content", "call", "end"],
        message: int | None = None,
    ) -> None:
        """Adds a span; what an assistant says in ``content``, ``call`` and ``end`` is trained."""
        said = role == "assistant" and part in ("content", "call", "end")
        if ids:
            self.spans.append(Span(len(self.ids), len(self.ids) + len(ids), role, part, message))
        self.ids += ids
        self.mask += [said] * len(ids)
        self.content_mask += [said and part != "end"] * len(ids)


class ChatFormat:
    """Encodes and parses conversations with one tokenizer, in one dialect."""

    def __init__(self, tokenizer: Tokenizer, dialect: str | None = None, *, images: bool = False) -> None:
        """``dialect``: a name of ``dialects.DIALECTS``; None: the tokenizer's own.  ``images``: whether the model reads
        images; each then stands as ``<|image|>``, and otherwise they are refused.
        """
        self.tokenizer = tokenizer
        self.dialect: Dialect = dialect_of(tokenizer.dialect if dialect is None else dialect)
        self._images = images
        self._blank_line = tokenizer.encode("\n\n")
        self._headers = {role: self._header(role) for role in ("system", "user", "assistant", "ipython")}

    def encode(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Any] | None = None,
        dates: Dates | None = None,
        open_assistant: bool = False,
    ) -> EncodedChat:
        """Encodes a conversation; ``open_assistant`` ends it with the header of the answer that is to come.

        ``tools`` are names (``"search"``, ``"python"``) or OpenAI's tool objects; functions that are not built in are
        described in or before the first user message. ``dates`` go into the system block. Raises ``HerdError`` naming
        the message for an unknown role, content that is not text, a tool result without a call, or calls that the
        dialect cannot carry.
        """
        encoded, offer = EncodedChat(), self.dialect.offer(tools)
        encoded._add([self.tokenizer.bos_id], "system", "begin")
        first = self._open(encoded, messages, offer, dates)
        prefix = self.dialect.first_user_prefix(offer)
        for number in range(first, len(messages)):
            message, role = messages[number], _wire_role(messages[number], number)
            if prefix and role != "user":
                raise HerdError(f"message {number}: functions stand in the first user message, and this is a {role}'s")
            if role == "assistant":
                self._add_answer(encoded, message, number, offer)
            elif role == "ipython":
                _check_result(messages, number)
                self._add_block(encoded, role, [self.dialect.result(content_text(message, number))], number)
            else:
                self._add_block(encoded, role, self._parts(message, number, prefix), number)
            prefix = ""
        if prefix:
            raise HerdError("functions stand in the first user message, and there is none")
        if open_assistant:
            encoded._add(self._headers["assistant"], "assistant", "header")
        return encoded

    def encode_guard(self, messages: Sequence[Message], categories: Sequence[str] | None = None) -> EncodedChat:
        """The prompt of Llama Guard 3 for the last of ``messages`` (section 14.7), the verdict's header open.

        ``categories``: codes to judge by, without renumbering; None: all 14.
        """
        roles = {"user": "User", "assistant": "Agent"}
        turns = []
        for number, message in enumerate(messages):
            role = roles.get(_wire_role(message, number))
            if role is None:
                raise HerdError(f"message {number}: Llama Guard judges users and assistants, not {message['role']!r}")
            turns.append((role, content_text(message, number)))
        encoded = EncodedChat()
        encoded._add([self.tokenizer.bos_id], "system", "begin")
        self._add_block(encoded, "user", [llama_guard.prompt_text(turns, categories)], None)
        encoded._add(self._headers["assistant"], "assistant", "header")
        return encoded

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Any] | None = None,
        dates: Dates | None = None,
        open_assistant: bool = False,
    ) -> str:
        """The conversation as one string, for people to read; models are given ``encode``'s ids."""
        encoded = self.encode(messages, tools=tools, dates=dates, open_assistant=open_assistant)
        return self.tokenizer.decode(encoded.ids)

    def parse(self, generated: Sequence[int] | str, *, call_id: str | None = None) -> Parsed:
        """What an assistant generated, from its first token to its terminator, as a message. Never raises on text.

        A string is read with control tokens by name. ``call_id`` names the call if there is one.
        """
        if isinstance(generated, str):
            generated = self.tokenizer.encode(generated, allow_special=True)
        parser = self.stream_parser(call_id=call_id)
        parser.feed(generated)
        return parser.finish()

    def stream_parser(self, *, call_id: str | None = None) -> StreamParser:
        """A parser for ids that arrive a few at a time."""
        return StreamParser(self.tokenizer, self.dialect, call_id=call_id)

    def _header(self, role: str) -> list[int]:
        tokenizer = self.tokenizer
        name = tokenizer.encode(role)
        return [tokenizer.start_header_id, *name, tokenizer.end_header_id, *self._blank_line]

    def _open(
        self, encoded: EncodedChat, messages: Sequence[Message], offer: Offer, dates: Dates | None
    ) -> Literal[0, 1]:
        """Writes the system block and the functions' description; returns the number of the next message to write."""
        first_is_system = bool(messages) and _wire_role(messages[0], 0) == "system"
        system = content_text(messages[0], 0) if first_is_system else ""
        if text := self.dialect.system_text(system, offer, dates):
            self._add_block(encoded, "system", [text], 0 if first_is_system else None)
        if functions := self.dialect.functions_block(offer):
            self._add_block(encoded, "user", [functions], None)
        return 1 if first_is_system else 0

    def _parts(self, message: Message, number: int, prefix: str = "") -> list[Part]:
        """A message's content as it is written; images are left where they stand."""
        parts = content_parts(message, number)
        if None not in parts:
            return [prefix + self.dialect.content("".join(filter(None, parts)))]
        if not self._images:
            raise HerdError(f"message {number}: it holds an image, and this model reads text alone")
        return [prefix, *parts]

    def _encode_parts(self, parts: Sequence[Part]) -> list[int]:
        """Ids of content; neighbouring texts are encoded as one."""
        ids: list[int] = []
        for is_image, group in itertools.groupby(parts, lambda part: part is None):
            if is_image:
                ids += [self.tokenizer.special_id(special.IMAGE) for _ in group]
            else:
                ids += self.tokenizer.encode("".join(filter(None, group)))
        return ids

    def _add_block(self, encoded: EncodedChat, role: str, parts: Sequence[Part], number: int | None) -> None:
        encoded._add(self._headers[role], role, "header", number)
        with _naming(number):
            encoded._add(self._encode_parts(parts), role, "content", number)
        encoded._add([self.tokenizer.eot_id], role, "end", number)

    def _add_answer(self, encoded: EncodedChat, message: Message, number: int, offer: Offer) -> None:
        tokenizer, calls = self.tokenizer, calls_of(message, number)
        parts = self._parts(message, number)
        encoded._add(self._headers["assistant"], "assistant", "header", number)
        with _naming(number):
            encoded._add(self._encode_parts(parts), "assistant", "content", number)
        if not calls:
            encoded._add([tokenizer.eot_id], "assistant", "end", number)
            return
        with _naming(number):
            written = self.dialect.write(calls, offer)
            if not written.tagged and any(parts):
                raise HerdError("it holds words beside a call; this form of call stands alone")
            tag = [tokenizer.python_tag_id] if written.tagged else []
            encoded._add([*tag, *tokenizer.encode(written.text)], "assistant", "call", number)
        encoded._add([tokenizer.eom_id if written.ends_message else tokenizer.eot_id], "assistant", "end", number)


@contextmanager
def _naming(number: int | None) -> Iterator[None]:
    """Puts the message's number before what is wrong with it; None: it is nobody's message."""
    try:
        yield
    except HerdError as error:
        if number is None:
            raise
        raise HerdError(f"message {number}: {error}") from None


def content_text(message: Message, number: int) -> str:
    """The text of a message's content: a string, OpenAI's list of text parts, or nothing."""
    parts = content_parts(message, number)
    if None in parts:
        raise HerdError(f"message {number}: its content is neither text nor a list of text parts")
    return "".join(filter(None, parts))


def content_parts(message: Message, number: int) -> list[Part]:
    """A message's content as texts and images, in their order."""
    content = message.get("content")
    if content is None or isinstance(content, str):
        return [content or ""]
    if isinstance(content, Sequence) and all(map(_is_part, content)):
        return [None if part["type"] in _IMAGE_PARTS else part["text"] for part in content]
    raise HerdError(f"message {number}: its content is neither text nor a list of text parts")


def _is_part(part: Any) -> bool:
    if not isinstance(part, Mapping):
        return False
    return part.get("type") in _IMAGE_PARTS or (part.get("type") == "text" and isinstance(part.get("text"), str))


def calls_of(message: Message, number: int) -> list[Call]:
    """The calls of a message, names and arguments; ``HerdError`` names the message whose call cannot be read."""
    calls = message.get("tool_calls") or []
    if not isinstance(calls, Sequence):
        raise HerdError(f"message {number}: its tool calls are not a list")
    return [_call_of(call, number) for call in calls]


def _call_of(call: Any, number: int) -> Call:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise HerdError(f"message {number}: its tool call names no function")
    try:
        return function["name"], read_arguments(function["name"], function.get("arguments"))
    except HerdError as error:
        raise HerdError(f"message {number}: {error}") from None


def _wire_role(message: Message, number: int) -> str:
    role = message.get("role")
    if not isinstance(role, str) or role not in _WIRE_ROLES:
        raise HerdError(f"message {number}: the role {role!r} does not exist; use system, user, assistant or tool")
    return _WIRE_ROLES[role]


def _check_result(messages: Sequence[Message], number: int) -> None:
    """``HerdError`` unless the message before the results is a call that this one answers; they keep the calls' order.

    The wire carries no names of calls, so that only the order tells which result belongs to which call.
    """
    first = number
    while first and messages[first - 1].get("role") in ("tool", "ipython"):
        first -= 1
    before = messages[first - 1] if first else {}
    calls = before.get("tool_calls") if before.get("role") == "assistant" else None
    place = number - first
    if not calls or place >= len(calls):
        raise HerdError(f"message {number}: a tool result without a call before it")
    wanted, given = calls[place].get("id"), messages[number].get("tool_call_id")
    if wanted is not None and given is not None and wanted != given:
        raise HerdError(
            f"message {number}: the result answers the call {given!r}, but the call before it is {wanted!r}"
        )
