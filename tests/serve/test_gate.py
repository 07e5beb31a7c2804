"""The gate: no span is released before its verdict, whatever the pieces it came in; and the thread that judges."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herd.guard.classifier import Verdict
from herd.guard.policy import GuardItem
from herd.serve.gate import SPAN_CHARACTERS, SpanGate, Watch


class Recorder:
    """Refuses what holds the word; remembers every text that it has judged safe."""

    def __init__(self, word: str = "FORBIDDEN") -> None:
        self.word = word
        self.safe: list[str] = []

    def judge(self, items: list[GuardItem]) -> list[Verdict]:
        unsafe = [self.word in item.text for item in items]
        self.safe += [item.text for item, bad in zip(items, unsafe, strict=True) if not bad]
        return [Verdict(float(one), one, ()) for one in unsafe]


async def stream(pieces: list[str], guard: Recorder) -> tuple[str, SpanGate[int]]:
    """Pushes the pieces through a gate; every visible text that comes out must end one that was judged safe."""
    shown = ""
    watch = Watch(guard)
    gate: SpanGate[int] = SpanGate(watch, "question")
    for number, piece in enumerate([*pieces, None]):
        released = await gate.close() if piece is None else await gate.push(piece, [number])
        if released:
            shown += released.text
            assert not released.text.strip() or any(text.endswith(released.text) for text in guard.safe)
        assert piece is None or gate.refusal is not None or len(gate._waiting) < SPAN_CHARACTERS
        if gate.refusal is not None:
            break
    watch.close()
    return shown, gate


@given(st.lists(st.text(alphabet="ab. ", max_size=50), max_size=20), st.integers(0, 19))
def test_everything_before_the_forbidden_word_at_most_is_shown(pieces: list[str], place: int) -> None:
    shown, gate = asyncio.run(stream([*pieces[:place], "FOR", "BIDDEN", *pieces[place:]], Recorder()))
    assert gate.refusal is not None
    assert "".join(pieces[:place]).startswith(shown.split("FOR")[0])
    assert "FORBIDDEN" not in shown


@given(st.lists(st.text(alphabet="ab. \n", max_size=300), max_size=10))
def test_a_safe_answer_arrives_whole(pieces: list[str]) -> None:
    shown, gate = asyncio.run(stream(pieces, Recorder()))
    assert shown == "".join(pieces)
    assert gate.taken == len(shown)


def test_what_came_along_leaves_with_its_text_only() -> None:
    async def run() -> list[tuple[str, list[int]]]:
        gate: SpanGate[int] = SpanGate(Watch(Recorder()), "")
        released = [await gate.push("All is", [1]), await gate.push(" well. ", [2]), await gate.push("FORBIDDEN", [3])]
        return [(one.text, one.companions) for one in [*released, await gate.close()] if one]

    assert asyncio.run(run()) == [("All is well. ", [1, 2])]


def test_without_a_guard_every_piece_passes_at_once() -> None:
    gate: SpanGate[int] = SpanGate(None, "")
    released = asyncio.run(gate.push("x"))
    assert released is not None
    assert released.text == "x"


class Slow(Recorder):
    """Judges when it is told to, and notes how many judge at a time and how large its batches are."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.at_once, self.most, self.batches = threading.Event(), 0, 0, []

    def judge(self, items: list[GuardItem]) -> list[Verdict]:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.batches.append(len(items))
        self.go.wait(10)
        self.at_once -= 1
        return super().judge(items)


def test_one_judgement_at_a_time_even_when_its_asker_leaves_and_the_rest_in_one_batch() -> None:
    guard = Slow()

    async def run() -> list[object]:
        watch = Watch(guard)
        first = asyncio.create_task(watch.refused("prompt", "one"))
        while not guard.batches:
            await asyncio.sleep(0.005)
        first.cancel()
        others = [asyncio.create_task(watch.refused("prompt", f"text {n}, FORBIDDEN"[: 6 + 11 * n])) for n in range(3)]
        gone = asyncio.create_task(watch.refused("prompt", "has left before its turn"))
        await asyncio.sleep(0.02)
        gone.cancel()
        await asyncio.sleep(0.02)
        guard.go.set()
        found = await asyncio.gather(*others)
        assert await watch.refused("prompt", "text 0") is None
        watch.close()
        assert watch.figures.judged == 4
        return list(found)

    assert asyncio.run(run()) == [None, (), ()]
    assert guard.most == 1
    assert guard.batches == [1, 3]
    assert "has left before its turn" not in guard.safe


def test_a_guard_that_fails_passes_nothing() -> None:
    class Broken(Recorder):
        def judge(self, items: list[GuardItem]) -> list[Verdict]:
            raise RuntimeError("no weights")

    gate: SpanGate[int] = SpanGate(Watch(Broken()), "")
    with pytest.raises(RuntimeError, match="no weights"):
        asyncio.run(gate.push("Something. "))
