"""The part of curation that compares documents with each other, on the figures that preparation left on the disk.

A ledger holds a few numbers a document; word counts, signatures and samples are read shard by shard when needed.
Each function here judges the living documents and leaves the verdict to the stage.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from herd.corpus.dedup import survivors
from herd.corpus.divergence import WordCounts, divergence, outliers
from herd.corpus.documents import Row, read_shard
from herd.corpus.engine import Engine
from herd.corpus.funnel import Funnel
from herd.corpus.prepare import PrepareConfig
from herd.corpus.quality import Example, QualityModel, train_quality, worst
from herd.corpus.signatures import write_signatures
from herd.corpus.snapshots import KNOWN_TEXT, Known, Past

Marks = NDArray[np.bool_]


@dataclass
class Ledger:
    """What is known of every document that came through preparation, one entry a document, in order."""

    ids: list[str]
    domains: list[str]
    languages: list[str]
    characters: NDArray[np.int64]
    words: NDArray[np.int64]
    references: Marks
    alive: Marks
    verdicts: dict[int, tuple[str, str]] = field(default_factory=dict)

    def reject(self, gone: Marks, step: str, reason: str) -> Counter[str]:
        """Marks the living documents of ``gone`` as rejected; returns how many there were by reason."""
        rows = np.flatnonzero(self.alive & gone)
        self.alive[rows] = False
        self.verdicts |= dict.fromkeys(rows.tolist(), (step, reason))
        return Counter({reason: len(rows)}) if len(rows) else Counter()

    def reject_known(self, known: Mapping[int, Known]) -> Counter[str]:
        """Marks the living documents of ``known`` as rejected, each with the earlier document that stays instead."""
        rows = [row for row in known if self.alive[row]]
        self.alive[rows] = False
        self.verdicts |= {row: ("near_duplicates", f"{KNOWN_TEXT}: {known[row]}") for row in rows}
        return Counter({KNOWN_TEXT: len(rows)}) if rows else Counter()

    def close(self, funnel: Funnel, step: str, removed: Counter[str], **figures: Any) -> None:
        """Closes a step of the funnel with the living documents."""
        funnel.step(step, int(self.alive.sum()), int(self.characters[self.alive].sum()), removed, **figures)

    def best(self, family: NDArray[np.int64], scores: NDArray[np.float64]) -> Marks:
        """True for the best living document of each family: highest score, then smallest id."""
        living = np.flatnonzero(self.alive)
        keep = np.zeros(len(family), dtype=np.bool_)
        keep[living] = survivors(family[living], scores[living].tolist(), [self.ids[row] for row in living])
        return keep

    def kept(self, family: NDArray[np.int64], copies: Marks, known: Mapping[int, Known]) -> dict[int, str]:
        """For each document that was compared, the id of the one that stays in its family, itself or another."""
        stays = {int(family[row]): self.ids[row] for row in np.flatnonzero(self.alive & ~copies)}
        here = {row: stays[int(family[row])] for row in np.flatnonzero(self.alive).tolist()}
        return dict(sorted((here | {row: found.id for row, found in known.items()}).items()))


def twins(ids: Sequence[str], kept: Mapping[int, str], known: Mapping[int, Known]) -> Iterator[dict[str, Any]]:
    """Of every family with copies the id that stays (``kept``), those that go (``copies``), an earlier one's corpus."""
    going: dict[str, list[int]] = {}
    for row, name in kept.items():
        if row in known or name != ids[row]:
            going.setdefault(name, []).append(row)
    for name, rows in going.items():
        earlier = {"corpus": known[rows[0]].corpus} if rows[0] in known else {}
        yield {"kept": name, "copies": [ids[row] for row in rows], **earlier}


def prepared(work: Path, columns: list[str] | None = None) -> Iterator[Row]:
    """The prepared documents in their order."""
    for shard in sorted(work.glob("documents-*.parquet")):
        yield from read_shard(shard, columns)


