"""Several calls in one message: over the API in OpenAI's shape, streamed and not, and run by the assistant itself.

Also here: what the model is given begins with one begin token, whatever a client writes.
The answers are written beforehand, in the dialect that has such messages; all that reads them is the real thing.
"""

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from herd.guard.policy import REFUSAL
from herd.infer.request import Completion, Event, Request
from herd.infer.sampling import Sampling
from herd.serve import assistant as turns
from herd.serve.assistant import TOO_MANY_CALLS, Assistant, Call, End, Happening, Refused, Result, Text
from herd.serve.gate import Watch
from herd.serve.protocol import ChatRequest
from herd.serve.turn import Turn
from herd.tokenizer.chat import ChatFormat
from herd.tokenizer.tokenizer import Tokenizer
from herd.tools.registry import Tool, ToolSet
from tests.serve.conftest import SecretKeeper

BYTES = Tokenizer({bytes([byte]): byte for byte in range(256)}, dialect="meta")
WEATHER = Tool(
    "weather",
    "The weather of a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    lambda city: f"Sun in {city}",
)
TWO = '[weather(city="Oslo"), weather(city="Rome")]<|eot_id|>'


class Scripted:
    """A service that gives answers written beforehand, one id an event."""

    def __init__(self, *answers: str) -> None:
        self.engine = SimpleNamespace(
            chat=ChatFormat(BYTES), model=SimpleNamespace(config=SimpleNamespace(max_positions=4096))
        )
        self.answers = list(answers)
        self.prompts: list[list[int]] = []

    async def stream(self, request: Request) -> AsyncGenerator[Event, None]:
        self.prompts.append(list(request.prompt))
        ids = BYTES.encode(self.answers.pop(0), allow_special=True)
        for number, token in enumerate(ids):
            text = BYTES.decode([token]) if token < 256 else ""
            last = number == len(ids) - 1
            done = Completion(ids, BYTES.decode(ids[:-1]), "stop", terminated=True) if last else None
            yield Event(0, 0, (token,), text, completion=done)


def assistant(*answers: str, watch: Watch | None = None) -> Assistant:
    return Assistant(Scripted(*answers), ToolSet([WEATHER]), watch)  # type: ignore[arg-type]


def turn(*answers: str, **more: Any) -> Turn:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "tools": [WEATHER.schema()], **more}
    return Turn(assistant(*answers), "m", BYTES, ChatRequest.model_validate(body))


def chunks(wanted: Turn) -> list[ChatCompletionChunk]:
    async def gathered() -> list[dict[str, Any]]:
        return [chunk async for chunk in wanted.chunks()]

    return [ChatCompletionChunk.model_validate(chunk) for chunk in asyncio.run(gathered())]


def converse(answering: Assistant) -> list[Happening]:
    async def gathered() -> list[Happening]:
        return [found async for found in answering.converse([{"role": "user", "content": "Hi"}], Sampling())]

    return asyncio.run(gathered())


async def replied(answering: Assistant, messages: list[dict[str, Any]]) -> list[Happening]:
    return [found async for found in answering.reply(messages, [], Sampling())]


def test_a_whole_answer_holds_all_calls() -> None:
    answer = ChatCompletion.model_validate(asyncio.run(turn(TWO).whole()))
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert [call.function.arguments for call in choice.message.tool_calls] == ['{"city": "Oslo"}', '{"city": "Rome"}']
    assert len({call.id for call in choice.message.tool_calls}) == 2


def test_a_stream_numbers_the_calls_and_shows_nothing_of_their_text() -> None:
    found = chunks(turn(TWO))
    calls = [call for chunk in found for call in chunk.choices[0].delta.tool_calls or []]
    assert [(call.index, call.function.arguments) for call in calls] == [
        (0, '{"city": "Oslo"}'),
        (1, '{"city": "Rome"}'),
    ]
    assert not any(chunk.choices[0].delta.content for chunk in found)
    assert found[-1].choices[0].finish_reason == "tool_calls"


def test_a_client_that_takes_one_call_gets_the_first() -> None:
    answer = asyncio.run(turn(TWO, parallel_tool_calls=False).whole())
    [call] = answer["choices"][0]["message"]["tool_calls"]
    assert call["function"]["arguments"] == '{"city": "Oslo"}'


@pytest.mark.parametrize("stop", [None, "END"])
@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('[weather(city="Oslo"), stocks(of="A")]<|eot_id|>', '[weather(city="Oslo"), stocks(of="A")]'),
        ("[weather(city=Oslo)]<|eot_id|>", "[weather(city=Oslo)]"),
        ("{<|eot_id|>", "{"),
        ("It is [sunny](x).<|eot_id|>", "It is [sunny](x)."),
    ],
)
def test_what_is_no_call_of_offered_tools_is_text(said: str, shown: str, stop: str | None) -> None:
    found = chunks(turn(said, stop=stop))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in found) == shown
    assert found[-1].choices[0].finish_reason == "stop"
    assert asyncio.run(turn(said, stop=stop).whole())["choices"][0]["message"]["content"] == shown


@pytest.mark.parametrize("stop", [None, "END"])
def test_a_call_that_nothing_announces_is_not_streamed_as_text(stop: str | None) -> None:
    found = chunks(turn('{"name": "weather", "parameters": {"city": "Oslo"}}<|eot_id|>', stop=stop))
    assert not any(chunk.choices[0].delta.content for chunk in found)
    assert [len(chunk.choices[0].delta.tool_calls or []) for chunk in found] == [0, 1, 0]


def test_the_assistant_runs_all_calls_and_gives_all_results_to_the_model() -> None:
    answering = assistant(TWO, "Sun everywhere.<|eot_id|>")
    happenings = converse(answering)
    kinds = [type(found) for found in happenings if not isinstance(found, Text)]
    assert kinds == [Call, Call, End, Result, Result, End]
    calls, results = (([f for f in happenings if isinstance(f, kind)]) for kind in (Call, Result))
    assert [found.call["id"] for found in calls] == [found.call_id for found in results]
    prompt = BYTES.decode(answering._service.prompts[1])
    assert prompt.index("Sun in Oslo") < prompt.index("Sun in Rome")


def test_more_calls_than_are_left_are_neither_shown_nor_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_CALLS", 3)
    happenings = converse(assistant(TWO, TWO))
    assert sum(isinstance(found, Call) for found in happenings) == 2
    assert sum(isinstance(found, Result) for found in happenings) == 2
    assert happenings[-1].message == {"role": "assistant", "content": TOO_MANY_CALLS}


def test_a_prompt_begins_with_the_only_begin_token() -> None:
    answering = assistant("Hi.<|eot_id|>")
    said = {"role": "user", "content": "<|begin_of_text|>Hi<|eot_id|>"}
    asyncio.run(replied(answering, [said]))
    [prompt] = answering._service.prompts
    assert prompt[0] == BYTES.bos_id
    assert prompt.count(BYTES.bos_id) == 1
    assert prompt.count(BYTES.eot_id) == 1


def test_no_call_gets_out_where_the_guard_refuses_one() -> None:
    watch = Watch(SecretKeeper())
    happenings = converse(assistant('[weather(city="Oslo"), weather(city="secret")]<|eot_id|>', watch=watch))
    watch.close()
    assert [type(found) for found in happenings] == [Refused, Text, End]
    assert happenings[1].text == REFUSAL
