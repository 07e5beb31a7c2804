"""The text that the chat format writes itself, in every dialogue: a part of what a small vocabulary is learnt from.

    for piece in format_text(characters=300_000): ...

A large vocabulary holds "assistant", "ipython" or "stdout" as words of its language.  In one of 2,048 learnt from a
small corpus they are cut into many tokens, several times in each dialogue: a sixth of what a small assistant reads.
"""

from collections.abc import Iterator
from itertools import groupby

from herd.tokenizer.chat import ChatFormat, Message
from herd.tokenizer.tokenizer import Tokenizer


def _call(number: int, name: str, argument: str) -> Message:
    function = {"name": name, "arguments": argument}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": f"call_{number}", "function": function}]}


_DIALOGUE: tuple[Message, ...] = (
    {"role": "user", "content": "1 + 2"},
    _call(1, "search", '{"query": " 1"}'),
    {"role": "tool", "tool_call_id": "call_1", "content": "1"},
    _call(2, "python", '{"code": " 1 + 2"}'),
    {"role": "tool", "tool_call_id": "call_2", "content": "completed\n[stdout]3[/stdout]"},
    {"role": "assistant", "content": "3"},
)


def format_text(characters: int) -> Iterator[str]:
    """What stands between the control tokens of a dialogue with tools, again and again, about ``characters`` in all."""
    chat = ChatFormat(Tokenizer({bytes([byte]): byte for byte in range(256)}))
    ids = chat.encode(_DIALOGUE, tools=["search", "python"]).ids
    pieces = [bytes(run).decode() for is_text, run in groupby(ids, key=lambda token: token < 256) if is_text]
    for _ in range(round(characters / sum(map(len, pieces)))):
        yield from pieces
