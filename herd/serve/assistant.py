"""A model with its tools and its guard, one turn at a time, as a stream of what happens.

    assistant = Assistant(service, toolset, watch)
    async for happening in assistant.converse(messages, Settings()):
        ...

``reply`` gives one assistant message and leaves calls to the client, as OpenAI's API does; ``converse`` runs the
tools here and goes on until there is an answer.  Prompt, tool results and answer pass the guard on their way.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from herd.foundation.errors import HerdError
from herd.guard.policy import REFUSAL
from herd.infer.request import Completion, Request, TokenLogProb
from herd.infer.sampling import Sampling
from herd.infer.service import Service
from herd.serve.gate import SpanGate, Watch
from herd.tokenizer.chat import content_text
from herd.tools.agent import WITHHELD
from herd.tools.registry import Tool

Message = dict[str, Any]
MAX_CALLS = 4


@dataclass(frozen=True)
class Text:
    """More of the answer, judged; ``logprobs`` of its tokens where they were asked for."""

    text: str
    logprobs: list[TokenLogProb] = field(default_factory=list)


@dataclass(frozen=True)
class Call:
    """The model calls a tool; ``call`` is OpenAI's object."""

    call: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """What a tool returned; ``withheld`` says that the guard kept it from the model."""

    call_id: str
    text: str
    withheld: bool


@dataclass(frozen=True)
class Refused:
    """The guard stopped the turn at ``stage``: prompt, tool or answer."""

    stage: str
    categories: tuple[str, ...]


@dataclass(frozen=True)
class End:
    """The end of one assistant message: the message itself, why it ended and what it cost."""

    message: Message
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


Happening = Text | Call | Result | Refused | End


