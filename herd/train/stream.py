"""Which tokens make sample number n: the order of the training data, as a pure function of (seed, n).

    mix = Mix(weights={"general": 0.5, "code": 0.17})
    stream = TokenStream(mix.sources(open_shards(tokens)), seed=7, sequence_length=512)
    stream.sample(123_456).tokens           # 513 ids: 512 inputs and the target of the last

Nothing is remembered from sample to sample, so a run resumes anywhere, on any number of ranks, with the same tokens.
Within a domain the documents of an epoch are shuffled and laid end to end, epoch after epoch; this line is cut into
windows of the sequence length, and the windows of an epoch are shuffled again, so that the pieces of one long document
do not follow one another. Every token of an epoch is the input of exactly one sample. The domains take turns by a
periodic table whose counts are the mix's proportions. Where the mix changes at a sample, another table takes over, and
every domain goes on with the next window of its line.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import TypeVar

import numpy as np
from pydantic import Field

from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.seeds import numpy_from
from herd.train.tokens import TokenShard

_PERIOD = 10_000
"""Samples after which the turns of the domains repeat; weights are exact to one part in as many."""
_KEPT_ORDERS = 3

Value = TypeVar("Value")


@dataclass(frozen=True)
class Source:
    """Documents of one shard, and their share of the samples."""

    shard: TokenShard
    weight: float
    documents: np.ndarray | None = None
    """Numbers of the documents that take part; None: all."""


@dataclass(frozen=True)
class Sample:
    """``tokens`` (sequence length + 1) ids, pieces of documents one after another; ``lengths`` of these pieces.

    The last token is there as the target of the one before it, where both are of one document.
    """

    tokens: np.ndarray
    lengths: list[int]
    domain: str

    def cut(self, pieces: int) -> "list[Sample]":
        """The sample as so many shorter ones of equal length; its inputs stay inputs of one of them each."""
        if pieces == 1:
            return [self]
        size, ends = (len(self.tokens) - 1) // pieces, np.cumsum(self.lengths)
        cut = []
        for start in range(0, size * pieces, size):
            within = np.clip(np.concatenate([[start], ends]) - start, 0, size + 1)
            lengths = [int(length) for length in np.diff(within) if length]
            cut.append(Sample(self.tokens[start : start + size + 1], lengths, self.domain))
        return cut


class Mix(Config):
    """Which documents a stage trains on, and in which proportions."""

    weights: dict[str, float] = Field(default_factory=dict)
    """Share of each domain in the tokens; empty: every domain by its size. Domains without documents are left out."""
    max_epochs: float | None = Field(default=None, gt=0)
    """No domain is repeated more often than this while the mix holds; what it cannot give, the others give."""
    best_fraction: float = Field(default=1.0, gt=0, le=1)
    """The share of each domain's documents that is kept, best quality first: for annealing."""
    min_tokens: int = Field(default=0, ge=0)
    """Shorter documents are left out: for the long-context stage."""
    short_fraction: float = Field(default=0.0, ge=0, lt=1)
    """With ``min_tokens``: the share of samples that still comes from documents of every length, so that the model
    keeps what it knows of short ones."""

    def sources(self, shards: Mapping[str, TokenShard], total_tokens: int | None = None) -> list[Source]:
        """The sources of a stream; ``total_tokens`` of the run are needed where ``max_epochs`` is set.

        Raises ``HerdError`` if nothing is left to train on, or too little for ``max_epochs``.
        """
        chosen = {name: choose_documents(shard, self.min_tokens, self.best_fraction) for name, shard in shards.items()}
        sizes = {name: int(shards[name].lengths[documents].sum()) for name, documents in chosen.items()}
        long_share = 1.0 - self.short_fraction if self.min_tokens else 1.0
        weights = self._weights(sizes, total_tokens and ceil(total_tokens * long_share))
        sources = [Source(shards[name], weight * long_share, chosen[name]) for name, weight in weights.items()]
        if long_share < 1.0:
            plain = self.model_copy(update={"min_tokens": 0, "short_fraction": 0.0})
            short = plain.sources(shards, total_tokens and ceil(total_tokens * self.short_fraction))
            sources += [Source(each.shard, each.weight * self.short_fraction, each.documents) for each in short]
        return sources

    def _weights(self, sizes: Mapping[str, int], total_tokens: int | None) -> dict[str, float]:
        asked = self.weights or {name: float(size) for name, size in sizes.items()}
        present = {name: weight for name, weight in asked.items() if sizes.get(name) and weight > 0}
        if not present:
            raise HerdError(f"the mix leaves no document to train on (domains with tokens: {_list_sizes(sizes)})")
        whole = sum(present.values())
        shares = {name: weight / whole for name, weight in present.items()}
        if self.max_epochs is None:
            return shares
        if total_tokens is None:
            raise HerdError("a mix with max_epochs needs the number of tokens of the run")
        return capped_shares(shares, {name: self.max_epochs * sizes[name] / total_tokens for name in shares})


