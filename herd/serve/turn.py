"""One request to ``/v1/chat/completions`` on its way to an answer, whole (``Turn.whole``) or in ``Turn.chunks``."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from herd.infer.request import TokenLogProb
from herd.serve import protocol
from herd.serve.assistant import Assistant, Call, End, Happening, Text
from herd.serve.merge import merged
from herd.serve.protocol import ChatRequest
from herd.tokenizer.tokenizer import Tokenizer


class Turn:
    """A request that fits; ``ApiError`` or ``HerdError`` where it asks for what cannot be."""

    def __init__(self, assistant: Assistant, name: str, tokenizer: Tokenizer, wanted: ChatRequest) -> None:
        self._assistant, self._name, self._tokenizer, self._wanted = assistant, name, tokenizer, wanted
        self._id = protocol.completion_id()
        self._sampling = wanted.sampling(tokenizer)

    def _happenings(self, number: int) -> AsyncGenerator[Happening, None]:
        """The choice of that number; with a seed each has one of its own."""
        sampling = self._sampling
        if sampling.seed is not None:
            sampling = replace(sampling, seed=sampling.seed + number)
        parallel = self._wanted.parallel_tool_calls is not False
        return self._assistant.reply(self._wanted.messages, self._wanted.offered, sampling, parallel=parallel)

    async def whole(self) -> dict[str, Any]:
        """The answer as one object, with ``n`` choices; where one fails, the others end."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._choice(number)) for number in range(self._wanted.n)]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        choices = [task.result() for task in tasks]
        emitted = sum(end.completion_tokens for _, end in choices)
        used = protocol.usage(choices[0][1].prompt_tokens, emitted)
        return protocol.completion(self._id, self._name, [choice for choice, _ in choices], used)

    async def _choice(self, number: int) -> tuple[dict[str, Any], End]:
        logprobs: list[TokenLogProb] = []
        end = None
        async with aclosing(self._happenings(number)) as happenings:
            async for happening in happenings:
                if isinstance(happening, Text):
                    logprobs += happening.logprobs
                elif isinstance(happening, End):
                    end = happening
        assert end is not None, "every reply ends with an End"
        found = protocol.logprobs_object(self._tokenizer, logprobs) if self._wanted.logprobs else None
        message = {"content": None, **end.message}
        return {"index": number, "message": message, "finish_reason": end.finish_reason, "logprobs": found}, end

    async def chunks(self) -> AsyncGenerator[dict[str, Any], None]:
        """The answer in OpenAI's chunks, those of ``n`` choices as they come; none before the request was taken in."""
        called: dict[int, int] = {}
        ends: list[End] = []
        async with aclosing(merged([self._happenings(number) for number in range(self._wanted.n)])) as happenings:
            async for number, happening in happenings:
                if number not in called:
                    yield self._chunk(number, {"role": "assistant", "content": ""})
                    called[number] = 0
                if isinstance(happening, Text):
                    wanted = self._wanted.logprobs
                    found = protocol.logprobs_object(self._tokenizer, happening.logprobs) if wanted else None
                    yield self._chunk(number, {"content": happening.text}, logprobs=found)
                elif isinstance(happening, Call):
                    yield self._chunk(number, {"tool_calls": [{"index": called[number], **happening.call}]})
                    called[number] += 1
                elif isinstance(happening, End):
                    ends.append(happening)
                    yield self._chunk(number, {}, happening.finish_reason)
        if ends and self._wanted.stream_options and self._wanted.stream_options.include_usage:
            used = protocol.usage(ends[0].prompt_tokens, sum(end.completion_tokens for end in ends))
            yield {**self._chunk(0, {}), "choices": [], "usage": used}

    def _chunk(self, number: int, delta: dict[str, Any], reason: str | None = None, logprobs: Any = None) -> Any:
        return protocol.chunk(self._id, self._name, number, delta, reason, logprobs)
