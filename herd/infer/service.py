"""The engine behind a queue: one thread owns it, any number of asyncio consumers read their own streams.

    async with Service(engine) as service:
        async for event in service.stream(Request(prompt, sampling)):
            print(event.text, end="")

A consumer that leaves (its task is cancelled, or the loop over its stream is left) ends its generation at once, and the
memory serves others.  What waits is bounded: a request beyond that is refused with ``QueueFullError``, which a server
answers with status 429 or 503.
"""

import asyncio
import queue
import secrets
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from herd.foundation.errors import HerdError
from herd.infer.engine import Engine
from herd.infer.request import Completion, Event, Request
from herd.infer.sampling import Sampling

_SEED_BITS = 62
_JOIN_SECONDS = 30.0


class QueueFullError(HerdError):
    """The service runs and waits for as many requests as it may; try again later."""


class ServiceClosedError(HerdError):
    """The service has ended, or its engine failed."""


@dataclass(frozen=True)
class Load:
    """Where the service stands: requests in its hands, and how many it takes at most."""

    requests: int
    limit: int


Deliver = Callable[[Event | BaseException], None]


@dataclass
class _Ticket:
    """A consumer's request in the hands of the engine's thread; ``id`` is None before it was submitted."""

    deliver: Deliver
    unfinished: int
    id: int | None = None


class Service:
    """Runs ``engine`` in a thread of its own from ``start`` to ``close``; ``limit`` requests at most at a time.

    A request without a seed gets a fresh one, so that asking twice gives two answers.
    """

    def __init__(self, engine: Engine, limit: int = 256) -> None:
        if limit < 1:
            raise HerdError(f"the service must take at least one request, got {limit}")
        self.engine, self.limit = engine, limit
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._tickets: dict[int, _Ticket] = {}
        self._taken = 0
        self._lock = threading.Lock()
        self._closed: BaseException | None = ServiceClosedError("the service was not started")
        self._thread = threading.Thread(target=self._work, name="herd-engine", daemon=True)

    def start(self) -> Self:
        """Starts the thread."""
        self._closed = None
        self._thread.start()
        return self

    def close(self) -> None:
        """Ends the thread; streams still open raise ``ServiceClosedError``."""
        self._commands.put(None)
        self._thread.join(_JOIN_SECONDS)

    async def __aenter__(self) -> Self:
        """Starts the thread."""
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the thread."""
        await asyncio.to_thread(self.close)

    @property
    def load(self) -> Load:
        """How busy the service is."""
        return Load(self._taken, self.limit)

    async def stream(self, request: Request) -> AsyncGenerator[Event, None]:
        """Events of ``request`` as they come, for every output until its last one, which carries the completion.

        Raises ``QueueFullError`` at once when the service is full, and ``HerdError`` for a request that can never run.
        """
        inbox: asyncio.Queue[Event | BaseException] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def deliver(item: Event | BaseException) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(inbox.put_nowait, item)

        ticket = _Ticket(deliver, request.n)
        self._enter(ticket, replace(request, sampling=_seeded(request.sampling)))
        unfinished = request.n
        try:
            while unfinished:
                item = await inbox.get()
                if isinstance(item, BaseException):
                    raise item
                unfinished -= item.completion is not None
                yield item
        finally:
            if unfinished:
                self._commands.put(lambda: self._leave(ticket))

    async def complete(self, request: Request) -> list[Completion]:
        """The completions of one request, in the order of its outputs."""
        found: dict[int, Completion] = {}
        async with aclosing(self.stream(replace(request, stream=False))) as events:
            async for event in events:
                if event.completion is not None:
                    found[event.output] = event.completion
        return [found[index] for index in range(request.n)]

    async def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> list[float]:
        """Natural log-probabilities of the tokens of ``continuation`` behind ``prompt``."""
        [completion] = await self.complete(Request(prompt, continuation=continuation))
        return [token.value for token in completion.logprobs or []]

    def _enter(self, ticket: _Ticket, request: Request) -> None:
        with self._lock:
            if self._closed is not None:
                raise self._closed
            if self._taken >= self.limit:
                raise QueueFullError(f"{self.limit} requests are being served or wait; try again later")
            self._taken += 1
        self._commands.put(lambda: self._submit(ticket, request))

    # What follows runs in the engine's thread.

    def _submit(self, ticket: _Ticket, request: Request) -> None:
        try:
            ticket.id = self.engine.submit(request)
        except HerdError as error:
            self._taken_back()
            ticket.deliver(error)
            return
        self._tickets[ticket.id] = ticket

    def _leave(self, ticket: _Ticket) -> None:
        if ticket.id is not None and self._tickets.pop(ticket.id, None) is not None:
            self.engine.cancel(ticket.id)
            self._taken_back()

    def _taken_back(self) -> None:
        with self._lock:
            self._taken -= 1

    def _work(self) -> None:
        reason: BaseException = ServiceClosedError("the service was closed")
        try:
            while self._obey():
                for event in self.engine.step():
                    self._pass_on(event)
        except Exception as error:  # whatever it is, those who wait must hear of it
            reason = ServiceClosedError(f"the engine failed: {error}")
            reason.__cause__ = error
        with self._lock:
            self._closed = reason
        self._obey_rest()
        for ticket in self._tickets.values():
            ticket.deliver(reason)
        for number in list(self._tickets):
            self.engine.cancel(number)

    def _obey(self) -> bool:
        """Carries out what was asked, waiting while the engine has nothing to do; False once the service shall end."""
        while True:
            try:
                command = self._commands.get(block=not self.engine.busy)
            except queue.Empty:
                return True
            if command is None:
                return False
            command()

    def _obey_rest(self) -> None:
        """Takes in requests that were accepted before the end was known, so that they are told of it."""
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return
            if command is not None:
                command()

    def _pass_on(self, event: Event) -> None:
        ticket = self._tickets[event.request]
        ticket.unfinished -= event.completion is not None
        if not ticket.unfinished or event.error is not None:
            del self._tickets[event.request]
            self._taken_back()
        ticket.deliver(event.error if event.error is not None else event)


def _seeded(sampling: Sampling) -> Sampling:
    return sampling if sampling.seed is not None else replace(sampling, seed=secrets.randbits(_SEED_BITS))
