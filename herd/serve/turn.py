"""One request to ``/v1/chat/completions`` on its way to an answer, whole (``Turn.whole``) or in ``Turn.chunks``."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from herd.infer.request import TokenLogProb
from herd.serve import protocol
from herd.serve.assistant import Assistant, Call, End, Happening, Text
from herd.serve.protocol import ApiError, ChatRequest
from herd.tokenizer.tokenizer import Tokenizer


class Turn:
    """A request that fits; ``ApiError`` or ``HerdError`` where it asks for what cannot be."""

    def __init__(self, assistant: Assistant, name: str, tokenizer: Tokenizer, wanted: ChatRequest) -> None:
        if wanted.stream and wanted.n > 1:
            raise ApiError(400, "n above 1 cannot be streamed", "invalid_value", "n")
        self._assistant, self._name, self._tokenizer, self._wanted = assistant, name, tokenizer, wanted
        self._id = protocol.completion_id()
        self._tools = [] if wanted.tool_choice == "none" else wanted.tools
        self._sampling = wanted.sampling()

    def _happenings(self, number: int = 0) -> AsyncGenerator[Happening, None]:
        """The choice of that number; with a seed each has one of its own."""
        sampling = self._sampling
        if sampling.seed is not None:
            sampling = replace(sampling, seed=sampling.seed + number)
        return self._assistant.reply(self._wanted.messages, self._tools, sampling)

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
        """The answer in OpenAI's chunks; nothing comes before the request was taken in."""
        name, opened, end = self._name, False, None
        async with aclosing(self._happenings()) as happenings:
            async for happening in happenings:
                if not opened:
                    yield protocol.chunk(self._id, name, {"role": "assistant", "content": ""})
                    opened = True
                if isinstance(happening, Text):
                    wanted = self._wanted.logprobs
                    found = protocol.logprobs_object(self._tokenizer, happening.logprobs) if wanted else None
                    yield protocol.chunk(self._id, name, {"content": happening.text}, logprobs=found)
                elif isinstance(happening, Call):
                    yield protocol.chunk(self._id, name, {"tool_calls": [{"index": 0, **happening.call}]})
                elif isinstance(happening, End):
                    end = happening
                    yield protocol.chunk(self._id, name, {}, end.finish_reason)
        if end is not None and self._wanted.stream_options and self._wanted.stream_options.include_usage:
            used = protocol.usage(end.prompt_tokens, end.completion_tokens)
            yield {**protocol.chunk(self._id, name, {}), "choices": [], "usage": used}