def open_ledger(work: Path) -> Ledger:
    """Reads what the ledger holds of every prepared document."""
    rows = [
        (row["id"], row["domain"], row["language"] or "", len(row["text"]), int(row["words"]), row["reference"])
        for row in prepared(work, ["id", "domain", "language", "text", "words", "reference"])
    ]
    columns = list(zip(*rows, strict=True)) or [()] * 6
    ids, domains, languages, characters, words, references = columns
    return Ledger(
        list(ids),
        list(domains),
        list(languages),
        np.array(characters, dtype=np.int64),
        np.array(words, dtype=np.int64),
        np.array(references, dtype=np.bool_),
        np.ones(len(rows), dtype=np.bool_),
    )


def find_outliers(config: PrepareConfig, work: Path, ledger: Ledger) -> tuple[NDArray[np.float64], Marks]:
    """KL divergence of each document from the rest of its domain and language, and which are too far away."""
    groups = np.array(
        [f"{domain}/{language}" if domain == "multilingual" else domain
         for domain, language in zip(ledger.domains, ledger.languages, strict=True)]
    )  # fmt: skip
    totals = {group: np.zeros(config.divergence.buckets, dtype=np.int64) for group in sorted(set(groups.tolist()))}
    for group, own in zip(groups, _word_counts(work), strict=True):
        totals[group][own.buckets] += own.counts
    pairs = zip(groups, _word_counts(work), strict=True)
    values = np.array([divergence(own, totals[group], config.divergence) for group, own in pairs])
    gone = np.zeros(len(values), dtype=np.bool_)
    for group in totals:
        rows = np.flatnonzero(groups == group)
        if group not in config.divergence.exempt_domains:
            gone[rows] = outliers(values[rows].tolist(), ledger.words[rows].tolist(), config.divergence)
    return values, gone


def _word_counts(work: Path) -> Iterator[WordCounts]:
    for row in prepared(work, ["words_used", "words_counted"]):
        yield WordCounts(np.array(row["words_used"], dtype=np.int32), np.array(row["words_counted"], dtype=np.int32))


def find_families(
    config: PrepareConfig, work: Path, ledger: Ledger, engine: Engine, past: Past
) -> tuple[NDArray[np.int64], dict[int, Known]]:
    """Near-duplicate families of the living documents, the others alone in theirs; and which ``past`` knows."""
    path = work / "signatures.npy"
    parts = (np.load(part) for part in sorted(work.glob("signatures-*.npy")))
    write_signatures(path, parts, (len(ledger.ids), config.dedup.permutations))
    family = np.arange(len(ledger.ids))
    living = np.flatnonzero(ledger.alive)
    own, known = past.families(path.resolve(), config.dedup, living, engine)
    family[living] = living[own]
    return family, {int(living[place]): found for place, found in known.items()}


def score(
    config: PrepareConfig, work: Path, ledger: Ledger, family: NDArray[np.int64]
) -> tuple[QualityModel, NDArray[np.float64]]:
    """Trains the classifier on one document of each family, and scores every document."""
    chosen = ledger.best(family, np.zeros(len(family)))
    examples = [
        Example(ledger.ids[row], document["sample"], bool(ledger.references[row]))
        for row, document in enumerate(prepared(work, ["sample"]))
        if chosen[row]
    ]
    quality = train_quality(examples, config.quality)
    scores: list[float] = []
    for shard in sorted(work.glob("documents-*.parquet")):
        scores += quality.score([row["sample"] for row in read_shard(shard, ["sample"])])
    return quality, np.array(scores)


def find_worst(config: PrepareConfig, ledger: Ledger, scores: NDArray[np.float64]) -> Marks:
    """The living documents at the bottom of their domain."""
    living = np.flatnonzero(ledger.alive)
    domains = [ledger.domains[row] for row in living]
    gone = np.zeros(len(scores), dtype=np.bool_)
    gone[living] = worst(scores[living], domains, ledger.references[living].tolist(), config.quality)
    return gone
