"""The API as its users meet it: the ``openai`` client, plain HTTP, many clients at once, and clients that leave."""

import asyncio
import json
import time

import httpx
import openai
import pytest

from tests.serve.conftest import SENTENCE, Served

HELLO = [{"role": "user", "content": "Hello"}]
SEARCH = {
    "type": "function",
    "function": {"name": "search", "parameters": {"type": "object", "properties": {"query": {"type": "string"}}}},
}
PYTHON = {
    "type": "function",
    "function": {"name": "python", "parameters": {"type": "object", "properties": {"code": {"type": "string"}}}},
}


def client(served: Served, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key=key, max_retries=0)


def test_a_plain_answer_with_its_usage(served: Served) -> None:
    answer = client(served).chat.completions.create(model="chat", messages=HELLO, temperature=0)
    assert answer.choices[0].message.content == "Hello. How are you?"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(b"Hello. How are you?") + 1
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_gives_the_same_text_in_pieces_and_usage_when_asked(served: Served) -> None:
    chunks = list(client(served).chat.completions.create(
        model="chat", messages=HELLO, temperature=0, stream=True, stream_options={"include_usage": True}))  # fmt: skip
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == "Hello. How are you?"
    assert len(pieces) > 5
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_call_and_its_result_go_through_the_client(served: Served, stream: bool) -> None:
    messages: list = [{"role": "user", "content": "What does json.dumps do?"}]
    api = client(served).chat.completions
    tools = [SEARCH, PYTHON]
    if stream:
        chunks = list(api.create(model="chat", messages=messages, tools=tools, temperature=0, stream=True))
        (call,) = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or []]
        reason = chunks[-1].choices[0].finish_reason
    else:
        choice = api.create(model="chat", messages=messages, tools=tools, temperature=0).choices[0]
        (call,) = choice.message.tool_calls or []
        reason = choice.finish_reason
    assert reason == "tool_calls"
    assert call.function.name == "search"
    assert json.loads(call.function.arguments) == {"query": "json.dumps"}
    function = {"name": "search", "arguments": call.function.arguments}
    messages += [
        {"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": call.id, "content": f"json.dumps(obj)\n{SENTENCE}"},
    ]
    answer = api.create(model="chat", messages=messages, tools=tools, temperature=0)
    assert answer.choices[0].message.content == SENTENCE


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "python"}}])
def test_a_model_that_would_rather_talk_calls_where_it_must(served: Served, choice: object, stream: bool) -> None:
    settings = {"model": "chat", "messages": HELLO, "tools": [SEARCH, PYTHON], "temperature": 0, "stream": stream}
    found = client(served).chat.completions.create(**settings, tool_choice=choice)
    if stream:
        (call,) = [call for chunk in found for call in chunk.choices[0].delta.tool_calls or []]
    else:
        assert found.choices[0].finish_reason == "tool_calls"
        (call,) = found.choices[0].message.tool_calls
    assert call.function.name in (["python"] if isinstance(choice, dict) else ["search", "python"])
    assert set(json.loads(call.function.arguments)) in ({"query"}, {"code"})


def test_choices_are_streamed_side_by_side(served: Served) -> None:
    settings = {"model": "chat", "messages": [{"role": "user", "content": "xyz"}], "temperature": 2.0, "top_p": 1.0,
                "max_tokens": 20, "seed": 5, "n": 4}  # fmt: skip
    api = client(served).chat.completions
    whole = api.create(**settings)
    chunks = list(api.create(**settings, stream=True, stream_options={"include_usage": True}))
    texts, reasons = dict.fromkeys(range(4), ""), {}
    for chunk in chunks[:-1]:
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        reasons |= {choice.index: choice.finish_reason} if choice.finish_reason else {}
    assert list(texts.values()) == [choice.message.content for choice in whole.choices]
    assert reasons == {choice.index: choice.finish_reason for choice in whole.choices}
    assert chunks[-1].usage == whole.usage
    order = [chunk.choices[0].index for chunk in chunks[:-1] if chunk.choices[0].delta.content]
    assert order != sorted(order), "one choice waited for another"


