"""Calls in every dialect: tagged and bare, parallel and nested, read back whole or while they arrive."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from herd.foundation.errors import HerdError
from herd.tokenizer.chat import ChatFormat
from herd.tokenizer.dialects import DIALECTS
from herd.tokenizer.reply import Piece
from herd.tokenizer.tokenizer import Tokenizer
from tests.tokenizer.messages import answered, call, user

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
NESTED = {"name": "station", "parameters": {"of": "Bergen", "deep": [{"name": "g", "parameters": {}}]}}


@pytest.mark.parametrize("dialect", DIALECTS)
@given(name=st.sampled_from(["weather", "trains"]), given_arguments=st.dictionaries(text, values, max_size=3))
@example(name="weather", given_arguments={"to": NESTED})
@example(name="weather", given_arguments={"x": "</function>", "y": '")<|eot_id|>'})
@settings(deadline=None, max_examples=40)
def test_a_function_call_is_read_back(small: Tokenizer, dialect: str, name: str, given_arguments: dict) -> None:
    assert_read_back(ChatFormat(small, dialect), call((name, given_arguments)))


def assert_read_back(chat: ChatFormat, message: dict[str, Any], tools: list[Any] | None = None) -> None:
    prompt = chat.encode([user("?")], tools=tools, open_assistant=True).ids
    ids = chat.encode([user("?"), message], tools=tools).ids
    assert ids[: len(prompt)] == prompt
    parsed = chat.parse(ids[len(prompt) :], call_id="c")
    assert parsed.well_formed, parsed.problem
    read = parsed.message
    assert (read["content"] or "") == (message["content"] or "")
    for found in read["tool_calls"]:
        found["function"]["arguments"] = json.loads(found["function"]["arguments"])
    assert read["tool_calls"] == message["tool_calls"]


@pytest.mark.parametrize("dialect", DIALECTS)
@given(query=text | st.sampled_from(['a "quoted" \\ word\n', '")<|eom_id|>', '", query="', "\\d+", "{}", ""]))
@settings(deadline=None, max_examples=40)
def test_built_in_calls_are_read_back(small: Tokenizer, dialect: str, query: str) -> None:
    chat = ChatFormat(small, dialect)
    interpreter = chat.dialect.interpreter
    for name, key in (("brave_search", "query"), ("wolfram_alpha", "query"), (interpreter, "code")):
        assert_read_back(chat, call((name, {key: query})), ["brave_search", "wolfram_alpha", interpreter])


arguments_by_keyword = st.dictionaries(st.sampled_from(["a", "city", "x_1", "größe"]), values, max_size=3)


@given(st.lists(st.tuples(st.sampled_from(["f", "weather", "a.b"]), arguments_by_keyword), min_size=2, max_size=3))
@example([("f", {"a": NESTED}), ("f", {"a": NESTED})])
@example([("f", {"a": -1.5}), ("f", {"a": True})])
@settings(deadline=None, max_examples=100)
def test_parallel_and_nested_calls_are_read_back(small: Tokenizer, calls: list[tuple[str, dict]]) -> None:
    assert_read_back(ChatFormat(small, "meta"), call(*calls))


def test_nested_calls_on_the_wire(meta: ChatFormat) -> None:
    written = answered(meta, call(("f", {"to": NESTED}), ("g", {"d": {"k": [1, None]}})))
    assert written == '[f(to=station(of="Bergen", deep=[g()])), g(d={"k": [1, None]})]<|eot_id|>'


@pytest.mark.parametrize(
    "wire",
    [
        "[f(1)]",
        "[f(**x)]",
        "[f(a=b)]",
        "[f(a=1) for x in y]",
        "[f(a=__import__('os').system('x'))]",
        "[f(a=1), 2]",
        "[f(a={1: 2})]",
        "[f(a=1e999)]",
        "[f(a=1j)]",
        "[f(a=-True)]",
        "[f(a=b'x')]",
        "[f(a=...)]",
        "[(f)(a=1)(b=2)]",
        "[f(a=(1,))]",
        "[f(a=1)",
        "[]",
        "[f(a=" + "[" * 5000 + "]" * 5000 + ")]",
        '{"name": "f", "parameters": {',
        "<function=f>{]</function>",
        "<function=f>[1]</function>",
        '<function=>{"a": 1}</function>',
        '{"name": "f", "parameters": {"a": 1}} and more',
    ],
)
def test_what_only_looks_like_a_call_is_text(meta: ChatFormat, wire: str) -> None:
    parsed = meta.parse(f"{wire}<|eot_id|>")
    assert parsed.message == {"role": "assistant", "content": wire}
    assert parsed.well_formed


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ('<function=f>{"a": 1}', ("f", {"a": 1})),
        ('{"type": "function", "name": "f", "parameters": {"a": 1}}', ("f", {"a": 1})),
        (" [f(a=true, b=null, c='x')]\n", ("f", {"a": True, "b": None, "c": "x"})),
    ],
)
def test_other_bare_forms_that_models_write(meta: ChatFormat, wire: str, expected: tuple) -> None:
    parsed = meta.parse(f"{wire}<|eot_id|>")
    assert parsed.well_formed
    (read,) = parsed.message["tool_calls"]
    assert (read["function"]["name"], json.loads(read["function"]["arguments"])) == expected


def test_code_after_the_tag_is_the_interpreters(published_template: ChatFormat) -> None:
    (read,) = published_template.parse("<|python_tag|>print(1)<|eom_id|>").message["tool_calls"]
    assert read["function"] == {"name": "code_interpreter", "arguments": '{"code": "print(1)"}'}


def test_calls_that_a_dialect_cannot_carry(meta: ChatFormat, published_template: ChatFormat, small: Tokenizer) -> None:
    tags = ChatFormat(small, "meta-function-tags")
    cases = [
        (published_template, call(("f", {}), content="Let me see."), None, "message 1: it holds words beside a call"),
        (published_template, call(("brave_search", {"query": 3})), ["brave_search"], "needs one argument, a text"),
        (published_template, call(("brave_search", {"a": "1", "b": "2"})), ["brave_search"], "needs one argument"),
        (tags, call(("f", {}), ("f", {})), None, "message 1: 2 tool calls in one message"),
        (tags, call(("f>", {})), None, "the name 'f>' cannot stand in a function tag"),
        (tags, call(("f", {}), content="So:"), None, "words beside a call"),
        (meta, call(("f", {"a b": 1}), ("f", {})), None, "the call of f cannot be written with keyword arguments"),
        (meta, call(("f", {"ﬁ": 1}), ("f", {})), None, "the call of f cannot be written with keyword arguments"),
        (meta, call(("class", {}), ("f", {})), None, "the call of class cannot be written with keyword"),
    ]
    for chat, message, tools, sentence in cases:
        with pytest.raises(HerdError, match=sentence):
            chat.encode([user("?"), message], tools=tools)


# Streaming: nothing depends on how the ids arrive.

begins = st.sampled_from(
    ['{"', '{"name": "f", "parameters": {}}', "<function=", "<func", "[f(", "[1]", "{ 'a'", "é", " "]
)
generated = st.lists(begins | st.text(max_size=6) | st.sampled_from(["<|python_tag|>", "<|eot_id|>", "<|eom_id|>"]))


def streamed(chat: ChatFormat, ids: list[int], cuts: list[int]) -> tuple[list[tuple[str, str]], Any]:
    """Events with neighbouring pieces of a kind joined, and the message."""
    parser, pieces = chat.stream_parser(), list[Piece]()
    places = [0, *sorted(cut % (len(ids) + 1) for cut in cuts), len(ids)]
    for start, end in pairwise(places):
        pieces += parser.feed(ids[start:end])
    joined: list[tuple[str, str]] = []
    for piece in pieces:
        if joined and joined[-1][0] == piece.kind:
            joined[-1] = (piece.kind, joined[-1][1] + piece.text)
        else:
            joined.append((piece.kind, piece.text))
    return joined, parser.finish()


@pytest.mark.parametrize("dialect", DIALECTS)
@given(parts=generated, cuts=st.lists(st.integers(0, 60), max_size=6))
@settings(deadline=None, max_examples=60)
def test_any_chunking_gives_the_same_events(small: Tokenizer, dialect: str, parts: list[str], cuts: list[int]) -> None:
    chat = ChatFormat(small, dialect)
    ids = small.encode("".join(parts).encode("utf-8", "replace").decode(), allow_special=True)
    events, parsed = streamed(chat, ids, cuts)
    assert (events, parsed) == streamed(chat, ids, []) == streamed(chat, ids, list(range(61)))
    if parsed.well_formed and "tool_calls" not in parsed.message:
        assert "".join(words for _, words in events) == parsed.message["content"]


def test_text_is_held_back_only_while_it_may_be_a_call(meta: ChatFormat, small: Tokenizer) -> None:
    parser = meta.stream_parser()
    assert parser.feed(small.encode(" <func")) == []
    assert parser.feed(small.encode("y")) == [Piece("content", " <funcy")]
    parser = meta.stream_parser()
    assert parser.feed(small.encode("{")) == []
    assert parser.feed([small.eot_id]) == [Piece("content", "{")]
    assert ChatFormat(small).stream_parser().feed(small.encode("{")) == [Piece("content", "{")]
