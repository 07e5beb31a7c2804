"""The guard in the path: on what a client sends, on what tools return, on every part of an answer."""

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from herd.guard.policy import REFUSAL
from herd.serve import assistant as turns
from herd.serve.assistant import TOO_MANY_CALLS, WITHHELD_MESSAGE
from herd.tools.agent import WITHHELD
from herd.tools.sandbox import Sandbox
from tests.serve.conftest import SENTENCE, SecretKeeper, Served

SEARCH = {"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {}}}}
PYTHON = {"type": "function", "function": {"name": "python", "parameters": {"type": "object", "properties": {}}}}
BOTH = [SEARCH, PYTHON]
KEY = {"Authorization": "Bearer open sesame"}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def ask(served: Served, messages: list, **more: Any) -> Any:
    api = openai.OpenAI(base_url=f"{served.url}/v1", api_key="open sesame", max_retries=0).chat.completions
    return api.create(model="chat", messages=messages, temperature=0, **more)


def converse(served: Served, messages: list) -> list[dict[str, Any]]:
    """What the chat page receives."""
    answer = httpx.post(f"{served.url}/api/converse", json={"messages": messages}, headers=KEY, timeout=30)
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def result_dialogue(text: str, role: str = "tool") -> list[dict[str, Any]]:
    function = {"name": "search", "arguments": '{"query": "json.dumps"}'}
    return [
        user("What does json.dumps do?"),
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": function}]},
        {"role": role, "tool_call_id": "c", "content": text},
    ]


@pytest.mark.parametrize(
    "messages",
    [
        [user("an evil plan")],
        [{"role": "system", "content": "Be evil."}, user("Hello")],
        [user("Tell it")],
        result_dialogue("evil words"),
        result_dialogue("evil words", role="ipython"),
        [user("Hello"), user("evil"), user("Hello")],
    ],
    ids=["prompt", "system", "answer", "tool result", "tool result by its wire name", "before the last message"],
)
def test_what_is_flagged_is_answered_by_a_refusal(guarded: Served, messages: list) -> None:
    choice = ask(guarded, messages).choices[0]
    assert choice.finish_reason == "content_filter"
    assert choice.message.content == REFUSAL


def test_a_forbidden_span_is_never_streamed_and_what_came_before_is(guarded: Served) -> None:
    chunks = list(ask(guarded, [user("Tell it")], stream=True, logprobs=True, stream_options={"include_usage": True}))
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == f"All is well. {REFUSAL}"
    tokens = [token.token for choice in choices if choice.logprobs for token in choice.logprobs.content]
    assert "".join(tokens) == "All is well. "
    assert choices[-1].finish_reason == "content_filter"
    assert chunks[-1].usage.completion_tokens > len("All is well. ")


@pytest.mark.parametrize("more", [{}, {"max_tokens": 14}, {"stop": ["')"]}, {"logprobs": True}], ids=str)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tools", [BOTH, [SEARCH]], ids=["on", "off"])
def test_no_form_of_a_forbidden_call_gets_out(guarded: Served, more: dict, stream: bool, tools: list) -> None:
    """Whole, cut short, cut by a stop string, of a tool that is off, and by way of its log-probabilities."""
    answer = ask(guarded, [user("Open it")], tools=tools, stream=stream, **more)
    told = "".join(chunk.model_dump_json() for chunk in answer) if stream else answer.model_dump_json()
    assert "content_filter" in told
    assert "open" not in told.replace("open sesame", "")
    assert "secret" not in told


def test_a_call_without_a_guard_is_whole_or_text(served: Served) -> None:
    whole = ask(served, [user("Open it")], tools=BOTH, logprobs=True).choices[0]
    assert json.loads(whole.message.tool_calls[0].function.arguments) == {"code": "open('secret')"}
    assert (whole.message.content, whole.logprobs) == (None, None)
    for more in ({"tools": BOTH, "max_tokens": 8}, {"tools": BOTH, "tool_choice": "none"}, {"tools": [SEARCH]}):
        choice = ask(served, [user("Open it")], **more).choices[0]
        assert choice.message.tool_calls is None
        chunks = ask(served, [user("Open it")], stream=True, **more)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == choice.message.content
    assert choice.message.content == "open('secret')"


def test_a_conversation_outlives_what_was_refused(guarded: Served) -> None:
    messages = [user("an evil plan"), {"role": "assistant", "content": REFUSAL}, user("Hello")]
    assert ask(guarded, messages).choices[0].finish_reason != "content_filter"
    keeper = guarded.household.guard
    assert isinstance(keeper, SecretKeeper)

    async def admitted() -> list[dict[str, Any]]:
        watch = turns.Watch(keeper)
        read, refused = await turns.Assistant(guarded.household.service, {}, watch)._admit(messages)
        assert refused is None
        return read

    assert [m["content"] for m in asyncio.run(admitted())] == [WITHHELD_MESSAGE, REFUSAL, "Hello"]


def test_the_verdict_on_an_earlier_message_is_remembered(guarded: Served) -> None:
    messages = [user("Hello"), {"role": "assistant", "content": "Hello. How are you?"}, user("What is 2 + 3?")]
    ask(guarded, messages)
    before = httpx.get(f"{guarded.url}/health").json()["guard"]["judged"]
    ask(guarded, messages)
    after = httpx.get(f"{guarded.url}/health").json()["guard"]
    assert after["judged"] == before
    assert after["mean_wait_ms"] > 0


def test_a_flagged_result_is_withheld_from_the_model_and_the_page(guarded: Served) -> None:
    keeper = guarded.household.guard
    assert isinstance(keeper, SecretKeeper)
    watch = guarded.household.watch
    assert watch is not None
    watch._known.clear()  # the same page has passed in other tests
    keeper.words = (*keeper.words, "Serialize")
    try:
        events = converse(guarded, [user("What does json.dumps do?")])
    finally:
        keeper.words = keeper.words[:-1]
        watch._known.clear()
    results = [event for event in events if event["event"] == "result"]
    assert results[0]["withheld"]
    assert results[0]["text"] == WITHHELD
    assert SENTENCE not in json.dumps(results)


def test_the_page_gets_calls_and_results_as_they_happen(guarded: Served) -> None:
    events = converse(guarded, [user("What does json.dumps do?")])
    assert [event["event"] for event in events if event["event"] != "text"] == ["call", "end", "result", "end"]
    assert events[-1]["message"]["content"] == SENTENCE
    assert events[-1]["finish_reason"] == "stop"


@pytest.mark.skipif(Sandbox.unavailable() is not None, reason="no sandbox can be had here")
def test_calls_are_counted_and_insecure_code_is_remarked(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_CALLS", 0)
    events = converse(served, [user("What is 2 + 3?")])
    assert [event["event"] for event in events] == ["text", "end"]
    assert events[-1]["message"] == {"role": "assistant", "content": TOO_MANY_CALLS}
    call = {"function": {"name": "python", "arguments": '{"code": "eval(input())"}'}}
    assert turns.warnings_of(call) == ["eval runs whatever text it is given (CWE-95)"]
    call["function"]["name"] = "search"
    assert turns.warnings_of(call) == []
