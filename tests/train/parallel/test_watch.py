"""Whom the watch names: processes that ended, that give no sign of life, that are behind."""

from collections.abc import Iterator

import pytest
import torch.distributed as dist

from herd.foundation.errors import Interrupted
from herd.train.parallel.watch import Watch


@pytest.fixture
def watches() -> Iterator[list[Watch]]:
    store = dist.HashStore()
    made = [Watch(lambda: store, rank, 3, patience=60.0, beat=0.1) for rank in range(3)]
    for watch in made:
        with watch.within("the sums of step 1"):
            pass
    yield made
    for watch in made:
        watch.close()


def _fail(watch: Watch) -> None:
    with watch.within("the sums of step 2"):
        raise RuntimeError("connection closed by peer")


def test_a_process_without_signs_of_life_is_named(watches: list[Watch]) -> None:
    watches[2].close()
    with pytest.raises(Interrupted, match=r"^rank 2 gives no sign of life, .*; rank 0 was in the sums of step 2$"):
        _fail(watches[0])


def test_one_that_could_say_why_it_ended_is_named_with_the_reason_and_one_that_followed_it_is_not(
    watches: list[Watch],
) -> None:
    watches[1].leave("shard 7 is missing")
    watches[2].leave("")
    with pytest.raises(Interrupted, match=r"^rank 1 has ended \(shard 7 is missing\) after the sums of step 1"):
        _fail(watches[0])


def test_a_mistake_is_told_by_the_first_process_alone(watches: list[Watch]) -> None:
    assert not watches[1].is_told()
    watches[0].leave("the mesh does not fit", refused=True)
    assert watches[1].is_told("the mesh does not fit")
    assert watches[1].is_told()  # this one was only interrupted
    assert not watches[2].is_told("the disk is full")
    assert not watches[0].is_told("the mesh does not fit")
    watches[0].leave("a defect")
    assert not watches[1].is_told()


def test_one_that_is_behind_is_named(watches: list[Watch]) -> None:
    with (
        watches[2].within("the sums of step 2"),
        pytest.raises(
            Interrupted, match=r"^rank 1 lives but has kept the others waiting for . s after the sums of step 1;"
        ),
    ):
        _fail(watches[0])


def test_an_error_of_one_s_own_stays_what_it_is(watches: list[Watch]) -> None:
    with (
        watches[1].within("the sums of step 2"),
        watches[2].within("the sums of step 2"),
        pytest.raises(RuntimeError, match="connection closed"),
    ):
        _fail(watches[0])
