"""The dialects of the chat format by name: what each writes around the same messages (fact sheet section 14).

``herd``                 Meta's documentation with a ``search`` tool of our own and JSON calls on one line; the default
``meta``                 Meta's documentation, JSON calls (14.3, 14.4); several calls are a Python list
``meta-function-tags``   Meta's documentation, ``<function=…>`` calls (14.5)
``huggingface``          what the template published with Llama 3.1 renders (14.6)

The last differs in that it always writes a system block with dates, trims contents, describes functions inside the
first user message, writes their calls without ``<|python_tag|>``, gives results as JSON, and ends calls with
``<|eom_id|>`` only where built-in tools are on.  ``ChatFormat(tokenizer, "meta")`` speaks one of them.
"""

import datetime
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from herd.foundation.errors import HerdError
from herd.tokenizer.calls import (
    PYTHON_TOOL,
    SEARCH_TOOLS,
    Call,
    CallForms,
    Frame,
    dump_json,
    json_frame,
    read_function_tag,
    read_json_call,
    write_function_tag,
    write_json_call,
)
from herd.tokenizer.functions import describe_as_given, describe_in_tags, describe_like_meta, tool_name
from herd.tokenizer.keyword_calls import read_keyword_calls, write_keyword_calls

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_META_SEARCHES = ("brave_search", "wolfram_alpha")
_META_INTERPRETER = "code_interpreter"


@dataclass(frozen=True)
class Dates:
    """What a system block says of time; given, never the machine's clock, so that ids do not change from day to day."""

    today: datetime.date
    knowledge: str = "December 2023"

    def lines(self, short_month: bool = False) -> str:
        """Both dates, a line each; names of months do not depend on the locale."""
        month = _MONTHS[self.today.month - 1]
        today = f"{self.today.day:02} {month[:3] if short_month else month} {self.today.year}"
        return f"Cutting Knowledge Date: {self.knowledge}\nToday Date: {today}\n"


@dataclass(frozen=True)
class Offer:
    """The tools of a conversation: names of built-in ones, and descriptions of others."""

    builtins: tuple[str, ...]
    functions: tuple[Mapping[str, Any], ...]

    def __bool__(self) -> bool:
        return bool(self.builtins or self.functions)


@dataclass(frozen=True)
class Written:
    """Calls on the wire: their text, whether ``<|python_tag|>`` stands before it, whether ``<|eom_id|>`` ends it."""

    text: str
    tagged: bool = True
    ends_message: bool = True


class Dialect(ABC):
    """How one dialect writes tools, dates, contents and calls, and reads calls."""

    name: str
    searches: tuple[str, ...]
    interpreter: str
    bare_calls = True
    """Whether an answer may be a call without ``<|python_tag|>``; it then holds nothing else."""

    def offer(self, tools: Sequence[Any] | None) -> Offer:
        """Sorts ``tools``, names or OpenAI's objects; ``HerdError`` for a mere name that is not built in."""
        named = [(tool_name(tool), tool) for tool in tools or []]
        known = (*self.searches, self.interpreter)
        for name, tool in named:
            if isinstance(tool, str) and name not in known:
                raise HerdError(
                    f"the tool {name} is not built in, so it needs a description and parameters, not only a name"
                )
        builtins = tuple(name for name, tool in named if self._is_built_in(tool, name in known))
        return Offer(builtins, tuple(tool for name, tool in named if not self._is_built_in(tool, name in known)))

    def _is_built_in(self, tool: Any, known: bool) -> bool:
        return known

    def _tools_line(self, offer: Offer) -> str:
        named = [name for name in offer.builtins if name != self.interpreter]
        return f"Tools: {', '.join(named)}\n" if named else ""

    @abstractmethod
    def system_text(self, system: str, offer: Offer, dates: Dates | None) -> str:
        """The system block; no block is written where it is empty."""

    def functions_block(self, offer: Offer) -> str:
        """A user message of its own that describes functions; none is written where it is empty."""
        return ""

    def first_user_prefix(self, offer: Offer) -> str:
        """What stands before the text of the first user message."""
        return ""

    def content(self, text: str) -> str:
        """The text of a message as it is written."""
        return text

    def result(self, text: str) -> str:
        """The text of a tool's result as it is written."""
        return text

    @abstractmethod
    def write(self, calls: list[Call], offer: Offer) -> Written:
        """The calls of one message; ``HerdError`` where the dialect cannot carry them."""

    @abstractmethod
    def frame(self, name: str, offer: Offer) -> Frame:
        """The form in which one tool's call can be required; ``HerdError`` where the dialect cannot carry it."""

    @abstractmethod
    def read(self, text: str, tagged: bool) -> list[Call] | None:
        """The calls that a model wrote; None where the text is none."""

    def ends_message(self, tagged: bool) -> bool | None:
        """Whether a call ends with ``<|eom_id|>`` (or with ``<|eot_id|>``); None where both are right."""
        return tagged

    def _only(self, calls: list[Call]) -> Call:
        if len(calls) != 1:
            raise HerdError(f"{len(calls)} tool calls in one message; the format carries one call a message")
        return calls[0]


