"""Reading what a model generates: the same under any chunking, and never an exception."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herd.tokenizer.chat import ChatFormat
from herd.tokenizer.reply import Parsed, Piece
from herd.tokenizer.tokenizer import Tokenizer


def in_chunks(chat: ChatFormat, ids: list[int], cuts: list[int]) -> tuple[dict[str, str], list[str], Parsed]:
    """The text of each kind, the order of the kinds, and the message, for ids fed in the given chunks."""
    parser = chat.stream_parser()
    places = [0, *sorted(cut % (len(ids) + 1) for cut in cuts), len(ids)]
    pieces: list[Piece] = []
    for start, end in pairwise(places):
        pieces += parser.feed(ids[start:end])
    parsed = parser.finish()
    texts: dict[str, str] = {"content": "", "call": ""}
    order: list[str] = []
    for piece in pieces:
        texts[piece.kind] += piece.text
        if order[-1:] != [piece.kind]:
            order.append(piece.kind)
    return texts, order, parsed


generated = st.lists(st.integers(0, 767) | st.integers(768, 780), max_size=30)
texts = st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace").decode())


@given(generated, st.lists(st.integers(0, 40), max_size=6))
@settings(deadline=None, max_examples=200)
def test_any_ids_in_any_chunks(small: Tokenizer, ids: list[int], cuts: list[int]) -> None:
    chat = ChatFormat(small)
    texts, order, parsed = in_chunks(chat, ids, cuts)
    assert parsed == chat.parse(ids)
    assert in_chunks(chat, ids, list(range(40)))[:2] == in_chunks(chat, ids, [])[:2]
    message = parsed.message
    if "tool_calls" not in message:
        assert message["content"].startswith(texts["content"] + texts["call"])
    if parsed.well_formed:
        assert parsed.stop_id == ids[-1]
        ends = {small.eot_id, small.eom_id}
        assert sum(token in ends for token in ids) == 1
        assert order in ([], ["content"], ["call"], ["content", "call"])


@given(st.sampled_from(["search", "python", "weather"]), st.text(max_size=30), st.lists(st.integers(0, 60), max_size=8))
@settings(deadline=None)
def test_calls_survive_any_chunking(small: Tokenizer, name: str, value: str, cuts: list[int]) -> None:
    chat = ChatFormat(small)
    value = value.encode("utf-8", "replace").decode()
    key = {"search": "query", "python": "code", "weather": "city"}[name]
    call: dict[str, Any] = {"id": "x", "type": "function", "function": {"name": name, "arguments": {key: value}}}
    prompt = chat.encode([], open_assistant=True).ids
    ids = chat.encode([{"role": "assistant", "content": None, "tool_calls": [call]}]).ids[len(prompt) :]
    texts, _, parsed = in_chunks(chat, ids, cuts)
    assert parsed.well_formed
    assert parsed.message["content"] is None
    (read,) = parsed.message["tool_calls"]
    assert read["function"]["name"] == name
    assert value in {*eval(read["function"]["arguments"], {"null": None}).values()}
    assert texts["call"]


def test_every_truncation_is_malformed_and_keeps_its_text(small: Tokenizer) -> None:
    chat = ChatFormat(small)
    for text in ("It returns 你好.<|eot_id|>", 'So.<|python_tag|>search.call(query="json")<|eom_id|>'):
        ids = small.encode(text, allow_special=True)
        assert chat.parse(ids).well_formed
        for length in range(len(ids)):
            parsed = chat.parse(ids[:length])
            assert not parsed.well_formed
            assert parsed.stop_id is None
            assert "tool_calls" not in parsed.message
            assert parsed.message["content"] == small.decode(ids[:length], skip_special=True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Hello", "cut before its end"),
        ("Hello<|eom_id|>", "terminator of another kind"),
        ("Hello<|end_of_text|>", "terminator of another kind"),
        ("<|python_tag|>1 + 1<|eot_id|>", "terminator of another kind"),
        ("Hello<|eot_id|> and more", "something follows its end"),
        ("Hello<|eot_id|><|eot_id|>", "something follows its end"),
        ("Hello<|start_header_id|>user<|end_header_id|><|eot_id|>", "control token out of place"),
        ("<|python_tag|>1<|python_tag|>2<|eom_id|>", "control token out of place"),
        ("Hello<|reserved_special_token_7|><|eot_id|>", "control token out of place"),
        ("<|python_tag|><|eom_id|>", "its tool call cannot be read"),
        ('<|python_tag|>search.call(query="a<|eom_id|>', "its tool call cannot be read"),
        ('<|python_tag|>{"name": "f", "parameters": {<|eom_id|>', "its tool call cannot be read"),
        ('<|python_tag|>{"name": "f", "parameters": {"a": "\\ud800"}}<|eom_id|>', "its tool call cannot be read"),
        ('<|python_tag|>search.call(query="\\ud800")<|eom_id|>', "its tool call cannot be read"),
    ],
)
def test_what_is_not_well_formed(small: Tokenizer, text: str, problem: str) -> None:
    parsed = ChatFormat(small).parse(text)
    assert not parsed.well_formed
    assert problem in str(parsed.problem)
    small.encode(parsed.message["content"] or "")


def test_a_call_closed_as_a_turn_is_still_a_call(small: Tokenizer) -> None:
    parsed = ChatFormat(small).parse("<|python_tag|>1 + 1<|eot_id|>")
    assert parsed.message["tool_calls"][0]["function"] == {"name": "python", "arguments": '{"code": "1 + 1"}'}


def test_broken_bytes_are_malformed_and_a_written_replacement_is_not(bytewise: Tokenizer) -> None:
    chat = ChatFormat(bytewise)
    euro = bytewise.encode("€")
    assert chat.parse([*euro, bytewise.eot_id]).message["content"] == "€"
    for broken in (euro[:2], euro[1:], [*euro[:1], *euro]):
        parsed = chat.parse([*broken, bytewise.eot_id])
        assert not parsed.well_formed
        assert "�" in parsed.message["content"]
    assert chat.parse([*bytewise.encode("a � b"), bytewise.eot_id]).well_formed


def test_half_a_character_is_held_back(bytewise: Tokenizer) -> None:
    parser = ChatFormat(bytewise).stream_parser()
    first, second, third = bytewise.encode("€")
    assert parser.feed([first]) == parser.feed([second]) == []
    assert parser.feed([third, *bytewise.encode("!")]) == [Piece("content", "€!")]


def test_the_same_call_has_the_same_id_unless_one_is_given(small: Tokenizer) -> None:
    chat = ChatFormat(small)
    text = "<|python_tag|>1 + 1<|eom_id|>"
    first, second = (chat.parse(text).message["tool_calls"][0]["id"] for _ in range(2))
    assert first == second
    assert chat.parse(text, call_id="call_7").message["tool_calls"][0]["id"] == "call_7"
