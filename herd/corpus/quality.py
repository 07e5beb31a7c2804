"""A fastText classifier, trained here, that says how much a document looks like one that a reference work would cite.

The paper trains fastText to recognise text that Wikipedia would reference (section 3.1.1).  What counts as a reference
is the configuration's: rules over sources, kinds, addresses and the amount of prose; for documentation, READMEs and
pages with long explanations.  A fifth of the documents is kept from training, and the area under the ROC
curve on it is recorded.  Every document is scored; the worst of each domain are dropped.
"""

import fnmatch
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from herd.corpus.characters import AFTER_WORD, BEFORE_CODE, LATIN, WORD, Kinds, code_points, kinds
from herd.corpus.fit_quality import fit
from herd.corpus.split import draw
from herd.corpus.words import split_words
from herd.foundation.config import Config
from herd.foundation.seeds import random_from

UNKNOWN = 0.5


class Reference(Config):
    """A document is a reference when all that is given here holds; empty lists and zeros ask for nothing."""

    sources: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    minimum_prose_words: int = 0
    minimum_prose_share: float = 0.0


class QualityConfig(Config):
    """fastText's parameters, what a reference is, and which share of a domain goes if below ``drop_below``."""

    references: tuple[Reference, ...] = (
        Reference(kinds=("text",), minimum_prose_words=80),
        Reference(kinds=("html",), minimum_prose_words=200, minimum_prose_share=0.4),
        Reference(kinds=("code",), minimum_prose_words=200, minimum_prose_share=0.2),
    )
    drop: float = Field(default=0.03, ge=0, lt=1)
    drop_below: float = Field(default=0.1, ge=0, le=1)
    heldout: float = Field(default=0.2, gt=0, lt=1)
    minimum_examples: int = Field(default=20, ge=2)
    dimension: int = 16
    epochs: int = 15
    learning_rate: float = 0.3
    word_ngrams: int = 2
    buckets: int = 100_000
    sample_words: int = 400
    seed: int = 0


def prose(text: str, found: Kinds | None = None) -> tuple[int, float]:
    """Words in lines of prose, and their share of all words: a line of prose has five plain words or more.

    Plain is a stretch of two Latin letters or more that is no part of an expression; ``found`` are the text's kinds.
    """
    if not text:
        return 0, 0.0
    found = kinds(text) if found is None else found
    line = np.cumsum(code_points(text) == ord("\n"))
    words = np.bincount(line[_starts((found & WORD) != 0)], minlength=int(line[-1]) + 1)
    plain = np.bincount(line[_plain_words(found)], minlength=len(words))
    sentence = int(words[(words >= 5) & (plain >= 5) & (plain >= 0.7 * words)].sum())
    return sentence, sentence / max(int(words.sum()), 1)