class HerdDialect(Dialect):
    """The format of the models that Herd trains."""

    name, searches, interpreter = "herd", SEARCH_TOOLS, PYTHON_TOOL
    bare_calls = False

    def __init__(self) -> None:
        self._forms = CallForms(self.searches, self.interpreter)

    def system_text(self, system: str, offer: Offer, dates: Dates | None) -> str:
        """Environment, tools, dates and the system's words; nothing where there is none of them."""
        head = "Environment: ipython\n" + self._tools_line(offer) if offer else ""
        head += dates.lines() if dates else ""
        return f"{head}\n{system}" if head else system

    def functions_block(self, offer: Offer) -> str:
        """Each function as it was given."""
        return describe_as_given(offer.functions)

    def write(self, calls: list[Call], offer: Offer) -> Written:
        """One call after the tag."""
        return Written(self._forms.write(*self._only(calls)))

    def frame(self, name: str, offer: Offer) -> Frame:
        """After the tag."""
        return self._forms.frame(name)

    def read(self, text: str, tagged: bool) -> list[Call] | None:
        """One call after the tag; without it there is none."""
        call = self._forms.read(text) if tagged else None
        return None if call is None else [call]


class MetaDialect(Dialect):
    """Meta's documentation; functions are called by JSON."""

    name, searches, interpreter = "meta", _META_SEARCHES, _META_INTERPRETER

    def __init__(self) -> None:
        self._forms = CallForms(self.searches, self.interpreter, typed=True)

    def system_text(self, system: str, offer: Offer, dates: Dates | None) -> str:
        """The same lines; what ends with a line of its own ends without its newline."""
        tools_line = self._tools_line(offer)
        # Without a line of tools the documentation leaves an empty one before the dates.
        head = "Environment: ipython\n" + (tools_line or "\n" * bool(dates)) if offer else ""
        head += dates.lines() if dates else ""
        return f"{head}\n{system}" if head and system else head.removesuffix("\n") or system

    def functions_block(self, offer: Offer) -> str:
        """The layout of the documentation."""
        return describe_like_meta(offer.functions)

    def write(self, calls: list[Call], offer: Offer) -> Written:
        """One call after the tag, or several as a list without it."""
        if len(calls) > 1:
            return Written(write_keyword_calls(calls), tagged=False, ends_message=False)
        return Written(self._forms.write(*self._only(calls)))

    def frame(self, name: str, offer: Offer) -> Frame:
        """After the tag."""
        return self._forms.frame(name)

    def read(self, text: str, tagged: bool) -> list[Call] | None:
        """Meta's order: function tag, JSON, list of calls; after the tag a search, JSON or code."""
        if not tagged:
            call = read_function_tag(text) or read_json_call(text)
            return read_keyword_calls(text) if call is None else [call]
        call = self._forms.read(text)
        return None if call is None else [call]


