"""Tool calls on the wire: the forms of the fact sheet, and back again whatever is in them."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from herd.foundation.errors import HerdError
from herd.tokenizer.calls import PYTHON_TOOL, SEARCH_TOOLS, CallForms, read_arguments

FORMS = CallForms(SEARCH_TOOLS, PYTHON_TOOL)
read_call, write_call = FORMS.read, FORMS.write

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
pieces = st.sampled_from(
    [
        'search.call(query="',
        '")',
        '{"name": "',
        '", "parameters": {',
        "}}",
        '"',
        "\\",
        "\n",
        " ",
        "print(1)",
        "é",
        "{",
        "}",
    ]
)
tricky = st.lists(pieces, max_size=8).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["search", "brave_search", "wolfram_alpha", "python", "weather"]) | text.filter(bool)
arguments = st.one_of(
    st.fixed_dictionaries({"query": tricky | text}),
    st.fixed_dictionaries({"code": tricky | text}),
    st.dictionaries(text, values, max_size=3),
)


@given(names, arguments)
@example("python", {"code": 'search.call(query="json.dumps")'})
@example("python", {"code": '{"name": "python", "parameters": {"code": "1"}}'})
@example("python", {"code": ""})
@example("python", {"code": " \n"})
@example("python", {"code": '  search.call(query="a") '})
@example("search", {"query": 'a "quoted" \\ word\n'})
@example("search", {"query": "x", "k": 3})
@example("search", {"query": 3})
def test_what_is_written_is_read_back(name: str, given_arguments: dict) -> None:
    assert read_call(write_call(name, given_arguments)) == (name, given_arguments)


@pytest.mark.parametrize(
    ("name", "given_arguments", "wire"),
    [
        ("search", {"query": "json.dumps"}, 'search.call(query="json.dumps")'),
        ("brave_search", {"query": "price of 1oz gold"}, 'brave_search.call(query="price of 1oz gold")'),
        ("wolfram_alpha", {"query": "100th decimal of π"}, 'wolfram_alpha.call(query="100th decimal of π")'),
        ("python", {"code": "37 * 412 - 5"}, "37 * 412 - 5"),
        ("python", {"code": "def f():\n    return {1: 2}\n"}, "def f():\n    return {1: 2}\n"),
        ("weather", {"city": "Oslo", "days": 2}, '{"name": "weather", "parameters": {"city": "Oslo", "days": 2}}'),
        ("weather", {}, '{"name": "weather", "parameters": {}}'),
    ],
)
def test_the_forms_on_the_wire(name: str, given_arguments: dict, wire: str) -> None:
    assert write_call(name, given_arguments) == wire
    assert read_call(wire) == (name, given_arguments)


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ('{"type": "function", "name": "f", "parameters": {"n": "10"}}', ("f", {"n": "10"})),
        ('{\n    "type": "function",\n    "name": "f",\n    "parameters": {"n": 10}\n}', ("f", {"n": 10})),
        ('search.call(query="\\d+ in re")', ("search", {"query": "\\d+ in re"})),
        ("{1, 2}", ("python", {"code": "{1, 2}"})),
        ('obj.call(query="x")', ("python", {"code": 'obj.call(query="x")'})),
    ],
)
def test_other_forms_that_models_write(wire: str, expected: tuple) -> None:
    assert read_call(wire) == expected


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "  \n",
        'search.call(query="cut',
        "search.call()",
        'search.call(query="a", k=2)',
        'search.call(query="a") and more',
        '{"name": "f", "parameters": {"a": 1}',
        '{"name": "f", "parameters": [1]}',
        '{"name": "f"}',
        '{"name": "", "parameters": {}}',
        '{"name": 3, "parameters": {}}',
        '{"name": "f", "parameters": {}, "more": 1}',
        '{"type": "other", "name": "f", "parameters": {}}',
        '{"name": "f", "parameters": {"x": NaN}}',
        '{"name": "f", "parameters": {"x": 1e999}}',
        '{"name": "f", "parameters": ' + '{"a": ' * 100_000,
    ],
)
def test_broken_calls_are_no_calls(wire: str) -> None:
    assert read_call(wire) is None


def test_arguments_come_as_json_or_as_an_object() -> None:
    assert read_arguments("f", '{"a": [1]}') == {"a": [1]}
    assert read_arguments("f", {"a": [1]}) == {"a": [1]}
    assert read_arguments("f", None) == {}
    for broken, message in (("[1]", "not a JSON object"), ("{", "not JSON"), ('{"a": Infinity}', "not JSON")):
        with pytest.raises(HerdError, match=message):
            read_arguments("f", broken)


def test_what_is_no_json_cannot_be_written() -> None:
    for value in (float("nan"), {1, 2}, "\ud800"):
        with pytest.raises(HerdError, match="the arguments of the call of f cannot be written as JSON"):
            write_call("f", {"a": value})
    assert json.loads(write_call("f", {"a": 1}))["name"] == "f"
