"""Who runs in the next step: admission by memory, prompts in chunks, outputs that share their prompt.

An output is admitted only if pages for its greatest length are free, so that nothing that runs is ever thrown out
(paper, section 4.2.2).  Those that wait keep their order; one whose beginning is just being computed by another
waits a step to read it instead of computing it again.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from torch import Tensor

from herd.infer.cache import Chunk
from herd.infer.pages import PagePool, page_keys
from herd.infer.request import Request, TokenLogProb
from herd.infer.slots import Output, Slots

# How many waiting requests are looked at in a step while those before them wait for a shared beginning.
_LOOKAHEAD = 256

OutputMaker = Callable[["Group", int], tuple[Output, int]]
"""Makes the state of one output and its slot; given by the engine, which knows the tokenizer."""


@dataclass
class Group:
    """A request on its way: its prompt's pages, and how many of its outputs wait for a slot.

    ``tokens`` is what must be computed before anything can be sampled: the prompt, or for scoring all but the last
    token of prompt and continuation.  ``limit`` is the number of ids each output may emit, 0 for scoring.
    """

    id: int
    request: Request
    tokens: np.ndarray
    keys: list[bytes]
    limit: int
    pages: list[int] = field(default_factory=list)
    computed: int = 0
    next_output: int = 0
    running: dict[int, int] = field(default_factory=dict)
    logits: Tensor | None = None
    scores: list[TokenLogProb] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        """Outputs that have no slot yet."""
        return (self.request.n if self.limit else 0) - self.next_output


class Scheduler:
    """Owns the waiting line, the slots and the pages."""

    def __init__(self, pool: PagePool, slots: Slots, page_size: int, make_output: OutputMaker) -> None:
        self.pool, self.slots, self.page_size = pool, slots, page_size
        self.line: OrderedDict[int, Group] = OrderedDict()
        self.groups: dict[int, Group] = {}
        self.prefilling: OrderedDict[int, Group] = OrderedDict()
        self.starting: list[int] = []
        self._make_output = make_output
        self._half_admitted: Group | None = None
        self._being_computed: Counter[bytes] = Counter()

    @property
    def busy(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self.groups)

    def pages_needed(self, tokens: int, limit: int) -> int:
        """Pages of a request with one output, at its greatest length."""
        return self._prompt_pages(tokens) + (self._own_pages(tokens, limit) if limit else 0)

    def _prompt_pages(self, tokens: int) -> int:
        return -(-tokens // self.page_size)

    def _own_pages(self, tokens: int, limit: int) -> int:
        """Pages that an output cannot share: all behind the prompt's full ones."""
        return -(-(tokens + limit) // self.page_size) - tokens // self.page_size

    def add(self, group: Group) -> None:
        """Puts a request at the end of the line."""
        self.line[group.id] = self.groups[group.id] = group

    def admit(self) -> None:
        """Lets in what fits, in order."""
        if self._half_admitted is not None and not self._admit_outputs(self._half_admitted):
            return
        for group in list(islice(self.line.values(), _LOOKAHEAD)):
            if group.limit and not self.slots.free:
                return
            known = self.pool.find(self._sharable(group))
            rest = self._sharable(group)[len(known) :]
            if rest and self._being_computed[rest[0]]:
                continue
            if not self._start(group, known):
                return
            del self.line[group.id]
            if group.waiting and not self._admit_outputs(group):
                return

    def _sharable(self, group: Group) -> list[bytes]:
        """Keys of the pages that may come from others: not the one with the last token whose logits are needed."""
        return group.keys[: (len(group.request.prompt) - 1) // self.page_size]

    def _start(self, group: Group, known: list[int]) -> bool:
        """Takes the prompt's pages if one output at least fits beside them."""
        new = self._prompt_pages(len(group.tokens)) - len(known)
        own = self._own_pages(len(group.tokens), group.limit) if group.limit else 0
        if new + own + self.pool.idle_among(known) > self.pool.free:
            return False
        self.pool.hold(known)
        group.pages = known + self.pool.allocate(new)
        group.computed = len(known) * self.page_size
        self._being_computed.update(group.keys[len(known) :])
        self.prefilling[group.id] = group
        return True

    def _admit_outputs(self, group: Group) -> bool:
        """Gives slots and pages to as many outputs as fit; True once all have them."""
        own = self._own_pages(len(group.tokens), group.limit)
        while group.waiting and self.slots.free and own <= self.pool.free:
            output, slot = self._make_output(group, own)
            group.running[output.index] = slot
            group.next_output += 1
            if group.logits is not None:
                self.starting.append(slot)
        self._half_admitted = group if group.waiting else None
        if not group.waiting:
            self.pool.release(group.pages)
        return not group.waiting

    def take_pages(self, group: Group, own: int) -> tuple[list[int], int | None]:
        """Pages of one output: the prompt's, held once more, and its own; the second value is the spare for copying."""
        pages = self.pool.allocate(own)
        self.pool.hold(group.pages)
        if len(group.tokens) % self.page_size:
            return group.pages + pages[1:], pages[0]
        return group.pages + pages, None

    def chunks(self, budget: int) -> Iterator[tuple[Group, Chunk]]:
        """The prompts' tokens of this step, at most ``budget`` of them."""
        for group in self.prefilling.values():
            if budget <= 0:
                return
            length = min(budget, len(group.tokens) - group.computed)
            budget -= length
            yield group, Chunk(group.pages, group.computed, length)

    def computed(self, group: Group, length: int) -> bool:
        """Notes that a chunk is in the cache; True if it was the last one."""
        before = group.computed // self.page_size
        group.computed += length
        after = group.computed // self.page_size
        for key, page in zip(group.keys[before:after], group.pages[before:after], strict=True):
            self.pool.publish(key, page)
            self._forget(key)
        if group.computed < len(group.tokens):
            return False
        del self.prefilling[group.id]
        self.starting += group.running.values()
        return True

    def _forget(self, key: bytes) -> None:
        self._being_computed[key] -= 1
        if self._being_computed[key] <= 0:
            del self._being_computed[key]

    def to_copy(self, slots: np.ndarray) -> tuple[list[int], list[int]]:
        """Before the first write behind a prompt: pages to copy, and their copies; who holds a page alone keeps it."""
        sources, targets = [], []
        for slot in slots.tolist():
            output = self.slots.output(slot)
            if output.spare is None:
                continue
            block = len(output.group.tokens) // self.page_size
            page = output.pages[block]
            if self.pool.references(page) > 1:
                sources.append(page)
                targets.append(output.spare)
                output.pages[block] = self.slots.table[slot, block] = output.spare
                self.pool.release([page])
            else:
                self.pool.release([output.spare])
            output.spare = None
        return sources, targets

    def finish(self, slot: int) -> None:
        """Takes an output out; its full pages stay findable, for a dialogue's next turn begins with them."""
        output, group = self.slots.output(slot), self.slots.output(slot).group
        cached = int(self.slots.length[slot]) if output.started else 0
        first = len(group.keys)
        if cached // self.page_size > first:
            tail = self.slots.ids[slot, : cached - len(group.tokens)]
            tokens = np.concatenate([group.tokens[first * self.page_size :], tail])
            keys = page_keys(tokens, self.page_size, group.keys[-1] if group.keys else b"")
            for key, page in zip(keys, output.pages[first:], strict=False):
                self.pool.publish(key, page)
        self.pool.release(output.pages)
        if output.spare is not None:
            self.pool.release([output.spare])
        self.slots.give(slot)
        del group.running[output.index]
        if not group.running and not group.waiting:
            del self.groups[group.id]

    def finish_scoring(self, group: Group) -> None:
        """Takes a scored request out."""
        self.pool.release(group.pages)
        del self.groups[group.id]

    def cancel(self, group: Group) -> None:
        """Takes a request out wherever it is and frees what it holds."""
        if self.line.pop(group.id, None) is not None:
            del self.groups[group.id]
            return
        if self.prefilling.pop(group.id, None) is not None:
            for key in group.keys[group.computed // self.page_size :]:
                self._forget(key)
        if group.waiting or not group.limit:
            self.pool.release(group.pages)
        if self._half_admitted is group:
            self._half_admitted = None
        group.next_output = group.request.n
        slots = list(group.running.values())
        self.starting = [slot for slot in self.starting if slot not in slots]
        for slot in slots:
            self.finish(slot)
        self.groups.pop(group.id, None)
