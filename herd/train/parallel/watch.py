"""Who keeps the others waiting: finds the process of a run that died or hangs, and the collective it hangs before.

    watch = Watch(connect, rank=0, count=4, patience=600, beat=1)
    with watch.within("the sums of step 17"):
        torch.distributed.all_reduce(sums)

Every process says at every beat, in the store that torchrun keeps, that it lives and which collective it entered last.
Where a collective fails, the others are asked for signs of life; where one takes longer than ``patience``, this process
ends itself with a sentence, since nothing can wake a thread that waits in a collective.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

import torch.distributed as dist

from herd.foundation.errors import Interrupted

_MISSED_BEATS = 5
"""After so many beats without a sign a process counts as dead."""


@dataclass(frozen=True)
class Entry:
    """A process's place in the run: the collectives it entered so far, and whether it is still in the last."""

    number: int = 0
    collective: str = "none"
    inside: bool = False
    since: float = 0.0


@dataclass(frozen=True)
class Sign:
    """What a process tells the others about itself."""

    beat: int
    number: int
    collective: str
    left: str | None
    """Why it ended, where it could still say so; empty where it ended because of another."""
    refused: bool = False
    """Whether it ended because of a user's mistake, which it tells itself."""


class Watch:
    """This process's signs of life, and its view of the others'; one thread in the background.

    ``connect`` opens a connection to the store, of which every thread needs one: a waiting one blocks the others.
    The main thread alone writes the entry, the background thread alone the beats: neither needs a lock.
    """

    def __init__(self, connect: Callable[[], dist.Store], rank: int, count: int, patience: float, beat: float) -> None:
        self._connect, self._rank, self._count, self._patience, self._beat = connect, rank, count, patience, beat
        self._store = connect()
        self._entry, self._beats = Entry(), 0
        self._closed = threading.Event()
        self._tell(self._store)
        self._thread = threading.Thread(target=self._live, args=(connect(),), name="watch", daemon=True)
        self._thread.start()

    @contextmanager
    def within(self, collective: str) -> Iterator[None]:
        """Around a collective.  Raises ``Interrupted`` with a sentence where it fails since another process is gone."""
        number = self._entry.number + 1
        self._entry = Entry(number, collective, True, time.monotonic())
        try:
            yield
        except RuntimeError as error:
            try:
                sentence = self.explain(self._store)
            except dist.DistError:
                sentence = self._lost()
            if sentence is None:
                raise
            raise Interrupted(sentence) from error
        finally:
            self._entry = Entry(number, collective)

    def explain(self, store: dist.Store) -> str | None:
        """A sentence on the processes that are gone or late; None where all are here and none is behind."""
        before = self._others(store)
        for _ in range(3):
            time.sleep(_MISSED_BEATS * self._beat)
            now = self._others(store)
            named = [told for rank, sign in now.items() if (told := self._trouble(rank, before[rank], sign))]
            named = named or [self._late(rank, sign) for rank, sign in now.items() if sign.number < self._entry.number]
            if named:
                return f"{'; '.join(named)}; rank {self._rank} was in {self._entry.collective}"
            before = now
        return None

    def leave(self, reason: str, refused: bool = False) -> None:
        """Tells the others why this process ends, if they can be told; no reason where the cause is another process."""
        self.close()
        with suppress(dist.DistError):
            self._tell(self._store, reason, refused)

    def is_told(self, mistake: str | None = None) -> bool:
        """Whether process 0, being another, ended because of a user's mistake and tells it.

        Where this process met a ``mistake`` of its own it must be the same one, and process 0 is given some time.
        """
        with suppress(dist.DistError):
            for _ in range(_MISSED_BEATS if self._rank else 0):
                first = _signs(self._store, [0])[0]
                if first.left is not None or mistake is None:
                    return first.refused and mistake in (None, first.left)
                time.sleep(self._beat)
        return False

    def close(self) -> None:
        """Stops the signs of life."""
        self._closed.set()
        self._thread.join()

    def _trouble(self, rank: int, before: Sign, now: Sign) -> str | None:
        if now.left:
            return f"rank {rank} has ended ({now.left}) after {now.collective}"
        if now.left is None and now.beat == before.beat:
            return f"rank {rank} gives no sign of life, its last collective was {now.collective}"
        return None

    def _late(self, rank: int, sign: Sign) -> str:
        waited = time.monotonic() - self._entry.since
        return f"rank {rank} lives but has kept the others waiting for {waited:.0f} s after {sign.collective}"

    def _others(self, store: dist.Store) -> dict[int, Sign]:
        return _signs(store, [rank for rank in range(self._count) if rank != self._rank])

    def _tell(self, store: dist.Store, left: str | None = None, refused: bool = False) -> None:
        sign = Sign(self._beats, self._entry.number, self._entry.collective, left, refused)
        store.set(str(self._rank), json.dumps(asdict(sign)))

    def _live(self, store: dist.Store) -> None:
        judge: threading.Thread | None = None
        while not self._closed.wait(self._beat):
            self._beats += 1
            try:
                self._tell(store)
            except dist.DistError:
                self._end(self._lost())
            entry = self._entry
            if judge is None and entry.inside and time.monotonic() - entry.since > self._patience:
                judge = threading.Thread(target=self._judge, args=(entry,), daemon=True)
                judge.start()

    def _judge(self, entry: Entry) -> None:
        """Ends this process, in a thread beside the beats, which go on until the others have been looked at."""
        sentence = self.explain(self._connect())
        if self._entry is entry:
            waited = time.monotonic() - entry.since
            self._end(sentence or f"{entry.collective} has taken {waited:.0f} s, though every process is in it")

    def _lost(self) -> str:
        return f"rank {self._rank} has lost the store of the run, which its launcher or rank 0 kept"

    def _end(self, sentence: str) -> None:
        print(f"herd: {sentence}", file=sys.stderr, flush=True)
        os._exit(1)


def _signs(store: dist.Store, ranks: list[int]) -> dict[int, Sign]:
    """The last sign of each of ``ranks``."""
    texts = store.multi_get([str(rank) for rank in ranks])
    return {rank: Sign(**json.loads(text)) for rank, text in zip(ranks, texts, strict=True)}
