"""Language identification reads the prose of a page, not its identifiers, and says when it cannot know."""

import random

import numpy as np
import pytest
from py3langid.langid import LanguageIdentifier

from herd.corpus.language import UNDETERMINED, LanguageConfig, identify, prose_sample, reject_language
from herd.corpus.language_model import open_model

GERMAN = "Die Funktion gibt eine Zeichenkette zurück, in der alle Buchstaben klein geschrieben sind."
ENGLISH = "The function returns a string in which all of the letters were made small again."


@pytest.mark.parametrize(
    ("text", "code"), [(GERMAN, "de"), (ENGLISH, "en"), ("ภาษาไทยเป็นภาษาที่ใช้ในประเทศไทย และมีเสียงวรรณยุกต์", "th")]
)
def test_languages(text: str, code: str) -> None:
    language = identify(text)
    assert language.code == code
    assert 0.5 < language.confidence <= 1


def test_identifiers_around_prose_are_not_read() -> None:
    code = "\n".join(f"x_{n} = foo.bar(le_{n}, la[{n}])" for n in range(200))
    sample = prose_sample(f"{code}\n{ENGLISH}\n{ENGLISH}\n{code}", 1500)
    assert ENGLISH in sample
    assert "foo.bar" not in sample


def test_too_few_letters_are_undetermined() -> None:
    assert identify("12 34 a b").code == UNDETERMINED
    assert identify("").confidence == 0.0


def test_only_named_languages_stay() -> None:
    config = LanguageConfig(languages=("en",))
    assert reject_language(identify(ENGLISH), config) is None
    assert reject_language(identify(GERMAN), config) == "language de"
    assert reject_language(identify(GERMAN), LanguageConfig()) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Filipe marchou contra os seus inimigos do sul.", "pt"),  # as well Galician, but for a word
        ("वह कल घर आया था।", "hi"),  # more vowel signs than letters in the narrow sense
        ("Lo chalet bruciò completamente.", "it"),
        ("O galego é unha lingua románica que se fala en Galicia e na que xa se escribía na Idade Media.", "gl"),
    ],
)
def test_short_sentences(text: str, code: str) -> None:
    assert identify(text).code == code


def test_the_walk_over_all_bytes_scores_as_the_library_does() -> None:
    chance = random.Random(7)
    model = open_model(0.0, ())
    noise = [
        "".join(chr(chance.choice((65, 0xE9, 0x4E00)) + chance.randrange(20)) for _ in range(60)) for _ in range(20)
    ]
    for text in [GERMAN, ENGLISH, f"{GERMAN}\n{ENGLISH}" * 9, "ภาษาไทย", "a", "\x00" * 9, *noise]:
        data = text.encode()
        assert np.array_equal(model._raw_score(data), LanguageIdentifier._raw_score(model, data))
