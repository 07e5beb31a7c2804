"""Extends a vocabulary as the paper did: the base's ranks as they are, then tokens learnt on other languages.

    tokenizer = extend_vocabulary(base, texts, protected_texts, new_tokens=28_000)
    extend_tokenizer(ExtendConfig(), base_directory, corpus, out, Progress())       # the stage

The paper's vocabulary is 100K tokens of tiktoken and 28K for languages other than English, which compress those and
leave English as it was (section 3.2).  Here the second is so by construction, for texts that are *protected*.  Two
neighbours are joined only if what they spell is a token, lowest rank first.  So a piece keeps its encoding as long as
no two neighbours in its base encoding spell a new token, and such neighbours are never joined in what is learnt from.
That is enough: merging goes the same way in a stretch of text whatever stands around it, so what spells two such
neighbours, or a whole protected piece, consists of the same base tokens wherever a new token could come from.

Learning goes on where the base stopped: every piece is encoded by the base, each base token is shown to the native
trainer of the ``tokenizers`` library as one character of the private-use planes, and what it merges are new tokens.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import regex
import tokenizers
from pydantic import Field, PositiveFloat
from tokenizers import models, pre_tokenizers, trainers

from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import write_json
from herd.foundation.progress import Progress
from herd.tokenizer import special
from herd.tokenizer.documents import read_documents
from herd.tokenizer.sample import UNKNOWN, characters_by, sample_texts, shares_of
from herd.tokenizer.tokenizer import Tokenizer, split_for_encoding

_PRIVATE_PLANES = ((0xF0000, 0xFFFFD), (0x100000, 0x10FFFD))
_LEAST_COUNT = 2
"""How often a pair must occur to become a token."""


class ExtendConfig(Config):
    """What to add to a vocabulary, and what must not change."""

    new_tokens: int = Field(default=28_000, gt=0)
    """How many tokens to learn; the paper's number."""
    languages: tuple[str, ...] = ()
    """What to learn from, by the corpus' ``language`` column; empty: all but the protected languages."""
    language_weights: dict[str, PositiveFloat] = Field(default_factory=dict)
    """Share of each language in the sample; one that is not named weighs 1."""
    protected: tuple[str, ...] = ("en",)
    """Languages whose documents must be encoded as before."""
    keep_ascii: bool = False
    """Every ASCII text is encoded as before, seen or not; languages in Latin script then gain less."""
    sample_characters: int = Field(default=30_000_000, gt=0)
    """At most about this many characters are learnt from, and at most so many are protected."""
    seed: int = 0
    measured_characters: int = Field(default=2_000_000, gt=0)
    """At most about this many characters of each language are encoded for the figures."""


@dataclass
class _Forbidden:
    """What two neighbours may not spell if they are to be joined, since something protected would change."""

    ascii: bool
    spellings: set[bytes] = field(default_factory=set)

    def protect(self, parts: list[bytes]) -> None:
        """Adds what would change a piece, given as the base encodes it."""
        self.spellings.update(left + right for left, right in pairwise(parts))

    def __contains__(self, token: bytes) -> bool:
        return token in self.spellings or (self.ascii and token.isascii())


