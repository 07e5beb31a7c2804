"""A grammar in which every output is a tool call, for requests that require one.

    sampling = Sampling(grammar=call_grammar(tokenizer, tools))

The output is the call of one of the tools in the form of the tokenizer's dialect, control tokens and terminator
included; arguments of a function fit its schema.  Whatever the model would rather say, what comes out can be read as a
call.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from herd.foundation.errors import HerdError
from herd.infer.grammar import Grammar
from herd.tokenizer.calls import Frame
from herd.tokenizer.dialects import Dialect, dialect_of
from herd.tokenizer.functions import tool_name
from herd.tokenizer.tokenizer import Tokenizer

_RAW = r"/(?s:.*\S.*)/"
# As the chat encoder writes JSON, and no space more: a model could go on with spaces for ever.
_SPACED = {"x-guidance": {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}}


def call_grammar(tokenizer: Tokenizer, tools: Sequence[Any], offered: Sequence[Any] | None = None) -> Grammar:
    """Exactly one call of one of ``tools`` (names, or OpenAI's objects); ``HerdError`` for a schema that cannot be.

    ``offered`` are all tools that the model is told of, where these are more.
    """
    if not tools:
        raise HerdError("a call is required, but there is no tool to call")
    dialect = dialect_of(tokenizer.dialect)
    offer = dialect.offer(tools if offered is None else offered)
    calls = {f"call_{number}": tool for number, tool in enumerate({tool_name(tool): tool for tool in tools}.values())}
    frames = {rule: dialect.frame(tool_name(tool), offer) for rule, tool in calls.items()}
    rules = [f"start: {' | '.join(_message(rule, frame, tokenizer) for rule, frame in frames.items())}"]
    for rule, tool in calls.items():
        rules += _rules(rule, frames[rule], tool, dialect)
    return Grammar.lark("\n".join(rules), "schema of a tool's arguments")


def _message(rule: str, frame: Frame, tokenizer: Tokenizer) -> str:
    """A whole message: the call and the control tokens around it."""
    tag = f"<[{tokenizer.python_tag_id}]> " if frame.tagged else ""
    return f"{tag}{rule} <[{tokenizer.eom_id if frame.ends_message else tokenizer.eot_id}]>"


def _rules(rule: str, frame: Frame, tool: Any, dialect: Dialect) -> list[str]:
    """The rules of one tool's call."""
    if frame.chosen == "code":
        return [f"{rule}: {rule.upper()}", f"{rule.upper()}: {_code(dialect)}"]
    # Text in the middle of a call is a terminal that ends with the call, since it may hold what stands behind it.
    if frame.chosen == "text":
        terminal = f"{rule.upper()}: {json.dumps(frame.before)} {_RAW} {json.dumps(frame.after)}"
        return [f"{rule}: {rule.upper()}", terminal]
    inside = {"type": "string"} if frame.chosen == "query" else _schema(tool)
    before, after = (json.dumps(text, ensure_ascii=False) for text in (frame.before, frame.after))
    return [f"{rule}: {before} {rule}_arguments {after}", f"{rule}_arguments: %json {json.dumps(inside)}"]


def _code(dialect: Dialect) -> str:
    """Code, but none that begins like a search or like a function's call: it would be read as one."""
    searches = "|".join(dialect.searches)
    return rf"{_RAW} & ~/(?s:\s*[{{].*)/ & ~/(?s:\s*<function=.*)/ & ~/(?s:\s*(?:{searches})\.call.*)/"


def _schema(tool: Any) -> dict[str, Any]:
    """The schema of a function's arguments, an object whatever it says."""
    parameters = tool["function"].get("parameters") if isinstance(tool, Mapping) else None
    return {"type": "object"} | dict(parameters or {}) | _SPACED