def _starts(marks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Where the stretches of marked characters begin."""
    return np.flatnonzero(marks & np.concatenate([[True], ~marks[:-1]]))


def _plain_words(found: Kinds) -> NDArray[np.int64]:
    """Where the plain words begin; within a stretch of letters that may be behind a sign that is no letter (× or ÷)."""
    latin = (found & LATIN) != 0
    edges = np.diff(np.concatenate([[False], latin, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    bound = np.append(found, AFTER_WORD)[ends] & AFTER_WORD != 0
    free = np.concatenate([[True], (found[:-1] & BEFORE_CODE) == 0])
    freed = np.append(np.flatnonzero(free & latin), len(found))
    first = freed[np.searchsorted(freed, starts)]
    return first[bound & (ends - first >= 2)]


def is_reference(row: dict[str, Any], prose_words: int, prose_share: float, config: QualityConfig) -> bool:
    """Whether any rule names this document; ``row`` needs ``source``, ``kind`` and ``url``."""
    return any(
        (not rule.sources or row["source"] in rule.sources)
        and (not rule.kinds or row["kind"] in rule.kinds)
        and (not rule.addresses or any(fnmatch.fnmatchcase(row["url"] or "", glob) for glob in rule.addresses))
        and prose_words >= rule.minimum_prose_words
        and prose_share >= rule.minimum_prose_share
        for rule in config.references
    )


def sample(text: str, config: QualityConfig) -> str:
    """What the classifier reads: words from the beginning and from the middle, on one line."""
    half = config.sample_words // 2
    beginning, middle = text[: 12 * half], text[len(text) // 2 : len(text) // 2 + 12 * half]
    return " ".join([*split_words(beginning)[:half], *split_words(middle)[:half]])


@dataclass(frozen=True)
class Example:
    """A document as the classifier sees it: ``family`` keeps near-duplicates on one side of the held-out split."""

    family: str
    text: str
    reference: bool


@dataclass
class QualityModel:
    """A trained classifier with what is known about it; ``model`` is None where there was too little to learn from."""

    model: Any
    report: dict[str, Any]

    def score(self, samples: Sequence[str]) -> list[float]:
        """The probability of being a reference, one for each sample."""
        if self.model is None:
            return [UNKNOWN] * len(samples)
        labels, probabilities = self.model.predict(list(samples), k=-1)
        return [
            float(min(max(dict(zip(names, values, strict=True)).get("__label__reference", 0.0), 0.0), 1.0))
            for names, values in zip(labels, probabilities, strict=True)
        ]

    def save(self, path: Path) -> None:
        """Writes fastText's own format."""
        if self.model is not None:
            self.model.save_model(str(path))


def train_quality(examples: Sequence[Example], config: QualityConfig) -> QualityModel:
    """Trains on four fifths and measures on the fifth whose families training never saw."""
    unseen = [draw(example.family, config.seed) < config.heldout for example in examples]
    train = [example for example, out in zip(examples, unseen, strict=True) if not out]
    test = [example for example, out in zip(examples, unseen, strict=True) if out]
    references = sum(example.reference for example in train)
    report: dict[str, Any] = {
        "references": sum(example.reference for example in examples),
        "others": sum(not example.reference for example in examples),
        "heldout": len(test),
        "auc": None,
    }
    if min(references, len(train) - references) < config.minimum_examples:
        report["note"] = f"not trained: fewer than {config.minimum_examples} references or others to learn from"
        return QualityModel(None, report)
    quality = QualityModel(fit_examples(train, config), report)
    scores = quality.score([example.text for example in test])
    report["auc"] = area_under_curve(scores, [example.reference for example in test])
    return quality


def fit_examples(train: list[Example], config: QualityConfig) -> Any:
    """The fastText model that tells the references among ``train`` from the others."""
    return fit_labels([("reference" if e.reference else "other", e.text) for e in train], config)


def fit_labels(rows: Sequence[tuple[str, str]], config: QualityConfig) -> Any:
    """The fastText model of ``(label, sample)`` rows; a label holds no white space."""
    import fasttext

    lines = [f"__label__{label} {text}\n" for label, text in rows]
    random_from(config.seed, "quality", "order").shuffle(lines)
    with tempfile.TemporaryDirectory() as directory:
        examples, model = Path(directory, "train.txt"), Path(directory, "quality.bin")
        examples.write_text("".join(lines), encoding="utf-8", errors="replace")
        fit(
            examples, model, lr=config.learning_rate, dim=config.dimension, epoch=config.epochs,
            wordNgrams=config.word_ngrams, bucket=config.buckets, minCount=2, seed=config.seed,
        )  # fmt: skip
        return fasttext.load_model(str(model))


def area_under_curve(scores: Sequence[float], positives: Sequence[bool]) -> float | None:
    """The probability that a positive scores above a negative, ties counting half; None without both."""
    order = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(positives, dtype=np.bool_)
    above, below = order[truth], np.sort(order[~truth])
    if not len(above) or not len(below):
        return None
    wins = np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")
    return float(wins.sum() / (2 * len(above) * len(below)))


def worst(
    scores: NDArray[np.float64], domains: Sequence[str], protected: Sequence[bool], config: QualityConfig
) -> NDArray[np.bool_]:
    """The lowest ``drop`` of each domain that score below ``drop_below``, references excepted."""
    gone = np.zeros(len(scores), dtype=np.bool_)
    named = np.asarray(domains)
    for domain in sorted(set(domains)):
        rows = np.flatnonzero(named == domain)
        limit = np.quantile(scores[rows], config.drop)
        gone[rows] = scores[rows] < min(limit, config.drop_below)
    return gone & ~np.asarray(protected, dtype=np.bool_)
