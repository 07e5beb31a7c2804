"""Several consumers at once, each with its own stream; those who leave, and a full house."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest

from herd.foundation.errors import HerdError
from herd.infer.engine import Engine
from herd.infer.request import Completion, Request
from herd.infer.sampling import Sampling
from herd.infer.service import QueueFullError, Service, ServiceClosedError

MakeEngine = Callable[..., Engine]

LONG = Sampling(max_tokens=200, stop_ids=(), seed=1)


async def wait_until_idle(service: Service) -> None:
    for _ in range(500):
        if not service.load.requests and not service.engine.busy:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the service never became idle")


def test_many_streams_give_what_generate_gives(make_engine: MakeEngine) -> None:
    prompts = [[65 + i, 66] for i in range(12)]
    sampling = Sampling(max_tokens=15, seed=9)
    expected = make_engine().generate(prompts, sampling, n=2)

    async def consume(service: Service, prompt: list[int]) -> list[Completion]:
        texts, done = ["", ""], {}
        async for event in service.stream(Request(prompt, sampling, n=2, stream=True)):
            texts[event.output] += event.text
            if event.completion is not None:
                done[event.output] = event.completion
        assert texts == [done[0].text, done[1].text]
        return [done[0], done[1]]

    async def main() -> list[list[Completion]]:
        async with Service(make_engine(batch=4)) as service:
            return await asyncio.gather(*(consume(service, prompt) for prompt in prompts))

    assert asyncio.run(main()) == expected


def test_a_consumer_that_leaves_ends_its_generation(make_engine: MakeEngine) -> None:
    async def main() -> None:
        engine = make_engine()
        async with Service(engine) as service:
            async with aclosing(service.stream(Request([1], LONG, stream=True))) as events:
                async for _ in events:
                    break
            await wait_until_idle(service)
            task = asyncio.create_task(service.complete(Request([1], LONG, n=20)))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await wait_until_idle(service)
        assert engine.free_pages == engine._scheduler.pool.pages

    asyncio.run(main())


def test_a_full_service_refuses_and_recovers(make_engine: MakeEngine) -> None:
    async def main() -> None:
        async with Service(make_engine(), limit=2) as service:
            tasks = [asyncio.create_task(service.complete(Request([1], LONG))) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError):
                await service.complete(Request([1], LONG))
            results = await asyncio.gather(*tasks)
            assert [len(row[0].ids) for row in results] == [200, 200]
            assert len((await service.complete(Request([1], Sampling(max_tokens=3, stop_ids=()))))[0].ids) == 3

    asyncio.run(main())


def test_errors_reach_the_one_who_asked(make_engine: MakeEngine) -> None:
    async def main() -> None:
        async with Service(make_engine(), limit=1) as service:
            with pytest.raises(HerdError, match="at least one token"):
                await service.complete(Request([]))
            assert len(await service.score([1, 2], [3, 4])) == 2

    asyncio.run(main())


def test_unseeded_requests_differ(make_engine: MakeEngine) -> None:
    async def main() -> set[tuple[int, ...]]:
        request = Request([1], Sampling(max_tokens=30, temperature=3, top_p=1))
        async with Service(make_engine()) as service:
            rows = await asyncio.gather(*(service.complete(request) for _ in range(4)))
            return {tuple(row[0].ids) for row in rows}

    assert len(asyncio.run(main())) == 4


def test_a_failing_engine_is_reported_to_all(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        engine = make_engine()

        def fail() -> list[object]:
            raise RuntimeError("no memory")

        monkeypatch.setattr(engine, "step", fail)
        async with Service(engine) as service:
            with pytest.raises(ServiceClosedError, match="no memory"):
                await service.complete(Request([1]))
            with pytest.raises(ServiceClosedError):
                await service.complete(Request([1]))

    asyncio.run(main())


def test_closing_ends_open_streams(make_engine: MakeEngine) -> None:
    async def main() -> None:
        service = Service(make_engine()).start()
        task = asyncio.create_task(service.complete(Request([1], LONG)))
        await asyncio.sleep(0.02)
        await asyncio.to_thread(service.close)
        with pytest.raises(ServiceClosedError):
            await task

    asyncio.run(main())
