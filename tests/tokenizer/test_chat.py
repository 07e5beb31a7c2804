"""The chat encoder: ids and masks of every shape of message, written down by hand, and what must always hold."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herd.foundation.errors import HerdError
from herd.tokenizer.chat import ChatFormat, EncodedChat
from herd.tokenizer.special import SPECIAL_TOKENS
from herd.tokenizer.tokenizer import Tokenizer

# The published order of the control tokens, as offsets from the first.
CONTROL = {
    "<begin>": 0,
    "<header>": 6,
    "</header>": 7,
    "<eom>": 8,
    "<eot>": 9,
    "<python>": 10,
}

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Das Wetter für morgen", "parameters": {"type": "object"}},
}
WEATHER_TEXT = (
    "Answer the user's question by making use of the following functions if needed.\n"
    "If none of the function can be used, please say so.\n"
    "Here is a list of functions in JSON format:\n"
    '{\n    "type": "function",\n    "function": {\n        "name": "weather",\n'
    '        "description": "Das Wetter für morgen",\n        "parameters": {\n            "type": "object"\n'
    "        }\n    }\n}\n\nReturn function calls in JSON format."
)


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def call(name: str, arguments: dict, content: str | None = None, call_id: str = "call_1") -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {
        "role": "assistant",
        "content": content,
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }


def result(text: str, call_id: str = "call_1") -> dict[str, Any]:
    return {"role": "tool", "content": text, "tool_call_id": call_id}


def block(role: str, text: str) -> list[tuple[str, str]]:
    return [("<header>", ""), (role, ""), ("</header>", ""), ("\n\n", ""), (text, ""), ("<eot>", "")]


def opened() -> list[tuple[str, str]]:
    return [("<header>", ""), ("assistant", ""), ("</header>", ""), ("\n\n", "")]


BEGIN = [("<begin>", "")]

# Every shape: messages, tools, and what must come out, piece by piece. "c": trained and content; "t": trained only.
SHAPES: dict[str, tuple[list[dict[str, Any]], list[Any] | None, list[tuple[str, str]]]] = {
    "plain": (
        [user("Hi"), answer("Hello!")],
        None,
        [*BEGIN, *block("user", "Hi"), *opened(), ("Hello!", "c"), ("<eot>", "t")],
    ),
    "system": (
        [system("Be kind."), user("Hi"), answer("Hello!")],
        None,
        [
            *BEGIN,
            *block("system", "Be kind."),
            *block("user", "Hi"),
            *opened(),
            ("Hello!", "c"),
            ("<eot>", "t"),
        ],
    ),
    "empty system": ([system(""), user("Hi")], None, [*BEGIN, *block("user", "Hi")]),
    "tools without system": (
        [user("Hi")],
        ["search", "python"],
        [*BEGIN, *block("system", "Environment: ipython\nTools: search\n\n"), *block("user", "Hi")],
    ),
    "tools with system": (
        [system("Be kind."), user("Hi")],
        ["python", "search", "wolfram_alpha"],
        [
            *BEGIN,
            *block("system", "Environment: ipython\nTools: search, wolfram_alpha\n\nBe kind."),
            *block("user", "Hi"),
        ],
    ),
    "interpreter alone": (
        [system("Be kind."), user("Hi")],
        ["python"],
        [*BEGIN, *block("system", "Environment: ipython\n\nBe kind."), *block("user", "Hi")],
    ),
    "described function": (
        [user("Hi")],
        ["search", WEATHER],
        [
            *BEGIN,
            *block("system", "Environment: ipython\nTools: search\n\n"),
            *block("user", WEATHER_TEXT),
            *block("user", "Hi"),
        ],
    ),
    "search call": (
        [user("What?"), call("search", {"query": "json.dumps"}), result("Serialize."), answer("It serializes.")],
        None,
        [
            *BEGIN,
            *block("user", "What?"),
            *opened(),
            ("<python>", "c"),
            ('search.call(query="json.dumps")', "c"),
            ("<eom>", "t"),
            *block("ipython", "Serialize."),
            *opened(),
            ("It serializes.", "c"),
            ("<eot>", "t"),
        ],
    ),
    "python call": (
        [user("37?"), call("python", {"code": "37 * 412 - 5"}), result("completed\n[stdout]15239[/stdout]")],
        None,
        [
            *BEGIN,
            *block("user", "37?"),
            *opened(),
            ("<python>", "c"),
            ("37 * 412 - 5", "c"),
            ("<eom>", "t"),
            *block("ipython", "completed\n[stdout]15239[/stdout]"),
        ],
    ),
    "function call": (
        [user("Rain?"), call("weather", {"city": "Köln"})],
        None,
        [
            *BEGIN,
            *block("user", "Rain?"),
            *opened(),
            ("<python>", "c"),
            ('{"name": "weather", "parameters": {"city": "Köln"}}', "c"),
            ("<eom>", "t"),
        ],
    ),
    "words before a call": (
        [user("37?"), call("python", {"code": "37"}, content="Let me see.")],
        None,
        [
            *BEGIN,
            *block("user", "37?"),
            *opened(),
            ("Let me see.", "c"),
            ("<python>", "c"),
            ("37", "c"),
            ("<eom>", "t"),
        ],
    ),
    "several turns": (
        [user("A"), answer("B"), user("C"), answer(" D\n")],
        None,
        [
            *BEGIN,
            *block("user", "A"),
            *opened(),
            ("B", "c"),
            ("<eot>", "t"),
            *block("user", "C"),
            *opened(),
            (" D\n", "c"),
            ("<eot>", "t"),
        ],
    ),
    "later system message": (
        [user("A"), system("Now in French.")],
        None,
        [*BEGIN, *block("user", "A"), *block("system", "Now in French.")],
    ),
    "parts of text": (
        [{"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]}],
        None,
        [*BEGIN, *block("user", "AB")],
    ),
    "developer": (
        [{"role": "developer", "content": "Be kind."}, user("A")],
        None,
        [*BEGIN, *block("system", "Be kind."), *block("user", "A")],
    ),
    "nothing": ([], None, BEGIN),
}


def expected(tokenizer: Tokenizer, pieces: list[tuple[str, str]]) -> EncodedChat:
    """Ids by the table of single bytes and the offsets of the control tokens alone."""
    encoded = EncodedChat()
    for piece, kind in pieces:
        if piece in CONTROL:
            ids = [256 + CONTROL[piece]]
        else:
            ids = [tokenizer.ranks[bytes([byte])] for byte in piece.encode()]
        encoded.ids += ids
        encoded.mask += [kind != ""] * len(ids)
        encoded.content_mask += [kind == "c"] * len(ids)
    return encoded


@pytest.mark.parametrize("shape", SHAPES)
def test_golden_ids_and_masks(bytewise: Tokenizer, shape: str) -> None:
    messages, tools, pieces = SHAPES[shape]
    chat = ChatFormat(bytewise)
    for encoded, wanted in (
        (chat.encode(messages, tools=tools), expected(bytewise, pieces)),
        (chat.encode(messages, tools=tools, open_assistant=True), expected(bytewise, pieces + opened())),
    ):
        assert (encoded.ids, encoded.mask, encoded.content_mask) == (wanted.ids, wanted.mask, wanted.content_mask)


def test_the_published_check_vector(published: Tokenizer) -> None:
    messages = [system("You are a helpful assistant"), user("Hello!")]
    # fmt: off
    assert ChatFormat(published).encode(messages, open_assistant=True).ids == [
        128000, 128006, 9125, 128007, 271, 2675, 527, 264, 11190, 18328, 128009, 128006, 882, 128007, 271, 9906, 0,
        128009, 128006, 78191, 128007, 271,
    ]
    # fmt: on


def test_rendered_as_published(published: Tokenizer) -> None:
    shown = ChatFormat(published).render(
        [
            user("Decimal of pi?"),
            call("wolfram_alpha", {"query": "100th decimal of pi"}),
            result("7"),
            answer("It is 7."),
        ],
        tools=["wolfram_alpha"],
    )
    assert shown == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nEnvironment: ipython\nTools: wolfram_alpha\n\n"
        "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nDecimal of pi?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
        '<|python_tag|>wolfram_alpha.call(query="100th decimal of pi")<|eom_id|>'
        "<|start_header_id|>ipython<|end_header_id|>\n\n7<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nIt is 7.<|eot_id|>"
    )


names = st.sampled_from(SPECIAL_TOKENS)
contents = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | names, max_size=4).map("".join)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    messages = [system(draw(contents))] if draw(st.booleans()) else []
    for number in range(draw(st.integers(0, 3))):
        messages.append(user(draw(contents)))
        if draw(st.booleans()):
            function, argument = draw(st.sampled_from([("search", "query"), ("python", "code"), ("weather", "city")]))
            messages.append(call(function, {argument: draw(contents)}, draw(st.none() | contents), f"call_{number}"))
            messages.append(result(draw(contents), f"call_{number}"))
        messages.append(answer(draw(contents)))
    return messages


@given(conversations(), st.sampled_from([None, ["search"], ["python"], ["search", "python", WEATHER]]))
@settings(deadline=None)
def test_properties_of_every_conversation(small: Tokenizer, messages: list, tools: list | None) -> None:
    chat = ChatFormat(small)
    encoded = chat.encode(messages, tools=tools)
    ids, mask, content = encoded.ids, encoded.mask, encoded.content_mask
    assert len(ids) == len(mask) == len(content)
    assert ids.count(small.bos_id) == 1
    assert ids[0] == small.bos_id
    said = [message for message in messages if message["role"] == "assistant"]
    # No control token comes from the text: their number follows from the messages alone.
    blocks = ids.count(small.start_header_id)
    assert ids.count(small.end_header_id) == blocks
    assert ids.count(small.eot_id) + ids.count(small.eom_id) == blocks
    calls = sum("tool_calls" in message for message in said)
    assert ids.count(small.python_tag_id) == ids.count(small.eom_id) == calls
    assert max(ids) <= small.python_tag_id
    # Every assistant turn is one stretch of the mask, and ends inside it with its terminator.
    ends = [place for place, inside in enumerate(mask) if inside and not [*mask, False][place + 1]]
    assert [ids[end] for end in ends] == [small.eom_id if "tool_calls" in each else small.eot_id for each in said]
    assert [place for place in range(len(ids)) if mask[place] and not content[place]] == ends
    assert not any(in_content and not trained for in_content, trained in zip(content, mask, strict=True))


@given(conversations(), st.sampled_from([None, ["search", "python"], [WEATHER]]))
@settings(deadline=None)
def test_a_prompt_is_the_beginning_of_the_whole_and_the_answer_is_read_back(
    small: Tokenizer, messages: list, tools: list | None
) -> None:
    chat = ChatFormat(small)
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = chat.encode(messages[:number], tools=tools, open_assistant=True).ids
        whole = chat.encode(messages[: number + 1], tools=tools).ids
        assert whole[: len(prompt)] == prompt
        parsed = chat.parse(whole[len(prompt) :], call_id=(message.get("tool_calls") or [{}])[0].get("id"))
        assert parsed.well_formed, parsed.problem
        read = parsed.message
        assert (read["content"] or "") == (message["content"] or "")
        assert ("tool_calls" in read) == ("tool_calls" in message)
        if "tool_calls" in message:
            given_call, read_call = message["tool_calls"][0], read["tool_calls"][0]
            assert read_call["id"] == given_call["id"]
            assert read_call["function"]["name"] == given_call["function"]["name"]
            assert json.loads(read_call["function"]["arguments"]) == json.loads(given_call["function"]["arguments"])


def test_a_mask_without_its_terminators_would_be_noticed(small: Tokenizer) -> None:
    """The mutation that others shipped: the model never learns to stop."""
    encoded = ChatFormat(small).encode([user("A"), answer("B")])
    assert encoded.mask[-1]
    assert not encoded.content_mask[-1]
    assert encoded.ids[-1] == small.eot_id
    assert [small.decode([token]) for token, inside in zip(encoded.ids, encoded.mask, strict=True) if inside] == [
        "B",
        "<|eot_id|>",
    ]


@pytest.mark.parametrize(
    ("messages", "tools", "message"),
    [
        ([{"role": "robot", "content": "x"}], None, "message 0: the role 'robot' does not exist"),
        ([{"content": "x"}], None, "message 0: the role None does not exist"),
        ([user("a"), {"role": "user", "content": 3}], None, "message 1: its content is neither text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], None, "message 0: it holds an image, and this model"),
        ([{"role": "system", "content": [{"type": "image"}]}], None, "message 0: its content is neither text"),
        ([{"role": "user", "content": [{"type": "video"}]}], None, "message 0: its content is neither text"),
        ([user("a"), result("b")], None, "message 1: a tool result without a call"),
        ([result("b")], None, "message 0: a tool result without a call"),
        ([call("f", {}), result("b", "call_2")], None, "message 1: the result answers the call 'call_2'"),
        ([call("f", {}) | {"tool_calls": call("f", {})["tool_calls"] * 2}], None, "message 0: 2 tool calls"),
        ([{"role": "assistant", "tool_calls": [{}]}], None, "message 0: its tool call names no function"),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
            None,
            "message 0: the arguments of the call of f are not JSON",
        ),
        ([user("\ud800")], None, r"message 0: the text holds a lone surrogate"),
        ([user("a")], ["weather"], "the tool weather is not built in"),
        ([user("a")], [{"type": "function"}], "a tool has no function name"),
    ],
)
def test_bad_messages_are_named(small: Tokenizer, messages: list, tools: list | None, message: str) -> None:
    with pytest.raises(HerdError, match=message):
        ChatFormat(small).encode(messages, tools=tools)


def test_every_shape_is_different(bytewise: Tokenizer) -> None:
    chat = ChatFormat(bytewise)
    encoded = [chat.encode(messages, tools=tools).ids for messages, tools, _ in SHAPES.values()]
    assert all(first != second for first, second in itertools.combinations(encoded, 2))