def test_stop_is_never_shown_and_max_tokens_ends_by_length(served: Served) -> None:
    api = client(served).chat.completions
    stopped = api.create(model="chat", messages=HELLO, temperature=0, stop=["How"]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == ("Hello. ", "stop")
    chunks = list(api.create(model="chat", messages=HELLO, temperature=0, stop=["How"], stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello. "
    short = api.create(model="chat", messages=HELLO, temperature=0, max_tokens=5).choices[0]
    assert (short.message.content, short.finish_reason) == ("Hello", "length")


def test_a_seed_repeats_an_answer_and_n_gives_several(served: Served) -> None:
    api = client(served).chat.completions
    settings = {
        "model": "chat",
        "messages": [{"role": "user", "content": "xyz"}],
        "temperature": 2.0,
        "top_p": 1.0,
        "max_tokens": 20,
    }
    answers = [api.create(**settings, seed=seed).choices[0].message.content for seed in (5, 5, 6)]
    assert answers[0] == answers[1] != answers[2]
    several = api.create(**settings, seed=5, n=6)
    assert [choice.index for choice in several.choices] == list(range(6))
    assert several.choices[0].message.content == answers[0]
    assert len({choice.message.content for choice in several.choices}) > 2


def test_logprobs_belong_to_the_tokens(served: Served) -> None:
    answer = client(served).chat.completions.create(
        model="chat", messages=HELLO, temperature=0, logprobs=True, top_logprobs=2)  # fmt: skip
    content = answer.choices[0].logprobs.content
    assert "".join(token.token for token in content) == "Hello. How are you?"
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in content)
    assert content[0].top_logprobs[0].token == "H"


def test_json_of_a_schema(served: Served) -> None:
    age = {"type": "integer", "minimum": 0, "maximum": 99}
    schema = {"type": "object", "properties": {"age": age}, "required": ["age"], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "age", "schema": schema}}
    answer = client(served).chat.completions.create(model="chat", messages=HELLO, response_format=wanted, seed=1)
    assert 0 <= json.loads(answer.choices[0].message.content)["age"] <= 99


def test_models_and_health(served: Served) -> None:
    assert [model.id for model in client(served).models.list()] == ["chat"]
    assert client(served).models.retrieve("chat").id == "chat"
    with pytest.raises(openai.NotFoundError, match="no model 'other'"):
        client(served).models.retrieve("other")
    health = httpx.get(f"{served.url}/health").json()
    assert health["status"] == "ok"
    assert health["tools"][0] == "search"


def body(**changes: object) -> bytes:
    return json.dumps({"model": "chat", "messages": [{"role": "user", "content": "x"}]} | changes).encode()


NAMED = {"type": "function", "function": {"name": "python"}}
NONSENSE = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nonsense"}}}


@pytest.mark.parametrize(
    ("content", "status", "code", "sentence"),
    [
        (b"{", 400, "invalid_json", "not JSON"),
        (b"[" * 100_000, 400, "invalid_json", "not JSON"),
        (b"[]", 400, "invalid_json", "the request is JSON, but no object"),
        (b'{"model": "chat"}', 400, "invalid_value", "messages: Field required"),
        (body(model="gpt-4"), 404, "model_not_found", "no model 'gpt-4'"),
        (body(messages=[{"role": "wizard", "content": "x"}]), 400, "invalid_value", "role 'wizard'"),
        (body(best_of=3), 400, "invalid_value", "best_of"),
        (body(messages=[{"role": "user", "content": "x" * 600}]), 400, "context_length_exceeded", "context has 512"),
        (b" " * (1 << 20) + b"{}", 413, "request_too_large", "longer than"),
        (body(response_format=NONSENSE), 400, "invalid_value", "schema"),
        (body(response_format={"type": "json_object", "strict": True}), 400, "invalid_value", "response_format.strict"),
        (body(top_logprobs=2), 400, "invalid_value", "top_logprobs needs logprobs to be true"),
        (body(stream_options={"include_usage": True}), 400, "invalid_value", "stream_options needs stream"),
        (body(stop=["a", ""]), 400, "invalid_value", "stop: stop takes up to four strings"),
        (body(tool_choice="required"), 400, "invalid_value", "asks for a call, but tools holds no tool"),
        (body(tool_choice=NAMED, tools=[SEARCH]), 400, "invalid_value", "holds no function 'python'"),
        (
            body(tool_choice="required", tools=[SEARCH], response_format={"type": "json_object"}),
            400,
            "invalid_value",
            "exclude each other",
        ),
        (body(tool_choice="sometimes", tools=[SEARCH]), 400, "invalid_value", "tool_choice"),
    ],
)
def test_a_wrong_request_gets_its_status_and_one_sentence(
    served: Served, content: bytes, status: int, code: str | None, sentence: str
) -> None:
    answer = httpx.post(f"{served.url}/v1/chat/completions", content=content)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert sentence in error["message"]
    assert "Traceback" not in answer.text


def test_unknown_places_and_foreign_hosts_are_refused(served: Served) -> None:
    assert httpx.get(f"{served.url}/v2/models").json()["error"]["code"] == "not_found"
    assert httpx.get(f"{served.url}/v1/chat/completions").status_code == 405
    assert httpx.get(f"{served.url}/health", headers={"Host": "evil.example"}).status_code == 403


def test_pages_of_other_sites_are_refused(served: Served) -> None:
    place = f"{served.url}/api/converse"
    asked = {"messages": [{"role": "user", "content": "Hello"}]}
    foreign = httpx.post(place, json=asked, headers={"Origin": "http://evil.example"})
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "foreign_origin")
    assert httpx.post(place, json=asked, headers={"Origin": served.url}).status_code == 200


