"""A model with its tools and its guard, one turn at a time, as a stream of what happens.

    assistant = Assistant(service, tools, watch)
    async for happening in assistant.converse(messages, Sampling()):
        ...

``reply`` gives one assistant message and leaves calls to the client, as OpenAI's API does; ``converse`` runs the
tools here and goes on until there is an answer.  With a guard, nothing reaches the model or its reader unjudged:

- messages that a client sends, its system message and its tool results included.  One that is flagged ends the turn
  with a refusal; one from an earlier turn is withheld from the model, so that a conversation outlives it;
- results of the tools that run here (a flagged one is withheld, and the model told so);
- the answer, span by span, a call as a whole, and text that was meant to be a call and cannot be read.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from herd.foundation.errors import HerdError
from herd.guard.code import findings
from herd.guard.policy import REFUSAL
from herd.infer.request import Completion, Event, Request, TokenLogProb
from herd.infer.sampling import Sampling
from herd.infer.service import Service
from herd.serve.gate import Refusal, SpanGate, Watch
from herd.tokenizer.calls import PYTHON_TOOL
from herd.tokenizer.chat import ChatFormat, content_text, tool_name
from herd.tools.agent import WITHHELD
from herd.tools.registry import Tool

Message = dict[str, Any]
MAX_CALLS = 4
WITHHELD_MESSAGE = "This message was withheld by the guard."
"""What a model reads in the place of an earlier message that the guard flags."""
TOO_MANY_CALLS = "I stopped after too many tool calls."


class ContextFullError(HerdError):
    """The messages leave no room for an answer in the model's context."""


@dataclass(frozen=True)
class Text:
    """More of the answer, judged; ``logprobs`` of its tokens where they were asked for."""

    text: str
    logprobs: list[TokenLogProb] = field(default_factory=list)


