"""How a pipeline cuts the layers into stages, and in which order each rank works through them (paper, section 3.3.2).

Stage s lies on rank s modulo the ranks.  A rank with several stages takes N micro-batches through one of them before it
turns to its next: with N = ranks little is held in memory (depth first), with N = all micro-batches transfers have the
most time (breadth first), and the paper's tunable N is anything between.

    split_layers(126, 128)           # the first and the last of 128 stages have no layer, all others one
    work_orders(Interleaving(ranks=4, stages_per_rank=2, together=4), micro_batches=8)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from herd.foundation.errors import HerdError


class Work(NamedTuple):
    """One micro-batch's forward or backward pass through one stage."""

    forward: bool
    stage: int
    micro_batch: int


@dataclass(frozen=True)
class Interleaving:
    """``together`` is N, the micro-batches that go through a stage one after another; one stage a rank is plain 1F1B.

    There may be fewer micro-batches than ``together`` or than ``ranks``.  ``HerdError`` for an N below ``ranks``, with
    which ranks would wait for each other.
    """

    ranks: int
    stages_per_rank: int
    together: int

    def __post_init__(self) -> None:
        if self.together < self.ranks:
            raise HerdError(
                f"pipeline: {self.together} micro-batches together are fewer than the {self.ranks} ranks; "
                "ranks would wait for each other"
            )

    @property
    def stages(self) -> int:
        """Stages in all."""
        return self.ranks * self.stages_per_rank


def split_layers(layers: int, stages: int) -> list[range]:
    """The layers of each stage: alike but for the ends, where embedding and output matrix stand for one each.

    What does not divide goes to the middle first.  ``HerdError`` where a stage would have nothing to do.
    """
    if layers + 2 < stages:
        raise HerdError(f"pipeline: {layers} layers, embedding and output matrix do not fill {stages} stages")
    size, left = divmod(layers + 2, stages)
    last = stages - 1
    enlarged = [*range(1, last), 0, last][:left]
    counts = [size + (stage in enlarged) - (stage == 0) - (stage == last) for stage in range(stages)]
    begins = [sum(counts[:stage]) for stage in range(stages)]
    return [range(begin, begin + count) for begin, count in zip(begins, counts, strict=True)]


def work_orders(interleaving: Interleaving, micro_batches: int) -> list[list[Work]]:
    """What every rank does, one after another: first forward passes alone, then each followed by a backward pass.

    A rank begins with as many as bring the first micro-batch to the last stage and its gradient back in time.
    """
    orders = []
    for rank in range(interleaving.ranks):
        forward = list(_passes(interleaving, micro_batches, rank, True))
        backward = list(_passes(interleaving, micro_batches, rank, False))
        ahead = min(_ahead(interleaving, micro_batches, rank), len(forward))
        order = forward[:ahead]
        for pair in zip(forward[ahead:], backward, strict=False):
            order += pair
        orders.append(order + backward[len(forward) - ahead :])
    return orders


def _passes(interleaving: Interleaving, micro_batches: int, rank: int, forward: bool) -> Iterator[Work]:
    """A rank's passes of one direction: group after group of micro-batches, and in each stage after stage."""
    own = range(rank, interleaving.stages, interleaving.ranks)
    for group in _groups(interleaving, micro_batches):
        for stage in own if forward else reversed(own):
            for micro_batch in group:
                yield Work(forward, stage, micro_batch)


def _groups(interleaving: Interleaving, micro_batches: int) -> list[range]:
    """Groups of ``together`` micro-batches, or a few more: a smaller one would let ranks wait for each other."""
    count = max(micro_batches // interleaving.together, 1)
    ends = [0, *(-(-micro_batches * (group + 1) // count) for group in range(count))]
    return [range(first, end) for first, end in pairwise(ends)]


def _ahead(interleaving: Interleaving, micro_batches: int, rank: int) -> int:
    """Forward passes before the first backward pass, besides the one that is paired with it."""
    after = interleaving.ranks - 1 - rank
    if interleaving.stages_per_rank == 1:
        return after
    # The first group goes through all stages but the last; two more a rank keep those between busy both ways.
    group = _groups(interleaving, micro_batches)[0]
    return (interleaving.stages_per_rank - 1) * len(group) + 2 * after
