"""The word stream: what a copyist changes must not change it, and its n-grams are exactly the runs of words."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herd.corpus.words import hash_ngrams, hash_words, split_words, strip_markup


def test_case_punctuation_and_underscores_do_not_count() -> None:
    assert split_words("Foo_bar, BAZ-qux!\n 42") == ["foo", "bar", "baz", "qux", "42"]


def test_scripts_without_spaces_are_split_into_characters() -> None:
    assert split_words("漢字 ab") == ["漢", "字", "ab"]


@pytest.mark.parametrize(
    "copied",
    [
        "The <b>quick</b>&nbsp;brown fox",
        "the QUICK brown\n   fox",
        "the quick [brown](https://example.org/a) fox",
        "the quick brown f\u00adox",
        "the qu-\nick brown fox",
    ],
)
def test_markup_wrapping_and_hyphens_leave_the_same_words(copied: str) -> None:
    assert split_words(strip_markup(copied)) == ["the", "quick", "brown", "fox"]


def test_comparisons_are_not_tags() -> None:
    assert split_words(strip_markup("if a < b and c > d")) == ["if", "a", "b", "and", "c", "d"]


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 6))
def test_equal_ngrams_have_equal_hashes_and_others_do_not(words: list[str], n: int) -> None:
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    hashes = hash_ngrams(hash_words(words), n).tolist()
    assert len(hashes) == len(grams)
    assert len(set(zip(grams, hashes, strict=True))) == len(set(grams)) == len(set(hashes))


def test_hashes_are_spread_evenly() -> None:
    words = [str(random.Random(seed).random()) for seed in range(4000)]
    buckets = np.bincount(hash_ngrams(hash_words(words), 2) % np.uint64(16), minlength=16)
    assert buckets.min() > 180
    assert buckets.max() < 320


@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=200))
def test_the_table_for_ascii_splits_as_the_pattern_does(text: str) -> None:
    # One letter beyond ASCII sends the same text through the pattern.
    assert split_words(text) == split_words(text + " é")[:-1]