class MetaFunctionTags(MetaDialect):
    """Meta's documentation; functions are called in ``<function=…>`` tags, one at a time."""

    name = "meta-function-tags"

    def functions_block(self, offer: Offer) -> str:
        """A line of JSON for each function, and how to call them."""
        return describe_in_tags(offer.functions)

    def write(self, calls: list[Call], offer: Offer) -> Written:
        """Built-in tools after the tag, functions in a function tag."""
        name, arguments = self._only(calls)
        if name in (*self.searches, self.interpreter):
            return super().write(calls, offer)
        return Written(write_function_tag(name, arguments), tagged=False, ends_message=False)

    def frame(self, name: str, offer: Offer) -> Frame:
        """Built-in tools after the tag, functions in a function tag."""
        if name in (*self.searches, self.interpreter):
            return super().frame(name, offer)
        write_function_tag(name, {})  # a name that the tag cannot carry is refused
        return Frame(f"<function={name}>", "arguments", "</function>", tagged=False, ends_message=False)


class HuggingFaceDialect(Dialect):
    """What the published template renders; built-in tools are given by name, functions as objects."""

    name, searches, interpreter = "huggingface", _META_SEARCHES, _META_INTERPRETER
    _DATES = Dates(datetime.date(2024, 7, 26))
    _HEAD = (
        "Given the following functions, please respond with a JSON for a function call with its proper arguments that "
        'best answers the given prompt.\n\nRespond in the format {"name": function name, "parameters": dictionary of '
        "argument name and its value}.Do not use variables.\n\n"
    )
    _BUILT_IN = re.compile(
        rf'(?P<name>{"|".join((*searches, interpreter))})\.call\((?P<key>\w+)="(?P<value>.*)"\)', re.DOTALL
    )

    def _is_built_in(self, tool: Any, known: bool) -> bool:
        return isinstance(tool, str)

    def system_text(self, system: str, offer: Offer, dates: Dates | None) -> str:
        """Always a block, with dates; without ``dates`` those that the template holds."""
        environment = "Environment: ipython\n" if offer else ""
        named = ", ".join(name for name in offer.builtins if name != self.interpreter)
        tools_line = f"Tools: {named}\n\n" if offer.builtins else ""
        return f"{environment}{tools_line}{(dates or self._DATES).lines(short_month=True)}\n{system.strip()}"

    def first_user_prefix(self, offer: Offer) -> str:
        """The functions, before the first user's words."""
        described = [dump_json(tool, f"the description of {tool_name(tool)}", indent=4) for tool in offer.functions]
        return self._HEAD + "\n\n".join(described) + "\n\n" if described else ""

    def content(self, text: str) -> str:
        """Trimmed."""
        return text.strip()

    def result(self, text: str) -> str:
        """A JSON string."""
        return json.dumps(text, ensure_ascii=False)

    def write(self, calls: list[Call], offer: Offer) -> Written:
        """A built-in tool after the tag, a function as bare JSON."""
        name, arguments = call = self._only(calls)
        if name not in offer.builtins:
            return Written(write_json_call(name, arguments), tagged=False, ends_message=bool(offer.builtins))
        pairs = ", ".join(f'{key}="{value}"' for key, value in arguments.items())
        written = Written(f"{name}.call({pairs})")
        if self.read(written.text, tagged=True) != [call]:
            raise HerdError(f"the call of {name} needs one argument, a text; the published template writes no other")
        return written

    def frame(self, name: str, offer: Offer) -> Frame:
        """The same two forms; the argument of a built-in tool is its query or its code."""
        if name in offer.builtins:
            return Frame(f'{name}.call({"code" if name == self.interpreter else "query"}="', "text", '")')
        return json_frame(name, tagged=False, ends_message=bool(offer.builtins))

    def read(self, text: str, tagged: bool) -> list[Call] | None:
        """The same two forms; other text after the tag is code."""
        if found := self._BUILT_IN.fullmatch(text.strip()) if tagged else None:
            return [(found["name"], {found["key"]: found["value"]})]
        call = read_json_call(text)
        if call is None and tagged and text.strip():
            call = (self.interpreter, {"code": text})
        return None if call is None else [call]

    def ends_message(self, tagged: bool) -> bool | None:
        """After bare JSON it depends on the tools that were offered, which the answer does not show."""
        return True if tagged else None


DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect for dialect in (HerdDialect(), MetaDialect(), MetaFunctionTags(), HuggingFaceDialect())
}


def dialect_of(name: str) -> Dialect:
    """The dialect of that name; ``HerdError`` lists the names that there are."""
    if name not in DIALECTS:
        raise HerdError(f"there is no chat dialect {name!r}; use {', '.join(DIALECTS)}")
    return DIALECTS[name]
