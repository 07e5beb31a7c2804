"""The gate: no span is released before its verdict, whatever the pieces it came in."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from herd.guard.classifier import Verdict
from herd.guard.policy import GuardItem
from herd.serve.gate import SPAN_CHARACTERS, SpanGate, Watch


class Recorder:
    """Refuses what holds the word; remembers every text that it has judged."""

    def __init__(self, word: str) -> None:
        self.word, self.judged = word, ""

    def judge(self, items: list[GuardItem]) -> list[Verdict]:
        unsafe = [self.word in item.text for item in items]
        if not any(unsafe):
            self.judged = items[-1].text
        return [Verdict(float(one), one, ()) for one in unsafe]


async def stream(gate: SpanGate, pieces: list[str], guard: Recorder) -> str:
    shown = ""
    for piece in pieces:
        if released := await gate.push(piece):
            shown += released.text
            assert guard.judged.endswith(released.text[-len(guard.judged) :])
        if gate.refusal is not None:
            return shown
    if released := await gate.close():
        shown += released.text
    return shown


@given(st.lists(st.text(alphabet="ab. ", max_size=50), max_size=20), st.integers(0, 19))
def test_everything_before_the_forbidden_word_at_most_is_shown(pieces: list[str], place: int) -> None:
    with_word = [*pieces[:place], "FOR", "BIDDEN", *pieces[place:]]
    guard = Recorder("FORBIDDEN")
    gate = SpanGate(Watch(guard), "question")  # type: ignore[arg-type]
    shown = asyncio.run(stream(gate, with_word, guard))
    assert gate.refusal is not None
    assert "".join(pieces[:place]).startswith(shown.split("FOR")[0])
    assert "FORBIDDEN" not in shown


@given(st.lists(st.text(alphabet="ab. \n", max_size=300), max_size=10))
def test_a_safe_answer_arrives_whole_and_waits_no_longer_than_a_span(pieces: list[str]) -> None:
    guard = Recorder("FORBIDDEN")
    gate = SpanGate(Watch(guard), "question")  # type: ignore[arg-type]
    assert asyncio.run(stream(gate, pieces, guard)) == "".join(pieces)
    assert len(gate._waiting) < SPAN_CHARACTERS


def test_without_a_guard_every_piece_passes_at_once() -> None:
    gate = SpanGate(None, "")
    released = asyncio.run(gate.push("x"))
    assert released is not None
    assert released.text == "x"
