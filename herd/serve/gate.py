"""Nothing unjudged is shown: text that streams out of a model waits in a gate until the guard has seen it.

The gate opens at the end of a sentence or after ``SPAN_CHARACTERS``; what the guard sees is the answer so far, so that
a forbidden answer is not passed in harmless pieces.  A span that is refused, and everything behind it, is never shown.
"""

import asyncio
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from herd.guard.classifier import WINDOW_CHARACTERS, Verdict
from herd.guard.policy import GuardItem, Kind

SPAN_CHARACTERS = 120
# Of the text that was shown already, as much as the guard reads in one window with a new span.
_CONTEXT_CHARACTERS = WINDOW_CHARACTERS - SPAN_CHARACTERS
_SENTENCE_END = re.compile(r"[.!?]\s|\n")
_REMEMBERED = 4096

Refusal = tuple[str, ...]
"""The categories that a text violates; there may be none by name."""


class Judge(Protocol):
    """What a ``Watch`` asks: ``herd.guard.classifier.Guard``, or another with the same method."""

    def judge(self, items: Sequence[GuardItem]) -> list[Verdict]:
        """A verdict for every item, in order."""
        ...


@dataclass(frozen=True)
class WatchFigures:
    """What the guard has cost: texts judged, batches they came in, seconds it worked, seconds that texts waited."""

    judged: int
    batches: int
    seconds: float
    waited: float


@dataclass
class _Waiting:
    item: GuardItem
    verdict: "Future[Refusal | None]" = field(default_factory=Future)


class Watch:
    """A guard for asyncio, in a thread of its own: what arrives while it judges is judged together next.

    Verdicts on the last ``_REMEMBERED`` texts are kept, so that a conversation's earlier messages cost nothing.
    """

    def __init__(self, guard: Judge) -> None:
        self._guard = guard
        self._thread = ThreadPoolExecutor(1, "herd-guard")
        self._line: deque[_Waiting] = deque()
        self._known: OrderedDict[GuardItem, Refusal | None] = OrderedDict()
        self._counts = threading.Lock()
        self._judged, self._batches, self._seconds, self._waited = 0, 0, 0.0, 0.0

    @property
    def figures(self) -> WatchFigures:
        """The cost so far."""
        with self._counts:
            return WatchFigures(self._judged, self._batches, self._seconds, self._waited)

    def close(self) -> None:
        """Ends the thread once it has judged what it holds."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def refused(self, kind: Kind, text: str, prompt: str = "") -> Refusal | None:
        """The categories that ``text`` violates, or None where it may pass; a judgement that fails passes nothing."""
        if not text.strip():
            return None
        item = GuardItem(kind, text, prompt)
        if item in self._known:
            self._known.move_to_end(item)
            return self._known[item]
        began = time.perf_counter()
        waiting = _Waiting(item)
        self._line.append(waiting)
        self._thread.submit(self._judge_line)
        found = await asyncio.wrap_future(waiting.verdict)
        with self._counts:
            self._waited += time.perf_counter() - began
        self._known[item] = found
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    def _judge_line(self) -> None:
        """Judges everything in the line, in the guard's thread; whoever has left meanwhile is passed over."""
        batch = []
        while self._line:
            waiting = self._line.popleft()
            if waiting.verdict.set_running_or_notify_cancel():
                batch.append(waiting)
        if not batch:
            return
        began = time.perf_counter()
        try:
            verdicts = self._guard.judge([waiting.item for waiting in batch])
        except Exception as error:  # whatever it is, those who wait must hear of it
            for waiting in batch:
                waiting.verdict.set_exception(error)
            return
        with self._counts:
            self._judged += len(batch)
            self._batches += 1
            self._seconds += time.perf_counter() - began
        for waiting, verdict in zip(batch, verdicts, strict=True):
            waiting.verdict.set_result(verdict.categories if verdict.unsafe else None)


Companion = TypeVar("Companion")


@dataclass(frozen=True)
class Released(Generic[Companion]):
    """Text that may be shown, with what came along with it (its tokens' log-probabilities)."""

    text: str
    companions: list[Companion]


class SpanGate(Generic[Companion]):
    """Collects pieces of one answer; ``push`` and ``close`` return what may be shown.

    ``refusal`` is set once a span was refused; nothing is released from then on.
    """

    def __init__(self, watch: Watch | None, prompt: str) -> None:
        self._watch, self._prompt = watch, prompt
        self._shown, self._waiting = "", ""
        self._companions: list[Companion] = []
        self.refusal: Refusal | None = None

    @property
    def taken(self) -> int:
        """Characters that have come so far, shown or waiting."""
        return len(self._shown) + len(self._waiting)

    async def push(self, text: str, companions: Sequence[Companion] = ()) -> Released[Companion] | None:
        """Takes a piece in; returns the span that it completes, once that was judged safe."""
        self._waiting += text
        self._companions += companions
        full = len(self._waiting) >= SPAN_CHARACTERS or _SENTENCE_END.search(self._waiting)
        return await self._judge() if self._watch is None or full else None

    async def close(self) -> Released[Companion] | None:
        """Judges what still waits at the answer's end."""
        return await self._judge()

    async def _judge(self) -> Released[Companion] | None:
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
