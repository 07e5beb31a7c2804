"""The running outputs in arrays, one row (slot) each, so that a step costs a few array operations for all of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from herd.infer.grammar import Matcher
from herd.infer.request import TokenLogProb
from herd.infer.sampling import Sampling
from herd.infer.text import TextStream

if TYPE_CHECKING:
    from herd.infer.scheduler import Group


@dataclass
class Output:
    """What an array cannot hold about a running output; ``spare`` is the page to which a shared one is copied."""

    group: "Group"
    index: int
    pages: list[int]
    spare: int | None = None
    text: TextStream | None = None
    matcher: Matcher | None = None
    logprobs: list[TokenLogProb] | None = None
    started: bool = False

    def take(self, token: int) -> tuple[str, bool]:
        """Moves text and grammar past an id that is no stop id: new text, and whether the output ends here by rule."""
        text, ended = "", False
        if self.text is not None:
            text = self.text.push(token)
            ended = self.text.stopped
        if self.matcher is not None:
            ended = self.matcher.accept(token) or ended
        return text, ended


class Slots:
    """``capacity`` rows of state; a row is taken at admission and given back when its output ends."""

    def __init__(self, capacity: int, max_positions: int, page_size: int) -> None:
        self.capacity = capacity
        self.table = np.zeros((capacity, -(-max_positions // page_size)), dtype=np.int64)
        self.ids = np.zeros((capacity, max_positions), dtype=np.int32)
        self.length = np.zeros(capacity, dtype=np.int64)
        self.count = np.zeros(capacity, dtype=np.int64)
        self.serial = np.zeros(capacity, dtype=np.int64)
        self.limit = np.zeros(capacity, dtype=np.int64)
        self.last = np.zeros(capacity, dtype=np.int64)
        self.seed = np.zeros(capacity, dtype=np.uint64)
        self.temperature = np.zeros(capacity, dtype=np.float32)
        self.top_p = np.ones(capacity, dtype=np.float32)
        self.top_k = np.zeros(capacity, dtype=np.int64)
        self.stop = np.full((capacity, 4), -1, dtype=np.int64)
        self.active = np.zeros(capacity, dtype=bool)
        self.watched = np.zeros(capacity, dtype=bool)
        self.outputs: list[Output | None] = [None] * capacity
        self._taken = 0
        self._free = list(range(capacity - 1, -1, -1))

    @property
    def free(self) -> int:
        """Slots that ``take`` could give out."""
        return len(self._free)

    def take(self, output: Output, sampling: Sampling, limit: int, seed: int, stop_ids: tuple[int, ...]) -> int:
        """Puts an output into a slot; it takes part in steps once it is ``active``."""
        slot = self._free.pop()
        self._taken += 1
        self.serial[slot] = self._taken
        if len(stop_ids) > self.stop.shape[1]:
            wider = np.full((self.capacity, len(stop_ids)), -1, dtype=np.int64)
            wider[:, : self.stop.shape[1]] = self.stop
            self.stop = wider
        self.outputs[slot] = output
        self.table[slot, : len(output.pages)] = output.pages
        self.count[slot], self.limit[slot], self.seed[slot] = 0, limit, seed
        self.temperature[slot], self.top_p[slot], self.top_k[slot] = (
            sampling.temperature,
            sampling.top_p,
            sampling.top_k,
        )
        self.stop[slot] = -1
        self.stop[slot, : len(stop_ids)] = stop_ids
        self.watched[slot] = any(part is not None for part in (output.text, output.matcher, output.logprobs))
        return slot

    def give(self, slot: int) -> None:
        """Frees a slot."""
        self.outputs[slot] = None
        self.active[slot] = False
        self._free.append(slot)

    def output(self, slot: int) -> Output:
        """The output in a slot that is in use."""
        output = self.outputs[slot]
        assert output is not None
        return output

    def decoding(self) -> np.ndarray:
        """Slots that decode, the longest first, as ``StepPlan`` wants them."""
        slots = np.flatnonzero(self.active)
        return slots[np.argsort(-self.length[slots], kind="stable")]
