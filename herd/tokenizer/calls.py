r"""Tool calls on the wire: the forms that stand in an assistant's message (fact sheet section 14.3 to 14.6).

    search, brave_search, wolfram_alpha   ``search.call(query="json.dumps")``
    the interpreter                       the source itself: ``37 * 412 - 5``
    any other function                    ``{"name": "weather", "parameters": {"city": "Oslo"}}``
    the same in a tag                     ``<function=weather>{"city": "Oslo"}</function>``

Which of them is used when is a dialect's affair (``dialects``).  ``read(write(name, arguments)) == (name, arguments)``
for every call: quotes and backslashes in a query are escaped as in JSON, and a call that its short form could not carry
back (code that looks like a search, say) takes the JSON form.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from herd.foundation.errors import HerdError

SEARCH_TOOLS = ("search", "brave_search", "wolfram_alpha")
"""Built-in tools that take one query and are named on the system block's ``Tools:`` line."""
PYTHON_TOOL = "python"
"""The interpreter; ``Environment: ipython`` alone announces it, so it is never on the ``Tools:`` line."""

Arguments = dict[str, Any]
Call = tuple[str, Arguments]
"""The name of a function and its arguments."""

_LOOKS_LIKE_JSON = re.compile(r'\s*\{\s*"(?:name|type|parameters|function)"\s*:')
_FUNCTION_TAG = re.compile(r"\s*<function=(?P<name>[^>}]+)>(?P<arguments>\{.*\})(?:</function>)?\s*", re.DOTALL)


@dataclass(frozen=True)
class Frame:
    """What stands around what a model chooses in the call of one tool, for grammars that leave it no other choice.

    ``chosen``: ``arguments``, an object of the tool's schema; ``query``, a JSON string; ``code``, which fills the call;
    ``text``, raw between quotes.  ``tagged`` and ``ends_message`` as in ``dialects.Written``.
    """

    before: str
    chosen: Literal["arguments", "query", "code", "text"]
    after: str
    tagged: bool = True
    ends_message: bool = True


class CallForms:
    """The forms after ``<|python_tag|>``: searches and the interpreter by their short form, others as JSON."""

    def __init__(self, searches: tuple[str, ...], interpreter: str, *, typed: bool = False) -> None:
        """``typed``: JSON calls carry their type and are laid out over lines, as in Meta's documentation."""
        self.searches, self.interpreter, self._typed = searches, interpreter, typed
        names = "|".join(searches)
        self._search = re.compile(rf'(?P<name>{names})\.call\(query=(?P<query>"(?:[^"\\]|\\.)*")\)', re.DOTALL)
        self._looks_like_search = re.compile(rf"\s*(?:{names})\.call\b")

    def write(self, name: str, arguments: Arguments) -> str:
        """The wire text of one call; ``HerdError`` if the arguments cannot be written as JSON."""
        short = self._short_form(name, arguments)
        if short is not None and self.read(short) == (name, arguments):
            return short
        return write_json_call(name, arguments, typed=self._typed)

    def _short_form(self, name: str, arguments: Arguments) -> str | None:
        """The form without JSON around it, where the call has one."""
        if name in self.searches and set(arguments) == {"query"} and isinstance(arguments["query"], str):
            return f"{name}.call(query={json.dumps(arguments['query'], ensure_ascii=False)})"
        if name == self.interpreter and set(arguments) == {"code"} and isinstance(arguments["code"], str):
            return arguments["code"]
        return None

    def frame(self, name: str) -> Frame:
        """The form of the calls of one tool; JSON on one line."""
        if name == self.interpreter:
            return Frame("", "code", "")
        if name in self.searches:
            return Frame(f"{name}.call(query=", "query", ")")
        return json_frame(name, typed=self._typed)

    def read(self, text: str) -> Call | None:
        """Name and arguments of a call, or None where the text is a broken search or JSON call, or blank."""
        if found := self._search.fullmatch(text.strip()):
            return found["name"], {"query": _query(found["query"])}
        if _LOOKS_LIKE_JSON.match(text):
            return read_json_call(text)
        if self._looks_like_search.match(text) or not text.strip():
            return None
        return self.interpreter, {"code": text}


def write_json_call(name: str, arguments: Arguments, *, typed: bool = False) -> str:
    """``{"name": …, "parameters": …}`` on one line; ``typed``: with ``"type": "function"``, indented by four."""
    value = {"type": "function"} if typed else {}
    what = f"the arguments of the call of {name}"
    return dump_json(value | {"name": name, "parameters": arguments}, what, indent=4 if typed else None)


def json_frame(name: str, *, typed: bool = False, tagged: bool = True, ends_message: bool = True) -> Frame:
    """The frame of a JSON call on one line."""
    kind = '"type": "function", ' if typed else ""
    before = f'{{{kind}"name": {json.dumps(name, ensure_ascii=False)}, "parameters": '
    return Frame(before, "arguments", "}", tagged, ends_message)


def write_function_tag(name: str, arguments: Arguments) -> str:
    """``<function=name>{…}</function>``; ``HerdError`` for a name that the tag cannot carry."""
    text = f"<function={name}>{dump_json(arguments, f'the arguments of the call of {name}')}</function>"
    if read_function_tag(text) != (name, arguments):
        raise HerdError(f"the name {name!r} cannot stand in a function tag")
    return text


def read_function_tag(text: str) -> Call | None:
    """The call of a function tag; None for any other text. The closing tag may be missing, as for Meta's reader."""
    found = _FUNCTION_TAG.fullmatch(text)
    if found is None:
        return None
    try:
        arguments = load_json(found["arguments"])
    except (ValueError, RecursionError):
        return None
    return (found["name"], arguments) if isinstance(arguments, dict) else None


def _query(literal: str) -> str:
    """The text of a quoted query; one with stray backslashes, which is no JSON, is taken as it stands."""
    try:
        return str(json.loads(literal, strict=False))
    except ValueError:
        return literal[1:-1]


def read_json_call(text: str) -> Call | None:
    """The call of a JSON object with ``name`` and ``parameters``; None for any other text."""
    try:
        return _call_of(load_json(text))
    except (ValueError, RecursionError):
        return None


def _call_of(value: Any) -> Call | None:
    if not isinstance(value, dict):
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