class Assistant:
    """Runs turns; safe for any number of conversations at a time on one event loop."""

    def __init__(self, service: Service, tools: Mapping[str, Tool], watch: Watch | None) -> None:
        self._service, self.tools, self.watch = service, tools, watch
        self._chat = service.engine.chat

    def prompt_ids(self, messages: Sequence[Message], tools: Sequence[Any]) -> list[int]:
        """The ids that an answer is generated from; ``HerdError`` where the messages cannot be written."""
        return self._chat.encode(messages, tools=list(tools) or None, open_assistant=True).ids

    def room(self, prompt: Sequence[int]) -> int:
        """Tokens that can still be generated behind ``prompt``."""
        return self._service.engine.model.config.max_positions - len(prompt)

    async def reply(
        self, messages: Sequence[Message], tools: Sequence[Any], sampling: Sampling
    ) -> AsyncGenerator[Happening, None]:
        """One assistant message; a refusal by the guard is an answer too, with the policy's sentence."""
        prompt = self.prompt_ids(messages, tools)
        if refused := await self._refused_before(messages):
            for happening in refusal(refused, len(prompt)):
                yield happening
            return
        async with aclosing(self._generate(messages, prompt, sampling)) as happenings:
            async for happening in happenings:
                yield happening

    async def converse(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Happening, None]:
        """Answers with this assistant's own tools: calls, results and text as they come."""
        dialogue = [dict(message) for message in messages]
        schemas = [tool.schema() for tool in self.tools.values()]
        if refused := await self._refused_before(dialogue):
            for happening in refusal(refused, 0):
                yield happening
            return
        for _ in range(MAX_CALLS + 1):
            prompt, end = self.prompt_ids(dialogue, schemas), None
            async with aclosing(self._generate(dialogue, prompt, self._fitted(prompt, sampling))) as happenings:
                async for happening in happenings:
                    end = happening if isinstance(happening, End) else end
                    yield happening
            if end is None or not end.message.get("tool_calls"):
                return
            dialogue.append(end.message)
            result = await self._execute(end.message["tool_calls"][0], dialogue)
            dialogue.append({"role": "tool", "tool_call_id": result.call_id, "content": result.text})
            yield result
        yield Text("I stopped after too many tool calls.")

    def _fitted(self, prompt: Sequence[int], sampling: Sampling) -> Sampling:
        room = self.room(prompt)
        if room < 1:
            raise HerdError("the conversation has become longer than the model's context; begin a new one")
        return replace(sampling, max_tokens=min(sampling.max_tokens, room))

    async def _refused_before(self, messages: Sequence[Message]) -> Refused | None:
        """Judges what came since the assistant last spoke: the user's words, or the results that a client sends."""
        if self.watch is None:
            return None
        last = next((i for i in range(len(messages) - 1, -1, -1) if messages[i]["role"] == "assistant"), -1)
        for number in range(last + 1, len(messages)):
            role, text = messages[number]["role"], content_text(messages[number], number)
            if role == "user" and (found := await self.watch.refused("prompt", text)) is not None:
                return Refused("prompt", found)
            known = role == "tool" and text != WITHHELD
            if known and (found := await self.watch.refused("tool", text, last_question(messages))) is not None:
                return Refused("tool", found)
        return None

    async def _generate(
        self, messages: Sequence[Message], prompt: list[int], sampling: Sampling
    ) -> AsyncGenerator[Happening, None]:
        """Streams one message through the gate; a call is shown only when it is whole and judged."""
        question = last_question(messages)
        gate, parser = SpanGate(self.watch, question), self._chat.stream_parser()
        completion: Completion | None = None
        request = Request(prompt, sampling, stream=True)
        async with aclosing(self._service.stream(request)) as events:
            async for event in events:
                pieces = parser.feed(event.ids)
                text = "".join(piece.text for piece in pieces if piece.kind == "content")
                if sampling.stop or sampling.grammar is not None:
                    text = event.text  # cut before a stop string by the engine
                if released := await gate.push(text, event.logprobs):
                    yield Text(released.text, list(released.companions))  # type: ignore[arg-type]
                if gate.refusal is not None:
                    break
                completion = event.completion or completion
        if gate.refusal is None and (released := await gate.close()):
            yield Text(released.text, list(released.companions))  # type: ignore[arg-type]
        if gate.refusal is not None or completion is None:
            for happening in refusal(Refused("answer", gate.refusal or ()), len(prompt)):
                yield happening
            return
        for happening in await self._finish(parser.finish().message, completion, prompt, question, sampling):
            yield happening

    async def _finish(
        self, message: Message, completion: Completion, prompt: list[int], question: str, sampling: Sampling
    ) -> list[Happening]:
        """The end of a message whose text has passed; a call is judged here, as a whole."""
        reason = "length" if completion.finish_reason == "length" else "stop"
        if sampling.stop or sampling.grammar is not None:
            message = {"role": "assistant", "content": completion.text}
        if not (calls := message.get("tool_calls")):
            return [End(message, reason, len(prompt), len(completion.ids))]
        found = await self.watch.refused("answer", call_text(calls[0]), question) if self.watch else None
        if found is not None:
            return refusal(Refused("answer", found), len(prompt), len(completion.ids))
        return [Call(calls[0]), End(message, "tool_calls", len(prompt), len(completion.ids))]

    async def _execute(self, call: dict[str, Any], dialogue: Sequence[Message]) -> Result:
        name = call["function"]["name"]
        if name not in self.tools:
            return Result(call["id"], f"failed\n[stderr]there is no tool {name}[/stderr]", False)
        text = await asyncio.to_thread(self.tools[name].run, json.loads(call["function"]["arguments"]))
        if self.watch is not None and await self.watch.refused("tool", text, last_question(dialogue)) is not None:
            return Result(call["id"], WITHHELD, True)
        return Result(call["id"], text, False)


def refusal(refused: Refused, prompt_tokens: int, completion_tokens: int = 0) -> list[Happening]:
    """What a client sees of a refusal: the reason, the policy's sentence as an answer, and the end."""
    message = {"role": "assistant", "content": REFUSAL}
    return [refused, Text(REFUSAL), End(message, "content_filter", prompt_tokens, completion_tokens)]


def last_question(messages: Sequence[Message]) -> str:
    """The user's latest words; empty where there are none."""
    return next((content_text(m, 0) for m in reversed(messages) if m["role"] == "user"), "")


def call_text(call: Mapping[str, Any]) -> str:
    """What a call asks for, as the guard reads it: code as it is, other arguments as JSON."""
    arguments = json.loads(call["function"]["arguments"])
    return str(arguments.get("code", call["function"]["arguments"]))
