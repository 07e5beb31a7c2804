"""What a tool is: a name, a description, a JSON schema of its arguments and a function that returns text.

    tools = [search_tool(index), python_tool(sandbox), function_tool(my_function)]

``function_tool`` reads a Python function's signature and docstring, as the paper does for zero-shot tools (section
4.3.5).  A tool never raises at a model: what goes wrong comes back as text that says so.
"""

import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from herd.foundation.errors import HerdError
from herd.tools.sandbox import Sandbox
from herd.tools.search import SearchIndex

_JSON_TYPES: dict[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
}
_PYTHON_TYPES: dict[str | None, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_LONGEST_RESULT = 4000


@dataclass(frozen=True)
class Tool:
    """Something that a model may call; ``parameters`` is the JSON schema of the arguments, an object."""

    name: str
    description: str
    parameters: dict[str, Any]
    call: Callable[..., str]

    def schema(self) -> dict[str, Any]:
        """The tool as OpenAI's API describes it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}

    def problem(self, arguments: Any) -> str | None:
        """Why these arguments are not this tool's, or None: not an object, a name too few or too many, a wrong type."""
        if not isinstance(arguments, dict):
            return f"the arguments of {self.name} are not an object"
        known = self.parameters.get("properties", {})
        if extra := sorted(set(arguments) - set(known)):
            return f"{self.name} has no argument {extra[0]!r}"
        if missing := [name for name in self.parameters.get("required", []) if name not in arguments]:
            return f"{self.name} needs the argument {missing[0]!r}"
        needed = set(self.parameters.get("required", []))
        given = {name: value for name, value in arguments.items() if value is not None or name in needed}
        wrong = [name for name, value in given.items() if not _fits(value, known[name].get("type"))]
        return f"the argument {wrong[0]!r} of {self.name} is not of type {known[wrong[0]]['type']}" if wrong else None

    def run(self, arguments: Any) -> str:
        """The result as text; an error of the arguments or of the tool becomes text as well."""
        if problem := self.problem(arguments):
            return f"failed\n[stderr]{problem}[/stderr]"
        try:
            return str(self.call(**arguments))[:_LONGEST_RESULT]
        except Exception as error:
            return f"failed\n[stderr]{type(error).__name__}: {error}[/stderr]"[:_LONGEST_RESULT]


class ToolSet(Mapping[str, Tool]):
    """Tools by name; two of one name are a ``HerdError``."""

    def __init__(self, tools: Sequence[Tool] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if tool.name in self._tools:
                raise HerdError(f"there are two tools named {tool.name}")
            self._tools[tool.name] = tool

    def __getitem__(self, name: str) -> Tool:
        return self._tools[name]

    def __iter__(self) -> typing.Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    def texts(self) -> dict[str, Callable[[str], str]]:
        """The tools that take one text, as functions of that text: what ``herd.tasks.solve`` wants."""
        return {name: _of_one_text(tool) for name, tool in self.items() if _takes_one_text(tool)}


def search_tool(index: SearchIndex) -> Tool:
    """Search over the corpus: one query, the best passage in short."""
    return Tool(
        "search", "Searches the Python documentation.", _one_text("query", "a name or a few words"), index.answer
    )


def python_tool(sandbox: Sandbox) -> Tool:
    """The interpreter: one piece of code, what it printed."""
    return Tool(
        "python", "Runs Python code.", _one_text("code", "Python source"), lambda code: sandbox.run(code).wire()
    )


def function_tool(function: Callable[..., Any]) -> Tool:
    """A tool from a function: its name, its docstring's first paragraph, its annotated parameters.

    Parameters may be text, numbers, booleans, lists or dictionaries, optional or not; anything else is a ``HerdError``.
    """
    name = getattr(function, "__name__", "")
    if not name.isidentifier():
        raise HerdError(f"{function!r} has no name that a tool can have")
    description = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
    if not description:
        raise HerdError(f"the function {name} needs a docstring, which tells the model what it is for")
    hints = typing.get_type_hints(function)
    properties: dict[str, Any] = {}
    required = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise HerdError(f"the function {name} takes {parameter}, which a call by name cannot give")
        properties[parameter.name] = {"type": _json_type(name, parameter.name, hints.get(parameter.name))}
        if parameter.default is parameter.empty:
            required.append(parameter.name)
    schema = {"type": "object", "properties": properties, "required": required}
    return Tool(name, description, schema, lambda **arguments: _as_text(function(**arguments)))


def _json_type(function: str, parameter: str, hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        hint = options[0] if len(options) == 1 else None
    found = _JSON_TYPES.get(typing.get_origin(hint) or hint)
    if found is None:
        raise HerdError(
            f"the parameter {parameter} of {function} needs an annotation: str, int, float, bool, list or dict"
        )
    return found


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return repr(value)


def _one_text(name: str, description: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string", "description": description}}, "required": [name]}


def _takes_one_text(tool: Tool) -> bool:
    properties = tool.parameters.get("properties", {})
    return len(properties) == 1 and next(iter(properties.values())).get("type") == "string"


def _of_one_text(tool: Tool) -> Callable[[str], str]:
    argument = next(iter(tool.parameters["properties"]))
    return lambda text: tool.run({argument: text})


def _fits(value: Any, kind: str | list[str] | None) -> bool:
    """Whether a value is of a JSON type, or of one of several; every value fits where the schema names none."""
    if isinstance(kind, list):
        return any(_fits(value, one) for one in kind)
    if kind in ("integer", "number") and isinstance(value, bool):
        return False
    return kind not in _PYTHON_TYPES or isinstance(value, _PYTHON_TYPES[kind])
