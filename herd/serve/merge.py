"""Several streams as one: the choices of an answer that are generated side by side.

async for number, happening in merged([first, second]):
    ...
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

Item = TypeVar("Item")


async def merged(streams: Sequence[AsyncGenerator[Item, None]]) -> AsyncGenerator[tuple[int, Item], None]:
    """What the streams give, as it comes, each with its stream's number; where one fails, the others end.

    Nothing comes before every stream has given something: where one cannot begin, nobody has seen another's beginning.
    """
    inbox: asyncio.Queue[tuple[int, Item] | None] = asyncio.Queue()

    async def pump(number: int, stream: AsyncGenerator[Item, None]) -> None:
        async with aclosing(stream):
            async for item in stream:
                inbox.put_nowait((number, item))

    pumps = [asyncio.create_task(pump(number, stream)) for number, stream in enumerate(streams)]
    whole = asyncio.gather(*pumps)
    whole.add_done_callback(lambda _: inbox.put_nowait(None))
    held: list[tuple[int, Item]] = []
    begun: set[int] = set()
    try:
        while (found := await inbox.get()) is not None:
            held.append(found)
            begun.add(found[0])
            if len(begun) == len(streams):
                for one in held:
                    yield one
                held.clear()
        await whole
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