@dataclass(frozen=True)
class Call:
    """The model calls a tool; ``call`` is OpenAI's object, ``warnings`` say what is insecure in code it would run."""

    call: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


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

    async def reply(
        self, messages: Sequence[Message], tools: Sequence[Any], sampling: Sampling, *, parallel: bool = True
    ) -> AsyncGenerator[Happening, None]:
        """One assistant message; a refusal by the guard is an answer too, with the policy's sentence.

        Of several calls in the message only the first is given where ``parallel`` is false.
        Raises ``HerdError`` for messages that cannot be written, ``ContextFullError`` for too many of them.
        """
        prompt = self._prompt(messages, tools, sampling, parallel)
        read, refused = await self._admit(messages)
        if refused is not None:
            for happening in refusal(refused, len(prompt.ids)):
                yield happening
            return
        if read != messages:
            prompt = self._prompt(read, tools, sampling, parallel)
        async with aclosing(self._generate(prompt)) as happenings:
            async for happening in happenings:
                yield happening

    async def converse(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Happening, None]:
        """Answers with this assistant's own tools: calls, results and text as they come."""
        schemas = [tool.schema() for tool in self.tools.values()]
        prompt = self._prompt(messages, schemas, sampling)
        dialogue, refused = await self._admit(messages)
        if refused is not None:
            for happening in refusal(refused, len(prompt.ids)):
                yield happening
            return
        calls_left = MAX_CALLS
        while True:
            prompt, end = self._prompt(dialogue, schemas, sampling), None
            calls: list[Call] = []
            async with aclosing(self._generate(prompt)) as happenings:
                async for happening in happenings:
                    if isinstance(happening, End):
                        end = happening
                    elif isinstance(happening, Call):
                        calls.append(happening)
                    else:
                        yield happening
            assert end is not None, "every message ends with an End"
            if len(calls) > calls_left:
                yield Text(TOO_MANY_CALLS)
                end, calls = replace(end, message=_said(TOO_MANY_CALLS), finish_reason="stop"), []
            for call in calls:
                yield call
            yield end
            if not calls:
                return
            calls_left -= len(calls)
            dialogue.append(end.message)
            for call in calls:
                result = await self._execute(call.call, prompt.question)
                dialogue.append({"role": "tool", "tool_call_id": result.call_id, "content": result.text})
                yield result

    def _prompt(
        self, messages: Sequence[Message], tools: Sequence[Any], sampling: Sampling, parallel: bool = True
    ) -> "_Prompt":
        """What the model is given; ``HerdError`` where it cannot be written or leaves no room for an answer."""
        ids = self._chat.encode(messages, tools=list(tools) or None, open_assistant=True).ids
        context = self._service.engine.model.config.max_positions
        if len(ids) >= context:
            raise ContextFullError(f"the messages are {len(ids)} tokens long, the context has {context}")
        fitted = replace(sampling, max_tokens=min(sampling.max_tokens, context - len(ids)))
        return _Prompt(ids, fitted, last_question(messages), frozenset(tool_name(tool) for tool in tools), parallel)

    async def _admit(self, messages: Sequence[Message]) -> tuple[list[Message], Refused | None]:
        """The messages as the model may read them, and the refusal if one of this turn or of the system is flagged."""
        read = list(messages)
        found = await asyncio.gather(*(self._flagged(messages, number) for number in range(len(messages))))
        spoke = max((number for number, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
        for number, categories in enumerate(found):
            if categories is None:
                continue
            stage = "tool" if _is_result(messages[number]) else "prompt"
            if number > spoke or messages[number]["role"] in ("system", "developer"):
                return [], Refused(stage, categories)
            withheld = WITHHELD if stage == "tool" else WITHHELD_MESSAGE
            read[number] = {**messages[number], "content": withheld}
        return read, None

    async def _flagged(self, messages: Sequence[Message], number: int) -> Refusal | None:
        """What a message violates; what the assistant said was judged when it said it."""
        message = messages[number]
        if self.watch is None or message["role"] == "assistant":
            return None
        text = content_text(message, number)
        if not _is_result(message):
            return await self.watch.refused("prompt", text)
        return None if text == WITHHELD else await self.watch.refused("tool", text, last_question(messages[:number]))

    async def _generate(self, prompt: "_Prompt") -> AsyncGenerator[Happening, None]:
        """Streams one message through the gate; calls are shown only when they are whole and all judged."""
        gate = SpanGate[TokenLogProb](self.watch, prompt.question)
        reader = _Reader(self._chat, prompt)
        request = Request(prompt.ids, prompt.sampling, stream=True)
        async with aclosing(self._service.stream(request)) as events:
            async for event in events:
                if released := await gate.push(*reader.feed(event)):
                    yield Text(released.text, released.companions)
                if gate.refusal is not None:
                    break
        calls: list[dict[str, Any]] = []
        if gate.refusal is None:
            message = reader.finish()
            calls = message.get("tool_calls") or []
            rest = (message["content"] or "")[gate.taken :]
            for released in (await gate.push(rest, reader.held if rest else []), await gate.close()):
                if released is not None:
                    yield Text(released.text, released.companions)
        categories = gate.refusal
        if categories is None:
            categories = await self._refused_call(calls, prompt.question)
        if categories is not None:
            for happening in refusal(Refused("answer", categories), len(prompt.ids), reader.emitted):
                yield happening
            return
        for call in calls:
            yield Call(call, warnings_of(call))
        yield End(message, reader.finish_reason, len(prompt.ids), reader.emitted)

    async def _refused_call(self, calls: Sequence[Mapping[str, Any]], question: str) -> Refusal | None:
        """What the first call that the guard refuses violates."""
        if self.watch is None:
            return None
        judged = [self.watch.refused("answer", call_text(call), question) for call in calls]
        return next((found for found in await asyncio.gather(*judged) if found is not None), None)

    async def _execute(self, call: dict[str, Any], question: str) -> Result:
        tool, arguments = self.tools[call["function"]["name"]], json.loads(call["function"]["arguments"])
        text = await asyncio.to_thread(tool.run, arguments)
        if self.watch is not None and await self.watch.refused("tool", text, question) is not None:
            return Result(call["id"], WITHHELD, True)
        return Result(call["id"], text, False)


@dataclass(frozen=True)
class _Prompt:
    """What one message is generated from; ``offered`` names the tools that it may call, together if ``parallel``."""

    ids: list[int]
    sampling: Sampling
    question: str
    offered: frozenset[str]
    parallel: bool


class _Reader:
    """Turns the engine's events into pieces of the answer's text and, at the end, into its message.

    Of ``held``, the log-probabilities of tokens whose text has not come yet, nothing is given away before that text:
    it may be the beginning of a stop string, or of a call.
    """

    def __init__(self, chat: ChatFormat, prompt: _Prompt) -> None:
        self._tokenizer, self._prompt = chat.tokenizer, prompt
        self._parser = chat.stream_parser(call_id=f"call_{uuid.uuid4().hex[:16]}")
        # The engine cuts the text before a stop string, and knows when a grammar is complete.
        self._cut_by_engine = bool(prompt.sampling.stop) or prompt.sampling.grammar is not None
        self._content, self._call, self._cut, self._given = "", "", "", 0
        self._tagged = self._is_call = False
        self._completion: Completion | None = None
        self.held: list[TokenLogProb] = []
        self.emitted = 0

    def feed(self, event: Event) -> tuple[str, list[TokenLogProb]]:
        """Text of the answer that has come with ``event``, and the log-probabilities of its tokens."""
        self.emitted += len(event.ids)
        self._completion = event.completion or self._completion
        for piece in self._parser.feed(event.ids):
            if piece.kind == "content":
                self._content += piece.text
            else:
                self._call += piece.text
        self._cut += event.text
        self._tagged = self._tagged or self._tokenizer.python_tag_id in event.ids
        in_call = self._tagged or bool(self._call)
        ordinary = len(self._tokenizer.ranks)
        if not self._tagged:
            self.held += [found for found in event.logprobs if found.id < ordinary]
        # Without a piece yet, the parser may be holding back the beginning of a call that nothing announces.
        text = self._cut if self._cut_by_engine and not in_call and self._content else self._content
        text = text[self._given :]
        self._given += len(text)
        logprobs, self.held = (self.held, []) if text else ([], self.held)
        return text, logprobs

    def finish(self) -> Message:
        """The message; calls of which one cannot be read, or is of a tool that is not on, are text."""
        message = self._parser.finish().message
        calls = message.get("tool_calls") or []
        self._is_call = bool(calls) and all(call["function"]["name"] in self._prompt.offered for call in calls)
        if self._is_call:
            return message if self._prompt.parallel else {**message, "tool_calls": calls[:1]}
        if self._cut_by_engine and not self._tagged:
            assert self._completion is not None, "the stream of an answer ends with its completion"
            return _said(self._completion.text)
        return _said(self._content + self._call) if calls else message

    @property
    def finish_reason(self) -> str:
        """OpenAI's word for why the message ended, once it has."""
        if self._is_call:
            return "tool_calls"
        return "length" if self._completion is not None and self._completion.finish_reason == "length" else "stop"


def refusal(refused: Refused, prompt_tokens: int, completion_tokens: int = 0) -> list[Happening]:
    """What a client sees of a refusal: the reason, the policy's sentence as an answer, and the end."""
    return [refused, Text(REFUSAL), End(_said(REFUSAL), "content_filter", prompt_tokens, completion_tokens)]


def last_question(messages: Sequence[Message]) -> str:
    """The user's latest words; empty where there are none."""
    return next((content_text(m, 0) for m in reversed(messages) if m["role"] == "user"), "")


def call_text(call: Mapping[str, Any]) -> str:
    """What a call asks for, as the guard reads it: code as it is, other arguments as JSON."""
    arguments = json.loads(call["function"]["arguments"])
    return str(arguments.get("code", call["function"]["arguments"]))


def warnings_of(call: Mapping[str, Any]) -> list[str]:
    """What is insecure in the code that a call wants to run, a sentence each; advice, nothing is stopped for it."""
    if call["function"]["name"] != PYTHON_TOOL:
        return []
    return [f"{found.message} ({found.weakness})" for found in findings(call_text(call))]


def _said(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _is_result(message: Message) -> bool:
    return message["role"] in ("tool", "ipython")
