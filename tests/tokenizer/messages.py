"""Messages that the tests of the chat format are made of."""

import datetime
from typing import Any

from herd.tokenizer.chat import ChatFormat, Dates

META_DATES = Dates(datetime.date(2024, 9, 21))
SONGS = {
    "type": "function",
    "function": {
        "name": "trending_songs",
        "description": "Returns the trending songs on a Music site",
        "parameters": {
            "type": "object",
            "properties": {
                "genre": {"type": "string", "description": "The genre of the songs to return"},
                "n": {"type": "integer", "description": "The number of songs to return"},
            },
            "required": ["n"],
        },
    },
}
HEADER = "<|start_header_id|>assistant<|end_header_id|>\n\n"


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def call(*calls: tuple[str, dict[str, Any]], content: str | None = None) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": content,
        "tool_calls": [
            {"id": f"c_{place}" if place else "c", "type": "function", "function": {"name": name, "arguments": given}}
            for place, (name, given) in enumerate(calls)
        ],
    }


def result(text: str, call_id: str = "c") -> dict[str, Any]:
    return {"role": "tool", "content": text, "tool_call_id": call_id}


def answered(chat: ChatFormat, message: dict[str, Any], tools: list[Any] | None = None) -> str:
    """What stands between the header and the end of an answer, the terminator included."""
    before = [user("?")]
    prompt = chat.render(before, tools=tools, open_assistant=True)
    whole = chat.render([*before, message], tools=tools)
    assert whole.startswith(prompt)
    return whole[len(prompt) :]
