"""Latency that the guard adds to a served answer: the same prompts with the guard in the path and without it.

    python bench/serve_latency.py runs/pocket/chat --prompts 20 --clients 1,8

Turns run as the server runs them (``herd.serve.assistant``), without HTTP, greedily, with and without the guard in
alternating rounds.  *First text* is the time until something may be shown, *answer* until the turn has ended.  Only
prompts count whose turn both ways gave the same answer, since a refusal is short.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from herd.foundation.errors import HerdError
from herd.foundation.files import read_jsonl
from herd.infer.sampling import Sampling
from herd.serve.assistant import Assistant, Refused, Text
from herd.serve.gate import Watch
from herd.serve.household import Household

_QUESTIONS = ("What does json.dumps do?", "What is 37 * 412 - 5?", "Hello", "Tell me about os.path.join.")


@dataclass(frozen=True)
class Turn:
    """One answered prompt, in seconds from the asking."""

    first: float
    answer: float
    text: str


async def ask(assistant: Assistant, question: str, sampling: Sampling) -> Turn:
    """One turn; a refusal counts as text."""
    began = time.perf_counter()
    first, said = None, ""
    async with aclosing(assistant.converse([{"role": "user", "content": question}], sampling)) as happenings:
        async for happening in happenings:
            if first is None and not isinstance(happening, Refused):
                first = time.perf_counter() - began
            if isinstance(happening, Text):
                said += happening.text
    ended = time.perf_counter() - began
    return Turn(ended if first is None else first, ended, said)


async def ask_all(assistant: Assistant, questions: Sequence[str], clients: int, sampling: Sampling) -> list[Turn]:
    """All questions, ``clients`` of them at a time."""
    turnstile = asyncio.Semaphore(clients)

    async def through(question: str) -> Turn:
        async with turnstile:
            return await ask(assistant, question, sampling)

    return list(await asyncio.gather(*(through(question) for question in questions)))


def describe(name: str, seconds: Sequence[float]) -> str:
    """Median and 90th percentile in milliseconds."""
    ordered = sorted(1000 * one for one in seconds)
    return f"{name:<22}{statistics.median(ordered):>10.1f}{ordered[int(0.9 * (len(ordered) - 1))]:>10.1f}"


async def measure(household: Household, questions: Sequence[str], clients: Sequence[int], rounds: int) -> None:
    """Prints a table for every number of clients, and what the guard itself did."""
    sampling = Sampling(temperature=0.0, max_tokens=100)
    assert household.guard is not None
    async with household.running() as guarded:
        assert household.service is not None
        bare = Assistant(household.service, household.tools, None)
        await ask_all(bare, questions[:2], 1, sampling)  # the sandbox and the caches are warm from here on
        for number in clients:
            found: dict[str, list[Turn]] = {"without": [], "with": []}
            for _ in range(rounds):
                found["without"] += await ask_all(bare, questions, number, sampling)
                guarded.watch = Watch(household.guard)  # a fresh one, which remembers no verdict
                found["with"] += await ask_all(guarded, questions, number, sampling)
                figures = guarded.watch.figures
                guarded.watch.close()
            pairs = [pair for pair in zip(found["without"], found["with"], strict=True) if pair[0].text == pair[1].text]
            print(f"\n{number} client(s), {len(pairs)} of {len(found['with'])} turns alike")
            if not pairs:
                continue
            print(f"{'milliseconds':<22}{'median':>10}{'p90':>10}")
            for what in ("first", "answer"):
                before, after = ([getattr(pair[side], what) for pair in pairs] for side in (0, 1))
                print(describe(f"{what}, without guard", before))
                print(describe(f"{what}, with guard", after))
                print(describe("  added", [one - other for one, other in zip(after, before, strict=True)]))
            print(
                f"the guard judged {figures.judged} texts in {figures.batches} batches in the last round, "
                f"{1000 * figures.seconds / max(figures.batches, 1):.1f} ms a batch; "
                f"a text waited {1000 * figures.waited / max(figures.judged, 1):.1f} ms"
            )


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--prompts", type=int, default=20, help="test prompts of the run, drawn in their order")
    parser.add_argument("--clients", default="1,8", help="how many at a time, with commas")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    try:
        household = Household.open(options.model)
        if household.guard is None:
            raise HerdError(f"{options.model}: {household.describe()}")
    except HerdError as error:
        print(f"herd: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    tasks = options.model.resolve().parent / "tasks" / "test.jsonl"
    rows = list(read_jsonl(tasks)) if tasks.exists() else []
    spread = rows[:: max(len(rows) // options.prompts, 1)][: options.prompts]
    questions = [row["messages"][-1]["content"] for row in spread] or list(_QUESTIONS)
    clients = [int(number) for number in options.clients.split(",")]
    asyncio.run(measure(household, questions, clients, options.rounds))


if __name__ == "__main__":
    main()
