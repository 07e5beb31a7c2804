r"""Tool calls on the wire: what stands between ``<|python_tag|>`` and ``<|eom_id|>`` (fact sheet section 14.3, 14.4).

    search, brave_search, wolfram_alpha   ``search.call(query="json.dumps")``
    python                                the source itself: ``37 * 412 - 5``
    any other function                    ``{"name": "weather", "parameters": {"city": "Oslo"}}``

``read_call(write_call(name, arguments)) == (name, arguments)`` for every call: quotes and backslashes in a query are
escaped as in JSON, and a call that its short form could not carry back (code that looks like a search, say) takes the
JSON form.
"""

import json
import math
import re
from typing import Any, NoReturn

from herd.foundation.errors import HerdError

SEARCH_TOOLS = ("search", "brave_search", "wolfram_alpha")
"""Built-in tools that take one query and are named on the system block's ``Tools:`` line."""
PYTHON_TOOL = "python"
"""The interpreter; ``Environment: ipython`` alone announces it, so it is never on the ``Tools:`` line."""

Arguments = dict[str, Any]

_NAMES = "|".join(SEARCH_TOOLS)
_SEARCH = re.compile(rf'(?P<name>{_NAMES})\.call\(query=(?P<query>"(?:[^"\\]|\\.)*")\)', re.DOTALL)
_LOOKS_LIKE_SEARCH = re.compile(rf"\s*(?:{_NAMES})\.call\b")
_LOOKS_LIKE_JSON = re.compile(r'\s*\{\s*"(?:name|type|parameters|function)"\s*:')


def write_call(name: str, arguments: Arguments) -> str:
    """The wire text of one call; ``HerdError`` if the arguments cannot be written as JSON."""
    short = _short_form(name, arguments)
    if short is not None and read_call(short) == (name, arguments):
        return short
    return dump_json({"name": name, "parameters": arguments}, f"the arguments of the call of {name}")


def _short_form(name: str, arguments: Arguments) -> str | None:
    """The form without JSON around it, where the call has one."""
    if name in SEARCH_TOOLS and set(arguments) == {"query"} and isinstance(arguments["query"], str):
        return f"{name}.call(query={json.dumps(arguments['query'], ensure_ascii=False)})"
    if name == PYTHON_TOOL and set(arguments) == {"code"} and isinstance(arguments["code"], str):
        return arguments["code"]
    return None


def read_call(text: str) -> tuple[str, Arguments] | None:
    """Name and arguments of a call, or None where the text is a broken search or JSON call, or blank."""
    if found := _SEARCH.fullmatch(text.strip()):
        return found["name"], {"query": _query(found["query"])}
    if _LOOKS_LIKE_JSON.match(text):
        return _read_json_call(text)
    if _LOOKS_LIKE_SEARCH.match(text) or not text.strip():
        return None
    return PYTHON_TOOL, {"code": text}


def _query(literal: str) -> str:
    """The text of a quoted query; one with stray backslashes, which is no JSON, is taken as it stands."""
    try:
        return str(json.loads(literal, strict=False))
    except ValueError:
        return literal[1:-1]


def _read_json_call(text: str) -> tuple[str, Arguments] | None:
    try:
        value = load_json(text)
    except (ValueError, RecursionError):
        return None
    name, arguments = value.get("name"), value.get("parameters")
    known = set(value) <= {"name", "parameters", "type"} and value.get("type", "function") == "function"
    if not known or not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return None
    return name, arguments


def read_arguments(name: str, arguments: str | Arguments | None) -> Arguments:
    """The arguments of an OpenAI tool call, a JSON string or already an object; ``HerdError`` if they are neither."""
    try:
        value = load_json(arguments) if isinstance(arguments, str) else arguments or {}
    except (ValueError, RecursionError) as error:
        raise HerdError(f"the arguments of the call of {name} are not JSON ({error})") from None
    if not isinstance(value, dict):
        raise HerdError(f"the arguments of the call of {name} are not a JSON object")
    return value


def load_json(text: str) -> Any:
    """Parses JSON strictly: NaN, Infinity and numbers too large for a float raise ``ValueError``."""
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits} is too large")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def dump_json(value: Any, what: str, indent: int | None = None) -> str:
    """Writes JSON, on one line without ``indent``; ``HerdError`` names ``what`` is no JSON or no UTF-8."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
        text.encode()
        return text
    except (ValueError, TypeError, RecursionError) as error:
        raise HerdError(f"{what} cannot be written as JSON ({error})") from None
