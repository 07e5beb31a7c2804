"""Nothing unjudged is shown: text that streams out of a model waits in a gate until the guard has seen it.

The gate opens at the end of a sentence or after ``SPAN_CHARACTERS``; what the guard sees is the answer so far, so that
a forbidden answer is not passed in harmless pieces.  A span that is refused, and everything behind it, is never shown.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from herd.guard.classifier import Guard
from herd.guard.policy import GuardItem, Kind

SPAN_CHARACTERS = 120
# Of the text that was shown already, as much as the guard reads in one window.
_CONTEXT_CHARACTERS = 280
_SENTENCE_END = re.compile(r"[.!?]\s|\n")


class Watch:
    """A guard for asyncio: judgements run one after another in a thread, and the time they took is counted."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._lock = asyncio.Lock()
        self.judged, self.seconds = 0, 0.0

    async def refused(self, kind: Kind, text: str, prompt: str = "") -> tuple[str, ...] | None:
        """The categories that ``text`` violates (perhaps none by name), or None where it may pass."""
        if not text.strip():
            return None
        async with self._lock:
            started = time.perf_counter()
            (verdict,) = await asyncio.to_thread(self._guard.judge, [GuardItem(kind, text, prompt)])
            self.seconds += time.perf_counter() - started
            self.judged += 1
        return verdict.categories if verdict.unsafe else None


@dataclass(frozen=True)
class Released:
    """Text that may be shown, with what came along with it (its tokens' log-probabilities)."""

    text: str
    companions: list[object]


class SpanGate:
    """Collects pieces of one answer; ``push`` and ``close`` return what may be shown."""

    def __init__(self, watch: Watch | None, prompt: str) -> None:
        self._watch, self._prompt = watch, prompt
        self._shown, self._waiting = "", ""
        self._companions: list[object] = []
        self.refusal: tuple[str, ...] | None = None

    async def push(self, text: str, companions: Sequence[object] = ()) -> Released | None:
        """Takes a piece in; returns the span that it completes, once that was judged safe."""
        self._waiting += text
        self._companions += companions
        full = len(self._waiting) >= SPAN_CHARACTERS or _SENTENCE_END.search(self._waiting)
        return await self._judge() if self._watch is None or full else None

    async def close(self) -> Released | None:
        """Judges what still waits at the answer's end."""
        return await self._judge()

    async def _judge(self) -> Released | None:
        if self.refusal is not None or not (self._waiting or self._companions):
            return None
        if self._watch is not None:
            seen = self._shown[-_CONTEXT_CHARACTERS:] + self._waiting
            self.refusal = await self._watch.refused("answer", seen, self._prompt)
            if self.refusal is not None:
                return None
        released = Released(self._waiting, self._companions)
        self._shown += self._waiting
        self._waiting, self._companions = "", []
        return released
