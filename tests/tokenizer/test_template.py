"""The chat template that others read: the same ids from ``apply_chat_template`` as from our encoder."""

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from herd.tokenizer.calls import SEARCH_TOOLS
from herd.tokenizer.chat import ChatFormat
from herd.tokenizer.tokenizer import Tokenizer


def tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}
    return {
        "type": "function",
        "function": {"name": name, "description": f"{name}: tüt <es>", "parameters": parameters},
    }


def call(name: str, arguments: Any) -> dict[str, Any]:
    calls = [{"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}]
    return {"role": "assistant", "content": None, "tool_calls": calls}


TOOL_SETS = {
    "none": None,
    "search": [tool("search")],
    "python": [tool("python")],
    "function": [tool("weather"), tool("trains")],
    "all": [tool("weather"), *(tool(name) for name in SEARCH_TOOLS), tool("python")],
}
ANSWERS: dict[str, list[dict[str, Any]]] = {
    "text": [{"role": "assistant", "content": " It is so.\n"}],
    "search": [
        call("search", {"query": 'a "b" \\ é <c>'}),
        {"role": "tool", "content": "found\n", "tool_call_id": "c"},
    ],
    "python": [call("python", {"code": "if x:\n    print('ö')\n"}), {"role": "tool", "content": "completed"}],
    "json": [call("weather", {"city": "Köln", "days": [1, 2.5, None, True]}), {"role": "tool", "content": "wet"}],
    "more arguments": [call("search", {"query": "x", "k": 2}), call("python", {}), call("search", {"query": 3})],
    "as string": [call("weather", json.dumps({"city": "Oslo"}))],
    "with words": [call("python", {"code": "1"}) | {"content": "Let me see."}],
    "turns": [
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": [{"type": "text", "text": "B"}, {"type": "text", "text": "C"}]},
        {"role": "system", "content": "D"},
        {"role": "assistant", "content": ""},
    ],
}
OPENINGS = {
    "system": [{"role": "system", "content": "Be  kind.\n"}, {"role": "user", "content": " Hi \n"}],
    "empty system": [{"role": "system", "content": ""}, {"role": "user", "content": "Hi"}],
    "user": [{"role": "user", "content": "Hi"}],
}


@pytest.fixture(scope="module")
def reader(small: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("template")
    small.save(directory)
    return AutoTokenizer.from_pretrained(directory)


@pytest.mark.parametrize("tools", TOOL_SETS)
@pytest.mark.parametrize("answers", ANSWERS)
def test_transformers_renders_what_we_encode(small: Tokenizer, reader: Any, tools: str, answers: str) -> None:
    chat = ChatFormat(small)
    for opening in OPENINGS.values():
        messages = opening + ANSWERS[answers]
        for open_assistant in (False, True):
            theirs = reader.apply_chat_template(
                messages, tools=TOOL_SETS[tools], add_generation_prompt=open_assistant, return_dict=False
            )
            ours = chat.encode(messages, tools=TOOL_SETS[tools], open_assistant=open_assistant)
            assert theirs == ours.ids


def test_the_fast_class_reads_it_too(published: Tokenizer, published_directory: Path) -> None:
    fast = PreTrainedTokenizerFast.from_pretrained(published_directory)
    messages = OPENINGS["system"] + ANSWERS["json"]
    theirs = fast.apply_chat_template(messages, tools=TOOL_SETS["all"], return_dict=False)
    assert theirs == ChatFormat(published).encode(messages, tools=TOOL_SETS["all"]).ids


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([call("search", '{"query": "x"}')], "pass the arguments of search as an object"),
        ([{"role": "robot", "content": "x"}], "the role robot does not exist"),
        ([call("f", {}) | {"tool_calls": call("f", {})["tool_calls"] * 2}], "one tool call a message"),
    ],
)
def test_what_cannot_be_rendered_says_so(reader: Any, messages: list, message: str) -> None:
    with pytest.raises(jinja2.TemplateError, match=message):
        reader.apply_chat_template(messages)
