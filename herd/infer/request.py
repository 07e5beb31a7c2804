"""What goes into the engine and what comes out: requests, completions and the events between them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from herd.foundation.errors import HerdError
from herd.infer.sampling import Sampling

FinishReason = Literal["stop", "eom", "length"]
"""``stop``: a stop id, a stop string or a complete grammar; ``eom``: the id that waits for a tool's result."""


@dataclass(frozen=True)
class TokenLogProb:
    """Natural log-probability of one emitted id, and the likeliest ids at its place with theirs, best first."""

    id: int
    value: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Request:
    """One prompt and what to do with it: ``n`` sampled outputs, or the log-probabilities of a ``continuation``.

    ``stream`` asks for an event per token; without it only the last event of each output comes.
    """

    prompt: Sequence[int]
    sampling: Sampling = field(default_factory=Sampling)
    n: int = 1
    continuation: Sequence[int] | None = None
    stream: bool = False


@dataclass(frozen=True)
class Completion:
    """One output.

    ``ids`` are all ids that the model emitted, the terminating one included; ``text`` is what a reader sees:
    without the terminating id, cut before a stop string.  ``logprobs`` has one entry per id where they were asked for.
    ``terminated``: the last id is a stop id.
    """

    ids: list[int]
    text: str
    finish_reason: FinishReason
    logprobs: list[TokenLogProb] | None = None
    prompt_tokens: int = 0
    terminated: bool = False

    @property
    def stop_id(self) -> int | None:
        """The terminating id, if the answer ended by one."""
        return self.ids[-1] if self.terminated else None


@dataclass(frozen=True)
class Event:
    """News of one output: ids and text that came since the last event, and the completion once it has ended.

    ``error``: the whole request could not go on (its grammar became too complex) and was taken out.
    """

    request: int
    output: int
    ids: tuple[int, ...] = ()
    text: str = ""
    logprobs: tuple[TokenLogProb, ...] = ()
    completion: Completion | None = None
    error: HerdError | None = None
