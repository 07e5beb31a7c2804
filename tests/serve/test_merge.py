"""Streams side by side: everything comes, nothing before all have begun, and one that fails ends the others."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from herd.serve.merge import merged


async def count(number: int, ended: list[int], fail_at: int = -1) -> AsyncGenerator[int, None]:
    try:
        for step in range(3):
            await asyncio.sleep(0.001 * (number + 1))
            if step == fail_at:
                raise ValueError(f"stream {number}")
            yield step
    finally:
        ended.append(number)


def test_every_item_comes_in_its_streams_order_once_all_have_begun() -> None:
    async def take() -> list[tuple[int, int]]:
        return [found async for found in merged([count(number, []) for number in (0, 90)])]

    found = asyncio.run(take())
    assert [[step for number, step in found if number == stream] for stream in (0, 1)] == [[0, 1, 2]] * 2
    assert found[:3] == [(0, 0), (0, 1), (0, 2)], "the quick one waited for the slow one's first, in order"


@pytest.mark.parametrize("fail_at", [0, 1])
def test_one_that_fails_ends_the_others(fail_at: int) -> None:
    ended: list[int] = []
    found: list[tuple[int, int]] = []

    async def take() -> None:
        async for one in merged([count(0, ended, fail_at), count(90, ended)]):
            found.append(one)

    with pytest.raises(ValueError, match="stream 0"):
        asyncio.run(take())
    assert sorted(ended) == [0, 90]
    assert found == []


def test_a_reader_that_leaves_ends_all() -> None:
    ended: list[int] = []

    async def leave() -> None:
        streams = merged([count(0, ended), count(1, ended)])
        await anext(streams)
        await streams.aclose()

    asyncio.run(leave())
    assert sorted(ended) == [0, 1]