def _list_sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items() if size) or "none"


def capped_shares(shares: Mapping[str, float], caps: Mapping[str, float]) -> dict[str, float]:
    """Shares that sum to one, none above its cap; what is cut off goes to the others in proportion to their shares.

    Raises ``HerdError`` if the caps together do not reach one.
    """
    if sum(caps[name] for name in shares) < 1.0:
        reach = sum(caps[name] for name in shares)
        raise HerdError(
            f"the documents of the mix, repeated max_epochs times, are only {reach:.0%} of the run's tokens"
        )
    capped: dict[str, float] = {}
    free = dict(shares)
    while True:
        scale = (1.0 - sum(capped.values())) / sum(free.values()) if free else 1.0
        over = {name: caps[name] for name, share in free.items() if share * scale > caps[name]}
        if not over:
            return {name: capped.get(name, shares[name] * scale) for name in shares}
        capped |= over
        free = {name: share for name, share in free.items() if name not in over}


def choose_documents(shard: TokenShard, min_tokens: int = 0, best_fraction: float = 1.0) -> np.ndarray:
    """Numbers of the documents of at least ``min_tokens`` tokens, of these the best share by quality, in order."""
    numbers = np.flatnonzero(shard.lengths >= min_tokens)
    if best_fraction < 1.0 and len(numbers):
        kept = max(ceil(best_fraction * len(numbers)), 1)
        best = np.argsort(-shard.quality[numbers], kind="stable")[:kept]
        numbers = np.sort(numbers[best])
    return numbers