class _Pieces:
    """Cuts texts into the pieces within which tokens are joined, and encodes each distinct piece once."""

    def __init__(self, base: Tokenizer) -> None:
        self._base = base
        self._pattern = regex.compile(special.SPLIT_PATTERN)
        self.tokens: list[bytes] = sorted(base.ranks, key=base.ranks.__getitem__)

    def of(self, text: str) -> Iterator[str]:
        """The pieces of ``text``, the limits on long runs kept."""
        for part in split_for_encoding(text):
            yield from self._pattern.findall(part)

    def encode(self, piece: str) -> list[int]:
        """Ids of one piece."""
        return self._base.encode(piece)

    def distinct(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """Ids of every piece that occurs, each once."""
        seen: set[str] = set()
        for text in texts:
            new = set(self.of(text)) - seen
            seen |= new
            yield from map(self.encode, new)


def extend_vocabulary(
    base: Tokenizer, texts: Iterable[str], protected: Iterable[str], new_tokens: int, keep_ascii: bool = False
) -> Tokenizer:
    """``base`` with ``new_tokens`` more ranks, learnt on ``texts``; every text of ``protected`` keeps its ids.

    With ``keep_ascii`` no new token is ASCII alone, so that every ASCII text keeps its ids, seen or not.  The ids of
    control tokens, which follow the ranks, move up by ``new_tokens``.  Raises ``HerdError`` if the texts hold fewer new
    tokens, or if the base has more tokens than there are private-use characters (131,068).
    """
    pieces = _Pieces(base)
    forbidden = _Forbidden(keep_ascii)
    for ids in pieces.distinct(protected):
        forbidden.protect([pieces.tokens[token] for token in ids])
    letters = _letters(len(pieces.tokens))
    spare = new_tokens // 100 + 16  # a merge may spell what is a token already
    merges = _learn(_words(pieces, letters, texts, forbidden), letters, new_tokens + spare)
    learnt = _spelled(merges, dict(zip(letters, pieces.tokens, strict=True)), base.ranks)
    if len(learnt) < new_tokens:
        raise HerdError(f"the texts give {len(learnt)} new tokens at most; {new_tokens} were asked for")
    ranks = {**base.ranks, **{token: len(base.ranks) + place for place, token in enumerate(learnt[:new_tokens])}}
    return Tokenizer(ranks, tuple(base.special))


def _letters(count: int) -> list[str]:
    """One private-use character for every base token."""
    room = [chr(code) for first, last in _PRIVATE_PLANES for code in range(first, last + 1)]
    if count > len(room):
        raise HerdError(f"a base of {count} tokens is too large to extend; {len(room)} is the limit")
    return room[:count]


def _words(pieces: _Pieces, letters: list[str], texts: Iterable[str], forbidden: _Forbidden) -> Iterator[str]:
    """Each text as the native trainer reads it: pieces of two base tokens or more, one letter a token, spaces between.

    A piece is cut where joining would spell what is protected.
    """
    written: dict[str, str] = {}
    for text in texts:
        words = []
        for piece in pieces.of(text):
            if piece not in written:
                written[piece] = _word(pieces.encode(piece), pieces.tokens, letters, forbidden)
            words.append(written[piece])
        yield " ".join(filter(None, words))


def _word(ids: list[int], tokens: list[bytes], letters: list[str], forbidden: _Forbidden) -> str:
    word = letters[ids[0]]
    for left, right in pairwise(ids):
        word += " " * (tokens[left] + tokens[right] in forbidden) + letters[right]
    return " ".join(part for part in word.split(" ") if len(part) > 1)


def _learn(words: Iterator[str], letters: list[str], count: int) -> list[tuple[str, str]]:
    """Up to ``count`` merges of letters and of what was merged before, the most frequent first."""
    learner = tokenizers.Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=len(letters) + count, min_frequency=_LEAST_COUNT, initial_alphabet=letters, show_progress=False
    )
    learner.train_from_iterator(words, trainer=trainer)
    return [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]


def _spelled(merges: list[tuple[str, str]], spelling: dict[str, bytes], base: Mapping[bytes, int]) -> list[bytes]:
    """What the merges spell, in their order, without what is a token already."""
    learnt: dict[bytes, None] = {}
    for left, right in merges:
        token = spelling[left + right] = spelling[left] + spelling[right]
        if token not in base:
            learnt[token] = None
    return list(learnt)


