"""Text while it comes, against the same text looked at as a whole."""

from hypothesis import given
from hypothesis import strategies as st

from herd.infer.text import TextStream
from herd.tokenizer.tokenizer import Tokenizer

TOKENIZER = Tokenizer({bytes([byte]): byte for byte in range(256)} | {b"ab": 256, b"ba": 257, "é".encode(): 258})


def cut(text: str, stops: list[str]) -> tuple[str, bool]:
    """The text before the stop string that is complete first."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))], True
    return text, False


@given(st.text("abé", max_size=12), st.lists(st.text("abé", min_size=1, max_size=4), max_size=3))
def test_what_is_shown_is_the_text_before_the_first_stop_string(text: str, stops: list[str]) -> None:
    stream = TextStream(TOKENIZER, stops)
    shown = ""
    expected, stopped = cut(text, stops)
    for token in TOKENIZER.encode(text):
        shown += stream.push(token)
        assert expected.startswith(shown)
    shown += stream.finish()
    assert (shown, stream.stopped, stream.text) == (expected, stopped, expected)


def test_nothing_is_held_back_longer_than_needed() -> None:
    stream = TextStream(TOKENIZER, ["END"])
    assert [stream.push(byte) for byte in b"xENy"] == ["x", "", "", "ENy"]


def test_half_a_character_waits_and_becomes_a_replacement_at_the_end() -> None:
    stream = TextStream(TOKENIZER)
    assert [stream.push(byte) for byte in "a€".encode()] == ["a", "", "", "€"]
    assert stream.push(0xE2) == ""
    assert stream.finish() == "\ufffd"


def test_nothing_follows_a_stop_string() -> None:
    stream = TextStream(TOKENIZER, ["\n"])
    assert stream.push(ord("a")) + stream.push(ord("\n")) + stream.push(ord("b")) + stream.finish() == "a"
