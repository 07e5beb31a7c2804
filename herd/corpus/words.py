"""The word stream on which all texts are compared: case-folded alphanumeric words and hashes of their n-grams.

Near-duplicate detection, repetition rules and decontamination must agree on what "the same words" means whatever the
case, the line breaks or the mark-up around them; they all read a text through this module.  Hashes are 64-bit digests,
equal on every machine, and everything after the split into words runs in NumPy.
"""

import hashlib
import html
import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

from herd.corpus.characters import ALPHANUMERIC, UNSPACED, UNSPACED_SCRIPTS, code_points, kinds_of

Hashes = NDArray[np.uint64]

_ASCII_WORDS = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}
_WORD = re.compile(rf"[^\W_{UNSPACED_SCRIPTS}]+|[{UNSPACED_SCRIPTS}]")
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,300}>|<!--.{0,2000}?-->", re.DOTALL)
_LINK_TARGET = re.compile(r"\]\([^()\s]{1,500}\)|\]\[[^\]\s]{0,100}\]")
_HYPHENATED = re.compile(r"(?<=[^\W\d_])(?:-[ \t]*\r?\n[ \t]*|\u00ad)(?=[^\W\d_])")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIXERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(31), np.uint64(29))
_MEMO_LIMIT = 1 << 20
_SHORT = 200


class _Memo(dict[str, int]):
    """Word to 64-bit digest; forgets everything when it grows beyond a million words, so that memory stays bounded."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _MEMO_LIMIT:
            self.clear()
        value = self[word] = hash_text(word)
        return value


_MEMO = _Memo()


def split_words(text: str) -> list[str]:
    """The case-folded alphanumeric words of ``text`` in order; underscores and punctuation separate them."""
    # Python translates ASCII by a table: an eighth of the pattern's time, and the same words.
    if text.isascii():
        return text.translate(_ASCII_WORDS).split()
    folded = text.casefold()
    if len(folded) > _SHORT:
        codes = code_points(folded)
        found = kinds_of(codes)
        if not (found & UNSPACED).any():
            spaced = np.where(found & ALPHANUMERIC, codes, ord(" ")).astype("<u4")
            return spaced.tobytes().decode("utf-32-le").split()
    return _WORD.findall(folded)


def strip_markup(text: str) -> str:
    """Removes what a copyist adds or loses: tags, entities, link targets, hyphenation, compatibility characters."""
    if "<" in text:
        text = _TAG.sub(" ", text)
    if "&" in text:
        text = html.unescape(text)
    text = _LINK_TARGET.sub("] ", text)
    text = _HYPHENATED.sub("", text)
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def hash_words(words: list[str]) -> Hashes:
    """One 64-bit digest a word."""
    return np.fromiter(map(_MEMO.__getitem__, words), dtype=np.uint64, count=len(words))


def hash_ngrams(hashes: Hashes, n: int) -> Hashes:
    """The digest of every run of ``n`` words: shape (max(len - n + 1, 0),)."""
    return finish(sum_ngrams(hashes, n))


def sum_ngrams(hashes: Hashes, n: int) -> Hashes:
    """What ``hash_ngrams`` mixes in the end; ``extend`` makes those of longer runs from it."""
    count = max(len(hashes) - n + 1, 0)
    sums = np.zeros(count, dtype=np.uint64)
    for start in range(n):
        sums = extend(sums, hashes[start : start + count])
    return sums


def extend(sums: Hashes, following: Hashes) -> Hashes:
    """The sums of runs that are one word longer; ``following`` holds the digests of these words."""
    return sums * _MULTIPLIER + following


def finish(sums: Hashes) -> Hashes:
    """The digests of runs of words from their sums."""
    factor, first, second = _MIXERS
    mixed = (sums ^ (sums >> first)) * factor
    return mixed ^ (mixed >> second)


def hash_text(text: str) -> int:
    """One 64-bit digest of a string."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
