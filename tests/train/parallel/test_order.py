"""Orders of work in a pipeline: nothing waits for ever, and the idle share is the paper's (PP - 1) / (V x M)."""

from itertools import product

import pytest

from herd.foundation.errors import HerdError
from herd.train.parallel.order import Interleaving, Work, split_layers, work_orders


def _time(interleaving: Interleaving, orders: list[list[Work]]) -> float:
    """When the last rank is done, if a backward pass takes twice as long as a forward pass and transfers no time."""
    ends: dict[Work, float] = {}
    waiting, clocks = [list(order) for order in orders], [0.0] * len(orders)
    while any(waiting):
        moved = False
        for rank, order in enumerate(waiting):
            while order:
                work = order[0]
                needed = _needed(work, interleaving.stages)
                if needed is not None and needed not in ends:
                    break
                clocks[rank] = max(clocks[rank], ends.get(needed, 0.0)) if needed else clocks[rank]
                clocks[rank] += 1.0 if work.forward else 2.0
                ends[order.pop(0)] = clocks[rank]
                moved = True
        assert moved, f"{interleaving}: every rank waits for another"
    return max(clocks)


def _needed(work: Work, stages: int) -> Work | None:
    if work.forward:
        return Work(True, work.stage - 1, work.micro_batch) if work.stage else None
    after = work.stage + 1
    return Work(True, work.stage, work.micro_batch) if after == stages else Work(False, after, work.micro_batch)


@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("stages_per_rank", [1, 2, 3])
def test_no_order_waits_for_ever_and_each_does_everything_once(ranks: int, stages_per_rank: int) -> None:
    for more, micro_batches in product((0, 1, 3, 8), (1, 2, 3, 8, 13, 16)):
        interleaving = Interleaving(ranks, stages_per_rank, ranks + more)
        orders = work_orders(interleaving, micro_batches)
        _time(interleaving, orders)
        for rank, order in enumerate(orders):
            own = product((True, False), range(rank, interleaving.stages, ranks), range(micro_batches))
            assert sorted(order) == sorted(Work(*each) for each in own)


@pytest.mark.parametrize(("ranks", "stages_per_rank"), [(2, 1), (4, 1), (2, 2), (4, 2), (4, 4), (8, 2)])
@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_the_bubble_is_the_papers(ranks: int, stages_per_rank: int, rounds: int) -> None:
    micro_batches = rounds * ranks
    for together in {ranks, micro_batches}:
        interleaving = Interleaving(ranks, stages_per_rank, together)
        ideal = 3.0 * stages_per_rank * micro_batches
        bubble = _time(interleaving, work_orders(interleaving, micro_batches)) / ideal - 1
        assert bubble == pytest.approx((ranks - 1) / (stages_per_rank * micro_batches))


def test_fewer_micro_batches_together_hold_less_in_memory() -> None:
    def most_held(together: int) -> int:
        held = most = 0
        for work in work_orders(Interleaving(4, 2, together), 16)[0]:
            held += 1 if work.forward else -1
            most = max(most, held)
        return most

    assert most_held(4) < most_held(8) < most_held(16)


@pytest.mark.parametrize(
    ("layers", "stages", "sizes"),
    [
        (126, 16, [7, *[8] * 14, 7]),
        (126, 128, [0, *[1] * 126, 0]),
        (4, 4, [0, 2, 2, 0]),
        (6, 4, [1, 2, 2, 1]),
        (5, 4, [1, 2, 2, 0]),
        (4, 2, [2, 2]),
        (4, 1, [4]),
    ],
)
def test_the_ends_have_a_layer_fewer(layers: int, stages: int, sizes: list[int]) -> None:
    ranges = split_layers(layers, stages)
    assert [len(part) for part in ranges] == sizes
    assert [layer for part in ranges for layer in part] == list(range(layers))


def test_orders_in_which_ranks_would_wait_for_each_other_are_refused() -> None:
    with pytest.raises(HerdError, match="3 micro-batches together are fewer than the 4 ranks"):
        Interleaving(4, 2, 3)


def test_a_stage_with_nothing_to_do_is_refused() -> None:
    with pytest.raises(HerdError, match="4 layers, embedding and output matrix do not fill 8 stages"):
        split_layers(4, 8)
