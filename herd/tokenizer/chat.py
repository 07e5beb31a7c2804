"""The one chat encoder: messages to token ids and loss masks, and generated ids back to messages.

Everything in Herd that speaks to a model (SFT, reward, DPO, sampling, evaluation, guard, server) comes through here;
strings are never glued elsewhere.

    chat = ChatFormat(tokenizer)
    prompt = chat.encode(messages, tools=["search", "python"], open_assistant=True).ids
    answer = chat.parse(generated_ids)        # the terminator included
    answer.message, answer.well_formed

The format is that of the fact sheet, section 14. ``encode(m, open_assistant=True).ids`` is always a prefix of
``encode(m + [answer]).ids``, and text inside a message never becomes a control token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from herd.foundation.errors import HerdError
from herd.tokenizer.calls import PYTHON_TOOL, SEARCH_TOOLS, dump_json, read_arguments, write_call
from herd.tokenizer.reply import Parsed, StreamParser
from herd.tokenizer.tokenizer import Tokenizer

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

_FUNCTIONS_HEAD = (
    "Answer the user's question by making use of the following functions if needed.\n"
    "If none of the function can be used, please say so.\n"
    "Here is a list of functions in JSON format:\n"
)
_FUNCTIONS_TAIL = "\n\nReturn function calls in JSON format."


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

    def _add(self, ids: Sequence[int], mask: bool = False, content: bool = False) -> None:
        self.ids += ids
        self.mask += [mask] * len(ids)
        self.content_mask += [content] * len(ids)


class ChatFormat:
    """Encodes and parses conversations with one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._blank_line = tokenizer.encode("\n\n")
        self._headers = {role: self._header(role) for role in ("system", "user", "assistant", "ipython")}

    def encode(
        self, messages: Sequence[Message], *, tools: Sequence[Any] | None = None, open_assistant: bool = False
    ) -> EncodedChat:
        """Encodes a conversation; ``open_assistant`` ends it with the header of the answer that is to come.

        ``tools`` are names (``"search"``, ``"python"``) or OpenAI's tool objects; functions that are not built in are
        described in a user message of their own before the first message. Raises ``HerdError`` naming the message
        for an unknown role, content that is not text, a tool result without a call, or several calls in one message.
        """
        encoded = EncodedChat()
        encoded._add([self.tokenizer.bos_id])
        for number in range(self._open(encoded, messages, tools), len(messages)):
            message, role = messages[number], _wire_role(messages[number], number)
            if role == "ipython":
                _check_result(messages, number)
            if role == "assistant":
                self._add_answer(encoded, message, number)
            else:
                self._add_block(encoded, role, content_text(message, number))
        if open_assistant:
            encoded._add(self._headers["assistant"])
        return encoded

    def render(
        self, messages: Sequence[Message], *, tools: Sequence[Any] | None = None, open_assistant: bool = False
    ) -> str:
        """The conversation as one string, for people to read; models are given ``encode``'s ids."""
        return self.tokenizer.decode(self.encode(messages, tools=tools, open_assistant=open_assistant).ids)

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
        return StreamParser(self.tokenizer, call_id=call_id)

    def _header(self, role: str) -> list[int]:
        tokenizer = self.tokenizer
        name = tokenizer.encode(role)
        return [tokenizer.start_header_id, *name, tokenizer.end_header_id, *self._blank_line]

    def _open(self, encoded: EncodedChat, messages: Sequence[Message], tools: Sequence[Any] | None) -> int:
        """Writes the system block and the functions' description; returns the number of the next message to write."""
        first_is_system = bool(messages) and _wire_role(messages[0], 0) == "system"
        system = content_text(messages[0], 0) if first_is_system else ""
        text = system_text(system, tools)
        if text:
            self._add_block(encoded, "system", text)
        functions = functions_text(tools)
        if functions:
            self._add_block(encoded, "user", functions)
        return int(first_is_system)

    def _add_block(self, encoded: EncodedChat, role: str, text: str) -> None:
        encoded._add([*self._headers[role], *self.tokenizer.encode(text), self.tokenizer.eot_id])

    def _add_answer(self, encoded: EncodedChat, message: Message, number: int) -> None:
        tokenizer = self.tokenizer
        encoded._add(self._headers["assistant"])
        encoded._add(tokenizer.encode(content_text(message, number)), mask=True, content=True)
        call = _call_text(message, number)
        if call is not None:
            encoded._add([tokenizer.python_tag_id, *tokenizer.encode(call)], mask=True, content=True)
        encoded._add([tokenizer.eot_id if call is None else tokenizer.eom_id], mask=True)