def test_where_one_of_several_choices_cannot_be_taken_in_none_stays(served: Served) -> None:
    service = served.household.service
    assert service is not None
    service.limit, limit = 2, service.limit
    try:
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError):
                client(served).chat.completions.create(model="chat", messages=HELLO, n=4, stream=stream)
    finally:
        service.limit = limit
    assert wait_until_idle(served)


def test_a_stop_string_leaves_tool_calls_alone(served: Served) -> None:
    messages = [{"role": "user", "content": "What does json.dumps do?"}]
    api, tools = client(served).chat.completions, [SEARCH, PYTHON]
    answer = api.create(model="chat", messages=messages, tools=tools, temperature=0, stop=["never said"])
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None


def test_many_clients_at_once_get_their_own_answers(served: Served) -> None:
    async def ask(api: openai.AsyncOpenAI, words: str) -> str | None:
        messages = [{"role": "user", "content": words}]
        answer = await api.chat.completions.create(model="chat", messages=messages, temperature=0)
        return answer.choices[0].message.content

    async def all_at_once() -> list[str | None]:
        api = openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
        return await asyncio.gather(*(ask(api, "Hello" if n % 2 else "Tell it") for n in range(24)))

    answers = asyncio.run(all_at_once())
    assert answers == ["All is well. The secret is out. Bye.", "Hello. How are you?"] * 12


def wait_until_idle(served: Served) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if httpx.get(f"{served.url}/health").json()["requests"] == 0:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("stream", [False, True])
def test_generation_ends_when_the_client_leaves(served: Served, stream: bool) -> None:
    endless = {"model": "chat", "messages": [{"role": "user", "content": "xyz"}], "temperature": 2.0, "top_p": 1.0,
               "max_tokens": 450, "stream": stream, "n": 1 if stream else 8}  # fmt: skip
    place = f"{served.url}/v1/chat/completions"
    with pytest.raises(httpx.ReadTimeout), httpx.stream("POST", place, json=endless, timeout=0.3) as answer:
        for _ in answer.iter_lines():
            raise httpx.ReadTimeout("leaving in the middle of the stream")
    assert wait_until_idle(served)


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_queue_is_429(served: Served, stream: bool) -> None:
    service = served.household.service
    assert service is not None
    service.limit, limit = 0, service.limit
    try:
        with pytest.raises(openai.RateLimitError, match="try again later"):
            client(served).chat.completions.create(model="chat", messages=HELLO, stream=stream)
    finally:
        service.limit = limit


def test_the_key_is_asked_for(guarded: Served) -> None:
    with pytest.raises(openai.AuthenticationError):
        client(guarded, "wrong").chat.completions.create(model="chat", messages=HELLO)
    answer = client(guarded, "open sesame").chat.completions.create(model="chat", messages=HELLO, temperature=0)
    assert answer.choices[0].message.content == "Hello. How are you?"
