"""Which language a document is written in, and how sure that is.

Documentation is prose among identifiers, so the identifier reads the lines that look like sentences, at most a few
thousand characters from the beginning, the middle and the end.  Source code is not classified: its language column
stays empty.  The classifier is py3langid (naive Bayes over byte n-grams, 142 languages), which needs no download.  The
languages in which most of the web is written have a head start, which settles short sentences that could as well be of
a small relative (Galician beside Portuguese) and nothing longer.
"""

import functools
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from herd.foundation.config import Config

if TYPE_CHECKING:
    from herd.corpus.language_model import WholeTextIdentifier

UNDETERMINED = "und"

_ENOUGH_PROSE = 60
_COMMON = ("ar", "cs", "de", "el", "en", "es", "fa", "fr", "hi", "hu", "id", "it", "ja", "ko", "nl", "pl", "pt", "ro",
           "ru", "sv", "th", "tr", "uk", "vi", "zh")  # fmt: skip
_HEAD_START = 7.0  # nats of a text's score, whose differences grow with its length to hundreds
_PROSE_WORD = re.compile(r"[^\W\d_]{2,}")
_LETTER = re.compile(r"[^\W\d_]|[\u0300-\u036f\u0900-\u0dff\u0e00-\u0eff]")  # vowel signs are letters to a reader
_CODE_TOKEN = re.compile(r"[_(){}\[\]=<>\\|@#/$]|\w\.\w")


class LanguageConfig(Config):
    """``languages`` empty keeps every language; ``minimum_confidence`` is the probability below which none is named."""

    languages: tuple[str, ...] = ()
    minimum_confidence: float = 0.4
    minimum_letters: int = 10
    sample_characters: int = 1500


@dataclass(frozen=True)
class Language:
    """An ISO 639-1 code, or ``und``, and the classifier's probability (0 to 1)."""

    code: str
    confidence: float


@functools.cache
def _identifier() -> "WholeTextIdentifier":
    from herd.corpus.language_model import open_model

    return open_model(_HEAD_START, _COMMON)


def prose_sample(text: str, characters: int) -> str:
    """Up to ``characters`` of the lines of ``text`` with the fewest code tokens, from three places of the document."""
    third = max(characters // 3, 1)
    window = 8 * third
    starts = (0,) if len(text) <= window else sorted({0, len(text) // 2, len(text) - window})
    taken = [_prose_lines(text[start : start + window], third) for start in starts]
    sample = "\n".join(part for part in taken if part)
    return sample if len(sample) >= _ENOUGH_PROSE else text[:characters]


def _prose_lines(window: str, characters: int) -> str:
    lines, size = [], 0
    for line in window.splitlines():
        words = len(_PROSE_WORD.findall(line))
        unspaced = not line.isascii() and len(line.strip()) > 8
        if (words >= 4 or unspaced) and len(_CODE_TOKEN.findall(line)) * 4 <= max(words, 1):
            lines.append(line.strip())
            size += len(line)
            if size >= characters:
                break
    return "\n".join(lines)[: characters + 200]


def identify(text: str, config: LanguageConfig = LanguageConfig()) -> Language:  # noqa: B008 - frozen
    """The language of ``text``; ``und`` where there are too few letters or the probability is below the minimum."""
    sample = prose_sample(text, config.sample_characters)
    if len(list(islice(_LETTER.finditer(sample), config.minimum_letters))) < config.minimum_letters:
        return Language(UNDETERMINED, 0.0)
    code, confidence = _identifier().classify(sample)
    return Language(code if confidence >= config.minimum_confidence else UNDETERMINED, float(confidence))


def reject_language(language: Language, config: LanguageConfig) -> str | None:
    """The reason to reject, where the configuration names languages and this is none of them."""
    if not config.languages or language.code in config.languages:
        return None
    return f"language {language.code}"