def extend_tokenizer(config: ExtendConfig, base: Path, corpus: Path, out: Path, progress: Progress) -> None:
    """The stage: extends the tokenizer in ``base`` on ``corpus/documents``; writes its files and ``stats.json``.

    The figures by language, before and after, are measured on ``corpus/heldout`` where there is one, else on the
    documents themselves; for the protected languages too, and with the number of documents whose ids changed.
    """
    original, documents = Tokenizer.load(base), corpus / "documents"
    characters = characters_by(documents, "language")
    weights = _weights(config, characters, documents)
    shares = shares_of(characters, weights, config.sample_characters)
    kept = {language: float(characters[language]) for language in config.protected if characters.get(language)}
    kept_shares = shares_of(characters, kept, config.sample_characters) if kept else {}
    texts = sample_texts(documents, "language", shares, config.seed)
    protected = sample_texts(documents, "language", kept_shares, config.seed)
    extended = extend_vocabulary(
        original,
        progress.track(texts, "learning new tokens", unit="documents"),
        progress.track(protected, "reading what must not change", unit="documents"),
        config.new_tokens,
        config.keep_ascii,
    )
    extended.save(out)
    held_out = corpus / "heldout"
    measured_on = held_out if any(held_out.glob("*.parquet")) else documents
    compared = compare(original, extended, measured_on, config.measured_characters)
    for language, figures in sorted(compared.items()):
        progress.say(f"{language}: {figures.sentence()}")
    stats = {
        "base_ranks": len(original.ranks),
        "new_tokens": config.new_tokens,
        "vocab_size": extended.vocab_size,
        "sampled_shares": shares,
        "protected_shares": kept_shares,
        "measured_on": measured_on.name,
        "languages": {language: figures.as_json() for language, figures in sorted(compared.items())},
    }
    write_json(out / "stats.json", stats)


def _weights(config: ExtendConfig, characters: Mapping[str, int], documents: Path) -> dict[str, float]:
    """The weight of every language to learn from; ``HerdError`` names one that the corpus lacks."""
    wanted = config.languages or tuple(sorted(set(characters) - set(config.protected)))
    missing = [language for language in wanted if not characters.get(language)]
    if missing or not wanted:
        lacking = f"no text in {missing[0]!r}" if missing else f"nothing but {', '.join(config.protected)}"
        raise HerdError(f"{documents}: holds {lacking}; there is {', '.join(sorted(characters)) or 'nothing'}")
    both = sorted(set(config.languages) & set(config.protected))
    if both:
        raise HerdError(f"the language {both[0]!r} cannot both be learnt from and be protected")
    if unused := sorted(set(config.language_weights) - set(wanted)):
        raise HerdError(f"the language {unused[0]!r} has a weight but is not learnt from")
    return {language: config.language_weights.get(language, 1.0) for language in wanted}


@dataclass
class Change:
    """Sizes of the same documents under two tokenizers."""

    documents: int = 0
    documents_changed: int = 0
    characters: int = 0
    tokens_before: int = 0
    tokens_after: int = 0

    def as_json(self) -> dict[str, Any]:
        """The sizes with characters per token."""
        before, after = (self.characters / max(count, 1) for count in (self.tokens_before, self.tokens_after))
        return {**vars(self), "characters_per_token_before": before, "characters_per_token_after": after}

    def sentence(self) -> str:
        """The change for people to read."""
        row = self.as_json()
        return (
            f"{row['characters_per_token_before']:.2f} characters a token before, "
            f"{row['characters_per_token_after']:.2f} after; "
            f"{self.documents_changed} of {self.documents} documents changed"
        )


def compare(before: Tokenizer, after: Tokenizer, documents: Path, limit: int) -> dict[str, Change]:
    """Sizes by language over at most about ``limit`` characters of each."""
    found: dict[str, Change] = {}
    for document in read_documents(documents, ("text", "language")):
        entry = found.setdefault(document["language"] or UNKNOWN, Change())
        if entry.characters >= limit:
            continue
        text = document["text"]
        old, new = before.encode_array(text), after.encode_array(text)
        entry.documents += 1
        entry.documents_changed += int(old.tolist() != new.tolist())
        entry.characters += len(text)
        entry.tokens_before += len(old)
        entry.tokens_after += len(new)
    return found
