"""OpenAI's shapes: what a chat request may hold, what goes back, and how an error looks.

What Herd does not do is refused by name instead of being ignored, so that a client never gets something else than it
asked for.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from herd.foundation.errors import HerdError
from herd.infer.calls import call_grammar
from herd.infer.grammar import Grammar
from herd.infer.request import TokenLogProb
from herd.infer.sampling import Sampling
from herd.tokenizer.chat import tool_name
from herd.tokenizer.tokenizer import Tokenizer

DEFAULT_TOKENS = 256


class ApiError(Exception):
    """An answer with an HTTP status and OpenAI's error object."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class _Shape(BaseModel):
    """A part of a request; fields that Herd does not know are refused."""

    model_config = ConfigDict(extra="forbid")


class JsonSchema(_Shape):
    """A named schema that the answer must validate against."""

    name: str
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(_Shape):
    """Free text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(_Shape):
    """Whether a last chunk tells the usage."""

    include_usage: bool = False


class FunctionName(_Shape):
    """The function that a choice of tool names."""

    name: str


class NamedTool(_Shape):
    """The one function that has to be called."""

    type: Literal["function"]
    function: FunctionName


class ChatRequest(_Shape):
    """The body of ``POST /v1/chat/completions``."""

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1, max_length=256)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    n: int = Field(default=1, ge=1, le=8)
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[dict[str, Any]] = Field(default_factory=list, max_length=64)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    frequency_penalty: float | None = Field(default=None, ge=0, le=0, description="taken when it asks for nothing")
    presence_penalty: float | None = Field(default=None, ge=0, le=0)
    metadata: dict[str, str] | None = None
    user: str | None = None

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        if isinstance(stop, list) and (len(stop) > 4 or not all(stop)):
            raise ValueError("stop takes up to four strings, none of them empty")
        return stop or None

    @model_validator(mode="after")
    def _asks_for_no_more_than_it_gets(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream to be true")
        return self

    @property
    def offered(self) -> list[dict[str, Any]]:
        """The tools that the model is told of."""
        return [] if self.tool_choice == "none" else self.tools

    @property
    def required(self) -> list[dict[str, Any]]:
        """The tools of which one has to be called; empty where the model may answer without; ``ApiError`` if none."""
        if self.tool_choice in (None, "none", "auto"):
            return []
        if self.response_format is not None and self.response_format.type != "text":
            message = "a tool that has to be called and a response_format exclude each other"
            raise ApiError(400, message, "invalid_value", "tool_choice")
        named = self.tool_choice.function.name if isinstance(self.tool_choice, NamedTool) else None
        found = [tool for tool in self.tools if named is None or tool_name(tool) == named]
        if not found:
            message = "tools holds no tool" if named is None else f"tools holds no function {named!r}"
            raise ApiError(400, f"tool_choice asks for a call, but {message}", "invalid_value", "tool_choice")
        return found

    def sampling(self, tokenizer: Tokenizer) -> Sampling:
        """The engine's settings; ``HerdError`` for a schema that cannot be, ``ApiError`` for a call that cannot."""
        wanted = self.max_completion_tokens or self.max_tokens
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        usual = Sampling()
        return Sampling(
            max_tokens=wanted or DEFAULT_TOKENS,
            temperature=usual.temperature if self.temperature is None else self.temperature,
            top_p=usual.top_p if self.top_p is None else self.top_p,
            stop=stops,
            seed=self.seed,
            grammar=call_grammar(tokenizer, required, self.tools) if (required := self.required) else self._grammar(),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )

    def _grammar(self) -> Grammar | None:
        wanted = self.response_format
        if wanted is None or wanted.type == "text":
            return None
        if wanted.type == "json_object":
            return Grammar.json_object()
        if wanted.json_schema is None:
            raise HerdError("response_format of type json_schema needs the field json_schema")
        return Grammar.json_schema(wanted.json_schema.schema_)


class ConverseRequest(_Shape):
    """What the chat page sends: the conversation so far."""

    messages: list[dict[str, Any]] = Field(min_length=1, max_length=256)


def model_object(name: str, created: int) -> dict[str, Any]:
    """A model in OpenAI's list; ``created`` in seconds since 1970."""
    return {"id": name, "object": "model", "created": created, "owned_by": "herd"}


def completion_id() -> str:
    """A fresh identifier of one answer."""
    return f"chatcmpl-{uuid.uuid4().hex}"


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """OpenAI's usage object."""
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def completion(
    identifier: str, model: str, choices: Sequence[Mapping[str, Any]], used: Mapping[str, int]
) -> dict[str, Any]:
    """A whole answer."""
    head = {"id": identifier, "object": "chat.completion", "created": int(time.time()), "model": model}
    return {**head, "choices": list(choices), "usage": dict(used)}


def chunk(
    identifier: str, model: str, number: int, delta: Mapping[str, Any], reason: str | None = None, logprobs: Any = None
) -> dict[str, Any]:
    """A piece of the streamed choice of that number."""
    head = {"id": identifier, "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
    return {**head, "choices": [{"index": number, "delta": dict(delta), "finish_reason": reason, "logprobs": logprobs}]}


def logprobs_object(tokenizer: Tokenizer, found: Sequence[TokenLogProb]) -> dict[str, Any] | None:
    """OpenAI's log-probabilities of tokens, or None where there are none."""
    if not found:
        return None

    def entry(token: int, value: float) -> dict[str, Any]:
        data = tokenizer.decode_bytes([token])
        return {"token": data.decode("utf-8", "replace"), "logprob": value, "bytes": list(data)}

    content = [entry(one.id, one.value) | {"top_logprobs": [entry(*top) for top in one.top]} for one in found]
    return {"content": content, "refusal": None}
