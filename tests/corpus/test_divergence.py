"""KL divergence against its definition, and outliers that stick out whatever their length."""

import math
import random
from collections import Counter

import numpy as np
import pytest

from herd.corpus.divergence import DivergenceConfig, WordCounts, count_words, divergence, outliers
from herd.corpus.words import hash_words

CONFIG = DivergenceConfig(buckets=1 << 20)


def _corpus(texts: list[list[str]]) -> tuple[list[WordCounts], np.ndarray]:
    total = np.zeros(CONFIG.buckets, dtype=np.int64)
    counted = [count_words(hash_words(text), CONFIG) for text in texts]
    for own in counted:
        total[own.buckets] += own.counts
    return counted, total


def test_it_is_the_divergence_from_the_rest() -> None:
    chance = random.Random(1)
    texts = [chance.choices("abcdefgh", k=50) for _ in range(5)]
    counted, total = _corpus(texts)
    rest = Counter(word for text in texts[1:] for word in text)
    smoothed = {word: rest[word] + CONFIG.smoothing for word in "abcdefgh"}
    expected = sum(
        n / 50 * math.log2(n / 50 / (smoothed[word] / sum(smoothed.values()))) for word, n in Counter(texts[0]).items()
    )
    assert divergence(counted[0], total, CONFIG) == pytest.approx(expected, rel=1e-9)


def test_foreign_words_stand_out_at_any_length() -> None:
    chance = random.Random(2)
    vocabulary, weights = [f"w{n}" for n in range(500)], [1 / (n + 1) for n in range(500)]
    lengths = [chance.choice((60, 200, 800)) for _ in range(200)]
    texts = [chance.choices(vocabulary, weights, k=length) for length in lengths]
    for row in (3, 50, 120):
        texts[row] = [f"x{chance.randrange(10**6)}" for _ in range(lengths[row])]
    counted, total = _corpus(texts)
    far = outliers([divergence(own, total, CONFIG) for own in counted], lengths, CONFIG)
    assert np.flatnonzero(far).tolist() == [3, 50, 120]


def test_a_group_too_small_has_no_outliers() -> None:
    assert not outliers([1.0, 1.1, 90.0], [100, 100, 100], CONFIG).any()
