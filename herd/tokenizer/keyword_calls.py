"""Calls written as a Python list, ``[weather(city="Oslo"), trains(to=station(of="Bergen"))]``: parallel and nested.

The form of Llama 3.2 (fact sheet section 14.3): every argument by keyword, values as Python writes them.  A value that
is itself a call is the object ``{"name": "station", "parameters": {"of": "Bergen"}}``, as it would be in a JSON call.
Nothing is ever evaluated: the text is parsed, and what is no list of calls with plain values is none.
"""

import ast
import json
import math
from typing import Any

from herd.foundation.errors import HerdError
from herd.tokenizer.calls import Call, dump_json

_NAMED_VALUES = {"true": True, "false": False, "null": None}
"""JSON's words, which models write for Python's."""
_LONGEST = 100_000


class _NotAValueError(Exception):
    """Something other than a call or a plain value."""


def write_keyword_calls(calls: list[Call]) -> str:
    """``calls`` as a Python list; ``HerdError`` names the call that this form cannot carry."""
    for name, arguments in calls:
        dump_json(arguments, f"the arguments of the call of {name}")
        if read_keyword_calls(f"[{_written_call(name, arguments)}]") != [(name, arguments)]:
            raise HerdError(f"the call of {name} cannot be written with keyword arguments")
    return f"[{', '.join(_written_call(name, arguments) for name, arguments in calls)}]"


def _written_call(name: str, arguments: dict[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={_written(value)}' for key, value in arguments.items())})"


def _written(value: Any) -> str:
    if _is_call(value):
        return _written_call(value["name"], value["parameters"])
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_written(key)}: {_written(each)}" for key, each in value.items()) + "}"
    return repr(value)


def _is_call(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"name", "parameters"}:
        return False
    return isinstance(value["name"], str) and value["name"].isidentifier() and isinstance(value["parameters"], dict)


def read_keyword_calls(text: str) -> list[Call] | None:
    """The calls of a Python list of them; None for any other text."""
    if len(text) > _LONGEST:
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if not isinstance(tree, ast.List) or not tree.elts:
            return None
        return [_read_call(node) for node in tree.elts]
    except (SyntaxError, ValueError, RecursionError, MemoryError, _NotAValueError):
        return None


def _read_call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call) or node.args:
        raise _NotAValueError
    arguments: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise _NotAValueError
        arguments[keyword.arg] = _read_value(keyword.value)
    return _dotted(node.func), arguments


def _dotted(node: ast.expr) -> str:
    """The name of a function, which may have dots in it."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise _NotAValueError


def _read_value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        name, arguments = _read_call(node)
        return {"name": name, "parameters": arguments}
    if isinstance(node, ast.List):
        return [_read_value(each) for each in node.elts]
    if isinstance(node, ast.Dict):
        keys = [None if key is None else _read_value(key) for key in node.keys]
        if not all(isinstance(key, str) for key in keys):
            raise _NotAValueError
        return dict(zip(keys, map(_read_value, node.values), strict=True))
    if isinstance(node, ast.Name) and node.id in _NAMED_VALUES:
        return _NAMED_VALUES[node.id]
    return _read_constant(node)


def _read_constant(node: ast.expr) -> Any:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _read_constant(node.operand)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _NotAValueError
        return -value
    value = node.value if isinstance(node, ast.Constant) else ...
    if not isinstance(value, str | int | float | None) or (isinstance(value, float) and math.isinf(value)):
        raise _NotAValueError
    return value
