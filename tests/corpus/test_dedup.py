"""Near-duplicates against exact Jaccard similarity; survivors and families whatever the partitions and the order."""

import random

import numpy as np
import pytest
from pydantic import ValidationError

from herd.corpus.dedup import DedupConfig, families, newest_by_address, sign, survivors
from herd.corpus.words import hash_ngrams, hash_words, split_words

CONFIG = DedupConfig()


def _texts(seed: int = 3, count: int = 60) -> list[str]:
    """Random texts, every third followed by two edited copies."""
    chance = random.Random(seed)
    vocabulary = [f"w{n}" for n in range(3000)]
    texts = []
    for number in range(count):
        words = chance.choices(vocabulary, k=300)
        texts.append(" ".join(words))
        if number % 3 == 0:
            for edits in (2, 5):
                copy = list(words)
                for place in chance.sample(range(len(copy)), edits):
                    copy[place] = chance.choice(vocabulary)
                texts.append(" ".join(copy))
    return texts


def _hashes(texts: list[str]) -> list[np.ndarray]:
    return [hash_words(split_words(text)) for text in texts]


def test_signatures_estimate_exact_similarity() -> None:
    hashes = _hashes(_texts())
    signatures = sign(hashes, CONFIG)
    shingles = [set(hash_ngrams(row, CONFIG.shingle_words).tolist()) for row in hashes]
    for one in range(0, 30):
        for other in range(one):
            exact = len(shingles[one] & shingles[other]) / len(shingles[one] | shingles[other])
            assert abs((signatures[one] == signatures[other]).mean() - exact) < 0.13


def test_families_are_the_components_of_similar_pairs() -> None:
    hashes = _hashes(_texts())
    family = families(sign(hashes, CONFIG), CONFIG)
    shingles = [set(hash_ngrams(row, CONFIG.shingle_words).tolist()) for row in hashes]
    for one in range(len(hashes)):
        for other in range(one):
            exact = len(shingles[one] & shingles[other]) / len(shingles[one] | shingles[other])
            if exact > 0.87:
                assert family[one] == family[other]
            if exact < 0.5:
                assert family[one] != family[other]


def test_a_chain_of_revisions_is_one_family() -> None:
    words = [f"w{n}" for n in range(400)]
    texts = [" ".join(words[:start] + [f"new{n}" for n in range(start)] + words[start:]) for start in range(0, 100, 8)]
    family = families(sign(_hashes(texts), CONFIG), CONFIG)
    assert set(family.tolist()) == {0}
    shingles = [set(hash_ngrams(row, CONFIG.shingle_words).tolist()) for row in _hashes(texts)]
    assert len(shingles[0] & shingles[-1]) / len(shingles[0] | shingles[-1]) < CONFIG.similarity


@pytest.mark.parametrize("partitions", [2, 3, 16])
def test_partitions_do_not_change_families(partitions: int) -> None:
    signatures = sign(_hashes(_texts()), CONFIG)
    divided = CONFIG.model_copy(update={"partitions": partitions})
    assert families(signatures, divided).tolist() == families(signatures, CONFIG).tolist()


def test_a_subset_of_rows_is_compared_alone() -> None:
    signatures = sign(_hashes(["a b c d e f"] * 3 + ["g h i j k l"]), CONFIG)
    assert families(signatures, CONFIG, np.array([0, 2, 3])).tolist() == [0, 0, 2]


def test_shingles_end_where_their_document_does() -> None:
    texts = ["a b", "", "c", "d e f g", "h i j"]
    together = sign(_hashes(texts), CONFIG)
    alone = [sign(_hashes([text]), CONFIG)[0].tolist() for text in texts]
    assert together.tolist() == alone


def test_survivors_do_not_depend_on_order() -> None:
    texts = _texts()
    ids = [f"id{n:03d}" for n in range(len(texts))]
    quality = [random.Random(text).choice([0.2, 0.5, 0.9]) for text in texts]

    def kept(order: list[int]) -> set[str]:
        family = families(sign(_hashes([texts[row] for row in order]), CONFIG), CONFIG)
        marks = survivors(family, [quality[row] for row in order], [ids[row] for row in order])
        return {ids[row] for row, mark in zip(order, marks, strict=True) if mark}

    straight = list(range(len(texts)))
    shuffled = straight[:]
    random.Random(1).shuffle(shuffled)
    assert kept(straight) == kept(shuffled)
    assert len(kept(straight)) == 60


def test_the_best_survives_and_the_smallest_id_breaks_ties() -> None:
    family = np.array([0, 0, 0, 3])
    assert survivors(family, [0.1, 0.9, 0.9, 0.0], ["d", "c", "b", "a"]).tolist() == [False, False, True, True]


def test_newest_page_of_an_address_stays() -> None:
    pages = [
        ("a", "2023-01-01", "1"), ("a", "2024-01-01", "2"), ("a", None, "3"),
        ("b", None, "5"), ("b", None, "4"), ("", None, "6"), ("", None, "7"),
    ]  # fmt: skip
    assert newest_by_address(pages).tolist() == [False, True, False, False, True, True, True]


def test_bands_that_would_miss_duplicates_are_refused() -> None:
    with pytest.raises(ValidationError, match="find only"):
        DedupConfig(bands=2, rows=20)
