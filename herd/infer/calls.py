"""A grammar in which every output is a tool call, for requests that require one.

    sampling = Sampling(grammar=call_grammar(tokenizer, tools))

The output is ``<|python_tag|>``, the call of one of the tools in the form of ``herd.tokenizer.calls``, ``<|eom_id|>``;
arguments of a function fit its schema.  Whatever the model would rather say, what comes out can be read as a call.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from herd.foundation.errors import HerdError
from herd.infer.grammar import Grammar
from herd.tokenizer.calls import PYTHON_TOOL, SEARCH_TOOLS
from herd.tokenizer.chat import tool_name
from herd.tokenizer.tokenizer import Tokenizer

# Code that begins like a search or like a function's call would be read as one.
_SEARCHES = "|".join(SEARCH_TOOLS)
_CODE = rf"/(?s:.*\S.*)/ & ~/(?s:\s*[{{].*)/ & ~/(?s:\s*<function=.*)/ & ~/(?s:\s*(?:{_SEARCHES})\.call.*)/"
# As the chat encoder writes JSON, and no space more: a model could go on with spaces for ever.
_SPACED = {"x-guidance": {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}}


def call_grammar(tokenizer: Tokenizer, tools: Sequence[Any]) -> Grammar:
    """Exactly one call of one of ``tools`` (names, or OpenAI's objects); ``HerdError`` for a schema that cannot be."""
    if not tools:
        raise HerdError("a call is required, but there is no tool to call")
    calls = {f"call_{number}": tool for number, tool in enumerate({tool_name(tool): tool for tool in tools}.values())}
    rules = [f"start: <[{tokenizer.python_tag_id}]> ({' | '.join(calls)}) <[{tokenizer.eom_id}]>"]
    for rule, tool in calls.items():
        rules += _rules(rule, tool)
    return Grammar.lark("\n".join(rules), "schema of a tool's arguments")


def _rules(rule: str, tool: Any) -> list[str]:
    """The rules of one tool's call."""
    name = tool_name(tool)
    if name == PYTHON_TOOL:
        return [f"{rule}: {rule.upper()}", f"{rule.upper()}: {_CODE}"]
    if name in SEARCH_TOOLS:
        before, inside, after = f"{name}.call(query=", {"type": "string"}, ")"
    else:
        before, inside, after = f'{{"name": {json.dumps(name)}, "parameters": ', _schema(tool), "}"
    return [
        f"{rule}: {json.dumps(before)} {rule}_arguments {json.dumps(after)}",
        f"{rule}_arguments: %json {json.dumps(inside)}",
    ]


def _schema(tool: Any) -> dict[str, Any]:
    """The schema of a function's arguments, an object whatever it says."""
    parameters = tool["function"].get("parameters") if isinstance(tool, Mapping) else None
    return {"type": "object"} | dict(parameters or {}) | _SPACED
