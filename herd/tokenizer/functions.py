"""How functions are described to a model, from OpenAI's tool objects (fact sheet section 14.4, 14.5).

    describe_as_given(tools)      each object as it is, indented
    describe_like_meta(tools)     as in Meta's documentation: a list of one-key objects whose types are all "object"
    describe_in_tags(tools)       as in Meta's documentation of ``<function=…>`` calls
All give the whole text of a user message, and an empty one where there is no tool.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from herd.foundation.errors import HerdError
from herd.tokenizer.calls import dump_json

Tool = Mapping[str, Any]

_HEAD = (
    "Answer the user's question by making use of the following functions if needed.\n"
    "If none of the function can be used, please say so.\n"
    "Here is a list of functions in JSON format:\n"
)
_TAIL = "\n\nReturn function calls in JSON format."

_TAGS_HEAD = "You have access to the following functions:\n\n"
_TAGS_TAIL = (
    "Think very carefully before calling functions.\n"
    "If you choose to call a function ONLY reply in the following format with no prefix or suffix:\n\n"
    '<function=example_function_name>{"example_name": "example_value"}</function>\n\n'
    "Reminder:\n"
    "- If looking for real time information use relevant functions before falling back to brave_search\n"
    "- Function calls MUST follow the specified format, start with <function= and end with </function>\n"
    "- Required parameters MUST be specified\n"
    "- Only call one function at a time\n"
    "- Put the entire function call reply on one line"
)
PARAM_TYPES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
}
"""Names of JSON Schema's types in the descriptions for function tags."""


def tool_name(tool: Any) -> str:
    """The name of a tool given as a name or as OpenAI's object; ``HerdError`` if it has none."""
    if isinstance(tool, str):
        return tool
    function = tool.get("function") if isinstance(tool, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name:
        raise HerdError(f"a tool has no function name: {tool!r}"[:200])
    return name


def describe_as_given(tools: Sequence[Tool]) -> str:
    """The tools as JSON, indented by four."""
    described = [dump_json(tool, f"the description of the tool {tool_name(tool)}", indent=4) for tool in tools]
    return _HEAD + "\n".join(described) + _TAIL if described else ""


def describe_like_meta(tools: Sequence[Tool]) -> str:
    """The tools in the layout of Meta's documentation, its quirks kept."""
    return _HEAD + "\n".join(map(_like_meta, tools)) + _TAIL if tools else ""


def _like_meta(tool: Tool) -> str:
    name, description, properties, required = _parts(tool)
    what = f"the description of the tool {name}"
    listed = [{key: {"type": "object", "description": value.get("description", "")}} for key, value in properties]
    parameters = {"type": "object", "properties": listed, "required": "REQUIRED"}
    function = {"name": name, "description": description, "parameters": parameters}
    text = dump_json({"type": "function", "function": function}, what, indent=4)
    # The list of required names stands on one line, unlike every other list.
    head, _, tail = text.rpartition('"REQUIRED"')
    return head + dump_json(required, what) + tail


def describe_in_tags(tools: Sequence[Tool]) -> str:
    """The tools, a line of introduction and a line of JSON each, and how to call them."""
    return _TAGS_HEAD + "".join(map(_in_tags, tools)) + _TAGS_TAIL if tools else ""


def _in_tags(tool: Tool) -> str:
    name, description, properties, required = _parts(tool)
    parameters = {
        key: {
            "description": value.get("description", ""),
            "param_type": PARAM_TYPES.get(str(value.get("type")), "str"),
            "required": key in required,
        }
        for key, value in properties
    }
    described = {"name": name, "description": description, "parameters": parameters}
    line = dump_json(described, f"the description of the tool {name}")
    return f"Use the function '{name}' to '{description}':\n{line}\n\n"


def _parts(tool: Tool) -> tuple[str, str, list[tuple[str, Mapping[str, Any]]], list[str]]:
    """Name, description, parameters and the names of those that are required."""
    name, function = tool_name(tool), tool["function"]
    schema = function.get("parameters") or {}
    properties = schema.get("properties") or {} if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping) or not all(isinstance(value, Mapping) for value in properties.values()):
        raise HerdError(f"the parameters of the tool {name} are not a JSON Schema with an object of properties")
    required = [str(key) for key in schema.get("required") or []]
    return name, str(function.get("description", "")), list(properties.items()), required
