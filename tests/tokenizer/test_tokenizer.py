"""Encoding: the same ids as two independent implementations and as a naive one, the reference's limits included."""

import gzip
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import regex
import tiktoken
import tokenizers
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from herd.foundation.errors import HerdError
from herd.tokenizer.special import SPECIAL_TOKENS
from herd.tokenizer.tokenizer import Tokenizer, split_for_encoding

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

# Written out here again, so that a slip in the product's pattern or order of names cannot hide.
PATTERN = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
PLACES = {
    "<|begin_of_text|>": 0,
    "<|end_of_text|>": 1,
    "<|reserved_special_token_1|>": 3,
    "<|finetune_right_pad_id|>": 4,
    "<|step_id|>": 5,
    "<|start_header_id|>": 6,
    "<|end_header_id|>": 7,
    "<|eom_id|>": 8,
    "<|eot_id|>": 9,
    "<|python_tag|>": 10,
    "<|image|>": 11,
    "<|reserved_special_token_2|>": 12,
    "<|reserved_special_token_245|>": 255,
}

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
codelike = st.text(st.sampled_from("  \n\r\tabcXYZ'sdé你०१12345_.,;()[]{}<|>☃️🏳️\u200d\u00a0\u3000"), max_size=200)


def naive_encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Byte-pair encoding as its definition says it, one merge at a time."""
    ids: list[int] = []
    for piece in regex.findall(PATTERN, text):
        whole = piece.encode()
        if whole in tokenizer.ranks:
            ids.append(tokenizer.ranks[whole])
            continue
        parts = [bytes([byte]) for byte in whole]
        while True:
            pairs = [(tokenizer.ranks.get(a + b), place) for place, (a, b) in enumerate(pairwise(parts))]
            known = [(rank, place) for rank, place in pairs if rank is not None]
            if not known:
                break
            _, place = min(known)
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        ids += [tokenizer.ranks[part] for part in parts]
    return ids


def test_the_control_tokens_stand_in_their_order(small: Tokenizer, published: Tokenizer) -> None:
    assert len(SPECIAL_TOKENS) == len(set(SPECIAL_TOKENS)) == 256
    for tokenizer, ranks in ((small, 768), (published, 128_000)):
        assert {name: tokenizer.special[name] - ranks for name in PLACES} == PLACES
        assert tokenizer.stop_ids == (ranks + 1, ranks + 8, ranks + 9)
    assert published.pad_id == 128_004
    assert published.vocab_size == 128_256


@given(st.one_of(any_text, codelike))
@settings(deadline=None)
def test_small_vocabulary_merges_as_defined(small: Tokenizer, text: str) -> None:
    ids = small.encode(text)
    assert ids == naive_encode(small, text)
    assert small.decode(ids) == text
    assert small.encode_array(text).tolist() == ids


@given(st.one_of(any_text, codelike))
@settings(deadline=None, max_examples=60)
def test_published_vocabulary_agrees_with_tokenizers(
    published: Tokenizer, published_json: tokenizers.Tokenizer, text: str
) -> None:
    assume("<|" not in text)  # the other library makes control tokens of their names
    assert published_json.encode(text, add_special_tokens=False).ids == published.encode(text)


@pytest.fixture(scope="module")
def published_json(published_directory: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(published_directory / "tokenizer.json"))


def shared_texts(limit: int) -> Iterator[str]:
    """Documents in all languages and kinds of the shared set, a few from each file."""
    paths = sorted((SHARED / "text").glob("*/*.jsonl.gz"))
    if not paths:
        pytest.skip("the shared texts are not here")
    for path in paths:
        with gzip.open(path, "rt") as lines:
            for line, _ in zip(lines, range(limit), strict=False):
                value = json.loads(line)
                yield max((text for text in value.values() if isinstance(text, str)), key=len)[:50_000]


def test_published_vocabulary_agrees_on_real_text(published: Tokenizer, published_json: tokenizers.Tokenizer) -> None:
    reference = tiktoken.Encoding(
        "reference", pat_str=PATTERN, mergeable_ranks=published.ranks, special_tokens={"<|begin_of_text|>": 128_000}
    )
    count = 0
    for text in shared_texts(3):
        ids = published.encode(text)
        assert ids == reference.encode_ordinary(text)
        assert ids == published_json.encode(text, add_special_tokens=False).ids
        assert published.decode(ids) == text
        count += 1
    assert count > 40


@pytest.mark.parametrize("unit", ["a", "é", "語", "🙂", "-", " ", "\n", "ab1_"])
def test_published_vocabulary_agrees_on_long_runs(
    published: Tokenizer, published_json: tokenizers.Tokenizer, unit: str
) -> None:
    for length in (25_000, 25_001, 51_000):
        text = "word " + (unit * length)[:length] + " and on\n"
        cuts = reference_cuts(text, 25_000, 400_000)
        theirs = [token for cut in cuts for token in published_json.encode(cut, add_special_tokens=False).ids]
        ids = published.encode(text)
        assert ids == theirs == published.encode_array(text).tolist()
        assert published.decode(ids) == text


def test_published_ids_of_known_texts(published: Tokenizer) -> None:
    assert published.encode("\n\n") == [271]
    assert published.encode("safe") == [19193]
    assert published.encode("unsafe") == [39257]
    assert published.encode("You are a helpful assistant") == [2675, 527, 264, 11190, 18328]


@given(text=any_text, name=st.sampled_from(SPECIAL_TOKENS))
@example(text="", name="<|eot_id|>")
def test_names_of_control_tokens_are_plain_text_unless_asked(small: Tokenizer, text: str, name: str) -> None:
    ids = small.encode(text + name + text)
    assert max(ids) < len(small.ranks)
    assert small.decode(ids) == text + name + text
    asked = small.encode(text + name + text, allow_special=True)
    assert small.special[name] in asked
    assert small.decode(asked) == text + name + text
    assert small.special[name] not in small.encode_array(name).tolist()


def reference_cuts(text: str, longest: int, chunk: int) -> list[str]:
    """Character by character, as the limits are defined."""
    pieces: list[str] = []
    for start in range(0, len(text), chunk):
        part, run, begin = text[start : start + chunk], 0, 0
        for place, character in enumerate(part):
            run = run + 1 if place and character.isspace() == part[place - 1].isspace() else 1
            if run > longest:
                pieces.append(part[begin:place])
                begin, run = place, 1
        pieces.append(part[begin:])
    return pieces


@pytest.mark.parametrize(
    "text",
    [
        "a" * 24_999,
        "a" * 25_000,
        "a" * 25_001,
        " " * 60_000 + "b" * 80_000,
        ("word " * 3_000 + "x" * 30_000) * 3,
        "\u00a0\n\t" * 20_000,
        "word " * 100_000,
        "y" * 30_000 + " " + "word " * 100_000 + " " * 26_000,
        "",
    ],
)
def test_long_texts_and_runs_are_cut_as_in_the_reference(text: str) -> None:
    assert [piece for piece in split_for_encoding(text) if piece] == [
        piece for piece in reference_cuts(text, 25_000, 400_000) if piece
    ]


def test_a_cut_changes_the_ids_and_loses_nothing(small: Tokenizer) -> None:
    text = "a" * 25_001 + " " * 25_001 + "a"
    ids = small.encode(text)
    assert small.decode(ids) == text
    assert ids == [*small.encode("a" * 25_000), *small.encode("a" + " " * 25_000), *small.encode(" a")]


@given(st.lists(st.integers(0, 1023), max_size=50))
def test_any_ids_decode(small: Tokenizer, ids: list[int]) -> None:
    assert small.decode_bytes(ids).decode("utf-8", errors="replace") == small.decode(ids)
    ordinary = [token for token in ids if token < 768]
    assert small.decode(ids, skip_special=True) == small.decode(ordinary)


def test_batches_and_arrays_are_the_same_ids(small: Tokenizer) -> None:
    texts = ["", "one", "def f(x):\n    return x\n"]
    assert small.encode_batch(texts) == [small.encode(text) for text in texts]
    assert small.encode_array(texts[2]).dtype == np.uint32
    assert small.decode(np.array(small.encode("one"))) == "one"


def test_bad_input_is_named(small: Tokenizer) -> None:
    with pytest.raises(HerdError, match=r"lone surrogate \(U\+D83D\) at character 2"):
        small.encode("ab\ud83dc")
    with pytest.raises(HerdError, match="token id 1024 is outside the vocabulary of 1024"):
        small.decode([1, 1024])
    with pytest.raises(HerdError, match="outside the vocabulary"):
        small.decode([-1])
    with pytest.raises(HerdError, match=r"has no control token <\|nothing\|>"):
        small.special_id("<|nothing|>")