def system_text(system: str, tools: Sequence[Any] | None) -> str:
    """The text of the system block; empty where there is neither system content nor a tool (section 14.3)."""
    names = [tool_name(tool) for tool in tools or []]
    if not names:
        return system
    searches = [name for name in names if name in SEARCH_TOOLS]
    line = f"Tools: {', '.join(searches)}\n" if searches else ""
    return f"Environment: ipython\n{line}\n{system}"


def functions_text(tools: Sequence[Any] | None) -> str:
    """The user message that describes functions called by JSON (section 14.4); empty where there are none."""
    others = [tool for tool in tools or [] if tool_name(tool) not in (*SEARCH_TOOLS, PYTHON_TOOL)]
    for tool in others:
        if isinstance(tool, str):
            raise HerdError(
                f"the tool {tool} is not built in, so it needs a description and parameters, not only a name"
            )
    if not others:
        return ""
    described = [dump_json(tool, f"the description of the tool {tool_name(tool)}", indent=4) for tool in others]
    return _FUNCTIONS_HEAD + "\n".join(described) + _FUNCTIONS_TAIL


def tool_name(tool: Any) -> str:
    """The name of a tool given as a name or as OpenAI's object; ``HerdError`` if it has none."""
    if isinstance(tool, str):
        return tool
    function = tool.get("function") if isinstance(tool, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name:
        raise HerdError(f"a tool has no function name: {tool!r}"[:200])
    return name


def content_text(message: Message, number: int) -> str:
    """The text of a message's content: a string, OpenAI's list of text parts, or nothing."""
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        texts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        if len(texts) == len(content) and all(isinstance(text, str) for text in texts):
            return "".join(map(str, texts))
    raise HerdError(f"message {number}: its content is neither text nor a list of text parts")


def _wire_role(message: Message, number: int) -> str:
    role = message.get("role")
    if not isinstance(role, str) or role not in _WIRE_ROLES:
        raise HerdError(f"message {number}: the role {role!r} does not exist; use system, user, assistant or tool")
    return _WIRE_ROLES[role]


def _check_result(messages: Sequence[Message], number: int) -> None:
    """``HerdError`` unless the message before a tool's result is the call that it answers."""
    before = messages[number - 1] if number else {}
    calls = before.get("tool_calls") if before.get("role") == "assistant" else None
    if not calls:
        raise HerdError(f"message {number}: a tool result without a call before it")
    wanted, given = calls[0].get("id"), messages[number].get("tool_call_id")
    if wanted is not None and given is not None and wanted != given:
        raise HerdError(
            f"message {number}: the result answers the call {given!r}, but the call before it is {wanted!r}"
        )


def _call_text(message: Message, number: int) -> str | None:
    """The wire text of the message's call, or None where it has none."""
    calls = message.get("tool_calls")
    if not calls:
        return None
    if not isinstance(calls, Sequence) or len(calls) != 1:
        raise HerdError(
            f"message {number}: {len(calls)} tool calls in one message; the format carries one call a message"
        )
    function = calls[0].get("function") if isinstance(calls[0], Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise HerdError(f"message {number}: its tool call names no function")
    try:
        return write_call(function["name"], read_arguments(function["name"], function.get("arguments")))
    except HerdError as error:
        raise HerdError(f"message {number}: {error}") from None
