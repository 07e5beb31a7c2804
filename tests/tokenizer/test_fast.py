"""The fast encoder beside tiktoken: the same ids for every character it knows, on long runs and in user text."""

import random
import sys

import numpy as np
import pytest

from herd.foundation.errors import HerdError
from herd.tokenizer import fast, tokenizer
from herd.tokenizer.fast import FastEncoder
from herd.tokenizer.tokenizer import Tokenizer, split_for_encoding

CONTEXTS = ("{}", "a{}", "{}a", "1{}1", " {} ", "\n{}", "'{}s", "{}{}a 1", "!{}", "{}'s", "é{}é", " \n {}")
YOUNG = "\u088f\u0c5c\ua7cf\U00010940\U00011dc0\U00016ecf\U00018d0f\U000323b0"
"""Letters of Unicode 17, which the two libraries cut differently."""


@pytest.fixture(scope="module")
def of_pairs() -> Tokenizer:
    """Any two bytes side by side make a token, so that every cut shows in the ids."""
    some = [bytes([byte]) for byte in range(256)]
    pairs = [first + second for first in some for second in some]
    return Tokenizer({token: rank for rank, token in enumerate([*some, *pairs])})


@pytest.fixture(scope="module")
def encoder(of_pairs: Tokenizer) -> FastEncoder:
    made = FastEncoder.of(of_pairs.ranks)
    if made is None:
        pytest.skip(f"gigatoken {fast.VERSION} is not installed")
    return made


def same(of_pairs: Tokenizer, encoder: FastEncoder, texts: list[str]) -> list[bool]:
    """For each text whether the fast encoder gives tiktoken's ids."""
    found = encoder.encode([part for text in texts for part in split_for_encoding(text)])
    parts = iter(found)
    joined = [[id for _ in split_for_encoding(text) for id in next(parts).tolist()] for text in texts]
    return [ids == of_pairs.encode(text) for ids, text in zip(joined, texts, strict=True)]


def in_contexts(characters: str) -> str:
    return " ".join(context.format(letter, letter) for letter in characters for context in CONTEXTS)


def test_every_known_character_is_cut_as_tiktoken_cuts_it(of_pairs: Tokenizer, encoder: FastEncoder) -> None:
    """One in nine of them here; all of them in the bench."""
    known = [letter for letter in map(chr, range(sys.maxunicode + 1)) if encoder.knows(letter)]
    some = random.Random(5).sample(known, len(known) // 9)
    groups = ["".join(some[start : start + 200]) for start in range(0, len(some), 200)]
    assert all(same(of_pairs, encoder, [in_contexts(group) for group in groups]))


def test_characters_in_doubt_are_not_known(of_pairs: Tokenizer, encoder: FastEncoder) -> None:
    assert not any(encoder.knows(f"a {letter} b") for letter in YOUNG)
    assert not all(same(of_pairs, encoder, [in_contexts(letter) for letter in YOUNG])), "then they need not be left out"


def test_runs_names_and_random_text(of_pairs: Tokenizer, encoder: FastEncoder) -> None:
    chance = random.Random(6)
    marks = " \n\r\t\u00a0\u3000aBß1٣.!_\u200b\ufeff\x00\x85"
    pool = [*marks, "  ", "\r\n", "e\u0301", "22", "हि", "🙂", "👩‍👩‍👧", "'s", "'LL"]
    drawn = ["".join(chance.choices(pool, k=chance.randint(1, 60))) for _ in range(2_000)]
    runs = [unit * length for unit in ("a", "-", " ", "語", "\n") for length in (24_999, 25_001, 60_000)]
    names = [f"{name} a{name}\n{name[:-1]}" for name in of_pairs.special]
    assert all(same(of_pairs, encoder, [*drawn, *runs, *names]))


def test_much_text_is_encoded_alike(of_pairs: Tokenizer, encoder: FastEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "_MUCH_TEXT", 1)
    texts = ["", "short", "über " * 30, f"young {YOUNG}", "a" * 70_000, "<|eot_id|>", ""]
    loaded = Tokenizer(of_pairs.ranks)
    for _ in range(2):
        arrays = loaded.encode_arrays(texts)
        assert [ids.tolist() for ids in arrays] == [of_pairs.encode(text) for text in texts]
        assert {ids.dtype for ids in arrays} == {np.dtype(np.uint32)}
    assert loaded.encode_arrays([]) == []
    with pytest.raises(HerdError, match="lone surrogate"):
        loaded.encode_arrays(["fine", "a\ud800"])


def test_it_is_used_in_the_compared_version_alone(of_pairs: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "VERSION", "0.0.0")
    assert FastEncoder.of(of_pairs.ranks) is None
    monkeypatch.setattr(tokenizer, "_MUCH_TEXT", 0)
    assert [ids.tolist() for ids in Tokenizer(of_pairs.ranks).encode_arrays(["über", ""])] == [
        of_pairs.encode("über"),
        [],
    ]