class _Line:
    """One source's documents laid end to end, epoch after epoch, each epoch in an order of its own."""

    def __init__(self, source: Source, name: str, seed: int, window: int) -> None:
        self.shard = source.shard
        self._numbers = np.arange(len(self.shard)) if source.documents is None else source.documents
        self._lengths = self.shard.lengths[self._numbers]
        self.tokens = int(self._lengths.sum())
        self._name, self._seed, self._window = name, seed, window
        self._orders: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._windows: OrderedDict[int, np.ndarray] = OrderedDict()
        if not self.tokens:
            raise HerdError(f"{self.shard.path}: has no tokens to train on")

    def has(self, source: Source) -> bool:
        """Whether the documents are those of ``source``."""
        numbers = np.arange(len(source.shard)) if source.documents is None else source.documents
        return self.shard is source.shard and np.array_equal(self._numbers, numbers)

    def window(self, number: int) -> int:
        """Where on the line the ``number``-th sample begins.

        The windows that begin within one epoch are a block; inside its block each number is given another window.
        """
        block = number * self._window // self.tokens
        first = self._first_window(block)
        if block not in self._windows:
            count = self._first_window(block + 1) - first
            order = numpy_from(self._seed, self._name, "windows", block).permutation(count)
            _keep(self._windows, block, order)
        return (first + int(self._windows[block][number - first])) * self._window

    def _first_window(self, block: int) -> int:
        return -(-block * self.tokens // self._window)

    def read(self, start: int, count: int) -> tuple[np.ndarray, list[int]]:
        """``count`` tokens of the line from ``start`` on, and the lengths of the pieces of documents among them."""
        pieces: list[np.ndarray] = []
        while count:
            epoch, place = divmod(start, self.tokens)
            order, ends = self._order(epoch)
            position = int(np.searchsorted(ends, place, side="right"))
            document = int(order[position])
            length = int(self._lengths[document])
            inside = place - (int(ends[position]) - length)
            taken = min(length - inside, count)
            pieces.append(self.shard.piece(int(self._numbers[document]), inside, inside + taken))
            start, count = start + taken, count - taken
        return np.concatenate(pieces), [len(piece) for piece in pieces]

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The epoch's order of the documents, and where each ends."""
        if epoch not in self._orders:
            order = numpy_from(self._seed, self._name, "documents", epoch).permutation(len(self._lengths))
            _keep(self._orders, epoch, (order, np.cumsum(self._lengths[order])))
        return self._orders[epoch]


def _keep(kept: OrderedDict[int, Value], key: int, value: Value) -> None:
    """Remembers a value, and forgets the oldest when there are more than a few."""
    kept[key] = value
    while len(kept) > _KEPT_ORDERS:
        kept.popitem(last=False)


class _Stretch:
    """Samples that are shared out among the same lines in the same proportions: those from ``first`` on."""

    def __init__(
        self, first: int, sources: Sequence[Source], lines: Sequence[_Line], before: Mapping[_Line, int]
    ) -> None:
        whole = sum(source.weight for source in sources)
        self.first, self.lines = first, lines
        self.shares = tuple(source.weight / whole for source in sources)
        self._before = [before.get(line, 0) for line in lines]

    @cached_property
    def _turns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For one period: whose turn it is, how many turns that line had before, and the turns of every line."""
        turns = turn_table(self.shares)
        before = np.empty_like(turns)
        for line in range(len(self.shares)):
            mine = turns == line
            before[mine] = np.arange(int(mine.sum()))
        return turns, before, np.bincount(turns, minlength=len(self.shares))

    def place(self, number: int) -> tuple[_Line, int]:
        """The line of a sample, and which of all of that line's samples it is."""
        turns, before, counts = self._turns
        period, phase = divmod(number - self.first, len(turns))
        line = int(turns[phase])
        return self.lines[line], self._before[line] + period * int(counts[line]) + int(before[phase])

    def taken(self, samples: int) -> dict[_Line, int]:
        """How many of the stretch's first ``samples`` samples each line gives."""
        turns, _, counts = self._turns
        periods, rest = divmod(samples, len(turns))
        taken = periods * counts + np.bincount(turns[:rest], minlength=len(counts))
        return dict(zip(self.lines, taken.tolist(), strict=True))


class TokenStream:
    """Samples of a mix of sources, which may change on the way; see the module's text."""

    def __init__(
        self,
        sources: Sequence[Source],
        seed: int,
        sequence_length: int,
        later: Mapping[int, Sequence[Source]] | None = None,
    ) -> None:
        """``later`` has the sources that take over, by the number of their first sample.

        Documents that were sources before go on where they were.  Raises ``HerdError`` if there is no source, or one
        has no tokens or no positive weight.
        """
        self.sequence_length = sequence_length
        self._seed = seed
        self._lines: list[_Line] = []
        self._stretches: list[_Stretch] = []
        before: dict[_Line, int] = {}
        for first, given in sorted({0: sources, **(later or {})}.items()):
            if not given or any(source.weight <= 0 for source in given):
                raise HerdError("a stream needs at least one source, each with a positive weight")
            if self._stretches:
                ended = self._stretches[-1]
                for line, count in ended.taken(first - ended.first).items():
                    before[line] = before.get(line, 0) + count
            self._stretches.append(_Stretch(first, given, self._lines_of(given), before))

    def _lines_of(self, sources: Sequence[Source]) -> list[_Line]:
        """A line for each source: one that an earlier stretch has had of the same documents, or a new one."""
        lines: list[_Line] = []
        for source in sources:
            line = next((line for line in self._lines if line.has(source) and line not in lines), None)
            if line is None:
                name = f"{len(self._lines)}:{source.shard.name}"
                line = _Line(source, name, self._seed, self.sequence_length)
                self._lines.append(line)
            lines.append(line)
        return lines

    def sample(self, number: int) -> Sample:
        """The sample of that number, from 0 without an end."""
        stretch = next(stretch for stretch in reversed(self._stretches) if stretch.first <= number)
        line, index = stretch.place(number)
        tokens, lengths = line.read(line.window(index), self.sequence_length + 1)
        return Sample(tokens, lengths, line.shard.name)

    def epochs(self, samples: int) -> dict[str, float]:
        """How often each domain's documents are passed in the first ``samples`` samples."""
        passed: dict[str, float] = {}
        for stretch, count in self._within(samples):
            for line, taken in stretch.taken(count).items():
                name = line.shard.name
                passed[name] = passed.get(name, 0.0) + float(taken) * self.sequence_length / line.tokens
        return passed

    def mix(self, samples: int) -> dict[str, float]:
        """The share of each domain in the first ``samples`` samples, as it was asked for."""
        mix: dict[str, float] = {}
        for stretch, count in self._within(samples):
            for line, share in zip(stretch.lines, stretch.shares, strict=True):
                mix[line.shard.name] = mix.get(line.shard.name, 0.0) + share * (count / samples)
        return mix

    def _within(self, samples: int) -> Iterator[tuple[_Stretch, int]]:
        """The stretches of the first ``samples`` samples, and how many of these each has."""
        ends = [stretch.first for stretch in self._stretches[1:]] + [samples]
        for stretch, end in zip(self._stretches, ends, strict=True):
            if stretch.first < samples:
                yield stretch, min(end, samples) - stretch.first


def turn_table(shares: Sequence[float], period: int = _PERIOD) -> np.ndarray:
    """Whose turn it is in each sample of a period, ``shares`` summing to one.

    Each source has its share of the turns (the largest remainders are rounded up), spread as evenly as they go: the
    turn is given to the source that is furthest behind. A source keeps at least one turn.
    """
    exact = np.array(shares) * period
    counts = np.maximum(np.floor(exact + 1e-9).astype(np.int64), 1)
    left = period - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[: max(left, 0)]] += 1
    counts[np.argmax(counts)] += min(left, 0)
    counts //= np.gcd.reduce(counts)
    due = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    owners = np.repeat(np.arange(len(counts)), counts)
    return owners[np.lexsort((owners, due))]
