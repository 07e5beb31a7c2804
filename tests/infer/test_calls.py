"""Required calls: what the grammar lets through is what the chat encoder writes and its reader reads."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herd.foundation.errors import HerdError
from herd.infer.calls import call_grammar
from herd.infer.engine import Engine
from herd.infer.grammar import GrammarCompiler
from herd.infer.sampling import Sampling
from herd.tokenizer.chat import ChatFormat
from herd.tokenizer.dialects import DIALECTS
from herd.tokenizer.tokenizer import Tokenizer

CITY = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"enum": [1, 2, 3]}},
        "required": ["city"], "additionalProperties": False}  # fmt: skip
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
TOOLS = ["search", "python", WEATHER]
BYTES = Tokenizer({bytes([byte]): byte for byte in range(256)})
COMPILER = GrammarCompiler(BYTES, BYTES.vocab_size)


IN_DIALECT = {name: Tokenizer(BYTES.ranks, tuple(BYTES.special), name) for name in DIALECTS}


def passes(ids: list[int], tools: list[Any], tokenizer: Tokenizer = BYTES) -> bool:
    """Whether the grammar allows each id in its place, and nothing behind the last."""
    matcher = COMPILER.matcher(call_grammar(tokenizer, tools))
    ended = False
    for token in ids:
        if ended or not bool(COMPILER.mask([matcher])[0, token]):
            return False
        ended = matcher.accept(token)
    return ended


@pytest.mark.parametrize(
    ("said", "allowed"),
    [
        ('<|python_tag|>search.call(query="a \\\\ \\"b\\"")<|eom_id|>', True),
        ("<|python_tag|>searched = 'ü'\nprint(searched)<|eom_id|>", True),
        ('<|python_tag|>{"name": "weather", "parameters": {"city": "Oslo", "days": 3}}<|eom_id|>', True),
        ('<|python_tag|>{"name": "weather", "parameters": {"city": "Bern"}}<|eom_id|>', False),
        ('<|python_tag|>{"name": "stocks", "parameters": {}}<|eom_id|>', False),
        ("<|python_tag|>search.call(json)<|eom_id|>", False),
        ("<|python_tag|> \n<|eom_id|>", False),
        ("<|python_tag|>2 + 3<|eot_id|>", False),
        ("<|python_tag|>2 + <|eot_id|>3<|eom_id|>", False),
        ("Two and three is five.<|eot_id|>", False),
    ],
)
def test_only_calls_that_can_be_read_pass(said: str, allowed: bool) -> None:
    ids = BYTES.encode(said, allow_special=True)
    assert passes(ids, TOOLS) is allowed
    assert not allowed or ChatFormat(BYTES).parse(ids).well_formed


OSLO = '{"city": "Oslo"}'
SEARCHED = '<|python_tag|>brave_search.call(query="a \\"b\\"")<|eom_id|>'


@pytest.mark.parametrize(
    ("dialect", "tools", "said", "allowed"),
    [
        ("meta", ["brave_search", WEATHER], SEARCHED, True),
        ("meta", ["brave_search", WEATHER], "Hello<|eot_id|>", False),
        ("meta", ["code_interpreter"], "<|python_tag|>print('ü')\nx<|eom_id|>", True),
        ("meta", ["code_interpreter"], '<|python_tag|>{"name": "a"}<|eom_id|>', False),
        (
            "meta",
            [WEATHER],
            f'<|python_tag|>{{"type": "function", "name": "weather", "parameters": {OSLO}}}<|eom_id|>',
            True,
        ),
        ("meta-function-tags", ["brave_search", WEATHER], SEARCHED, True),
        ("meta-function-tags", [WEATHER], f"<function=weather>{OSLO}</function><|eot_id|>", True),
        ("meta-function-tags", [WEATHER], f"<function=weather>{OSLO}</function><|eom_id|>", False),
        ("meta-function-tags", [WEATHER], '<function=weather>{"city": "Bern"}</function><|eot_id|>', False),
        ("huggingface", [WEATHER], f'{{"name": "weather", "parameters": {OSLO}}}<|eot_id|>', True),
        ("huggingface", [WEATHER], f'<|python_tag|>{{"name": "weather", "parameters": {OSLO}}}<|eom_id|>', False),
        ("huggingface", ["brave_search", WEATHER], f'{{"name": "weather", "parameters": {OSLO}}}<|eom_id|>', True),
        ("huggingface", ["brave_search"], '<|python_tag|>brave_search.call(query="a "b" ")<|eom_id|>', True),
        ("huggingface", ["code_interpreter"], '<|python_tag|>code_interpreter.call(code="f("a")")<|eom_id|>', True),
        ("huggingface", ["brave_search"], "<|python_tag|>brave_search.call(a)<|eom_id|>", False),
    ],
)
def test_each_dialect_has_its_own_form_of_a_required_call(
    dialect: str, tools: list[Any], said: str, allowed: bool
) -> None:
    tokenizer = IN_DIALECT[dialect]
    ids = tokenizer.encode(said, allow_special=True)
    assert passes(ids, tools, tokenizer) is allowed
    if allowed:
        parsed = ChatFormat(tokenizer).parse(ids)
        assert parsed.well_formed, parsed.problem
        assert len(parsed.message["tool_calls"]) == 1


def test_the_terminator_of_a_named_call_follows_all_tools_that_are_offered() -> None:
    tokenizer = IN_DIALECT["huggingface"]
    assert call_grammar(tokenizer, [WEATHER], ["brave_search", WEATHER]) != call_grammar(tokenizer, [WEATHER])


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "herd"])
def test_whatever_a_model_would_say_it_calls_in_its_dialect(make_engine: Callable[..., Engine], dialect: str) -> None:
    engine = make_engine()
    tokenizer = Tokenizer(engine.tokenizer.ranks, tuple(engine.tokenizer.special), dialect)
    wild = Sampling(max_tokens=120, temperature=1.5, seed=4, grammar=call_grammar(tokenizer, [WEATHER]))
    prompt = ChatFormat(tokenizer).encode([{"role": "user", "content": "Hi"}], open_assistant=True).ids
    [found] = engine.generate([prompt], wild, n=3)
    for answer in [ChatFormat(tokenizer).parse(one.ids) for one in found]:
        assert answer.well_formed, answer.problem
        [call] = answer.message["tool_calls"]
        assert json.loads(call["function"]["arguments"])["city"] in ("Oslo", "Rome")


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=12).filter(lambda text: text.isprintable()), st.sampled_from(["search", "weather"]))
def test_what_the_encoder_writes_passes(text: str, name: str) -> None:
    tool = {
        "type": "function",
        "function": {"name": "weather", "parameters": {"properties": {"q": {"type": "string"}}}},
    }
    arguments = {"query": text} if name == "search" else {"q": text}
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": function}]}
    encoded = ChatFormat(BYTES).encode([{"role": "user", "content": "?"}, call], tools=["search", tool])
    written = [token for token, trained in zip(encoded.ids, encoded.mask, strict=True) if trained]
    assert passes(written, ["search", tool])


@pytest.mark.parametrize("tools", [TOOLS, ["python"], [WEATHER], ["search", "search"]])
def test_whatever_a_model_would_say_it_calls(make_engine: Callable[..., Engine], tools: list[Any]) -> None:
    engine = make_engine()
    grammar = call_grammar(engine.tokenizer, tools)
    prompt = engine.chat.encode([{"role": "user", "content": "Hi"}], open_assistant=True).ids
    wild = Sampling(max_tokens=150, temperature=1.5, seed=4, grammar=grammar)
    [found] = engine.generate([prompt], wild, n=6)
    ended = [engine.chat.parse(one.ids) for one in found if one.terminated]
    assert ended, "none came to its end"
    for answer in ended:
        assert answer.well_formed, answer.problem
        called = answer.message["tool_calls"][0]["function"]
        assert called["name"] in {"search", "python", "weather"} & {str(tool) for tool in tools} or WEATHER in tools
        assert called["name"] != "weather" or json.loads(called["arguments"])["city"] in ("Oslo", "Rome")


def test_a_call_that_cannot_be_required_is_refused(make_engine: Callable[..., Engine]) -> None:
    with pytest.raises(HerdError, match="there is no tool to call"):
        call_grammar(BYTES, [])
    nonsense = {
        "type": "function",
        "function": {"name": "f", "parameters": {"properties": {"a": {"type": "nonsense"}}}},
    }
    with pytest.raises(HerdError, match="the schema of a tool's arguments cannot be used"):
        make_engine().generate([[1]], Sampling(grammar=call_grammar(BYTES, [nonsense])))
