"""What is held out, drawn before a single task is made: functions, numbers and phrasings.

The draw depends on the seed and on what there is to draw from, on nothing else.  Names that say the same (aliases) go
to the same side.  Passages of held-out names stay in the search index and out of every training set, so that the
answer to a test question must be read and cannot be remembered; ``held_out`` says what to cut out where.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.seeds import random_from
from herd.tasks.facts import Fact, Facts, group_by_sentence, read_facts
from herd.tasks.task import SPLITS, Split

_SMALLEST_SHARED = 10


class SplitConfig(Config):
    """How much is held out of training for the test and for calibration."""

    seed: int = 7
    test_sentences: int = Field(default=200, ge=1)
    calibration_sentences: int = Field(default=100, ge=1)
    longest_sentence: int = Field(default=120, ge=20, le=400)
    largest_number: int = Field(default=999, ge=99, le=1_000_000)
    test_numbers: float = Field(default=0.15, gt=0, lt=0.5)
    calibration_numbers: float = Field(default=0.05, gt=0, lt=0.5)
    unseen_phrasings: float = Field(default=0.25, gt=0, lt=0.9)


@dataclass(frozen=True)
class Drawn:
    """The draw: facts and numbers of every split, and what a search for a dotted name can find (``known_ends``)."""

    facts: dict[Split, list[Fact]]
    numbers: dict[Split, list[int]]
    known: frozenset[str]
    dropped: dict[str, int]


def draw_split(config: SplitConfig, passages: Path) -> Drawn:
    """Draws which facts and numbers belong to which split; ``HerdError`` if the passages hold too few."""
    facts = read_facts(passages, config.longest_sentence)
    return Drawn(_split_facts(config, facts), _split_numbers(config), known_ends(facts.names), facts.dropped)


def _split_facts(config: SplitConfig, facts: Facts) -> dict[Split, list[Fact]]:
    groups = group_by_sentence(facts.usable)
    wanted = config.test_sentences + config.calibration_sentences
    if len(groups) < 2 * wanted:
        raise HerdError(
            f"the passages hold {len(groups)} usable first sentences, fewer than twice the {wanted} that "
            "test_sentences and calibration_sentences hold out: lower them or bring more pages"
        )
    random_from(config.seed, "split", "facts").shuffle(groups)
    bounds = (config.test_sentences, wanted, len(groups))
    chosen = {"test": groups[: bounds[0]], "calibration": groups[bounds[0] : bounds[1]], "train": groups[bounds[1] :]}
    return {
        split: sorted((fact for group in chosen[split] for fact in group), key=lambda fact: fact.name)
        for split in SPLITS
    }


def _split_numbers(config: SplitConfig) -> dict[Split, list[int]]:
    """Numbers of two digits and more fall to one split each; one-digit numbers are too few to hold any out."""
    numbers = list(range(_SMALLEST_SHARED, config.largest_number + 1))
    random_from(config.seed, "split", "numbers").shuffle(numbers)
    test = round(config.test_numbers * len(numbers))
    calibration = test + round(config.calibration_numbers * len(numbers))
    chosen = {"test": numbers[:test], "calibration": numbers[test:calibration], "train": numbers[calibration:]}
    return {split: sorted(chosen[split]) for split in SPLITS}


def known_ends(names: Iterable[str]) -> frozenset[str]:
    """Every name and every dotted end of it, in lower case: what a search for a dotted name can find."""
    known: set[str] = set()
    for name in names:
        parts = name.lower().split(".")
        known.update(".".join(parts[start:]) for start in range(len(parts)))
    return frozenset(known)


def split_phrasings(config: SplitConfig, kind: str, phrasings: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The phrasings that training may use, and those that only the test has, for the list named ``kind``."""
    order = list(phrasings)
    random_from(config.seed, "split", "phrasings", kind).shuffle(order)
    unseen = max(1, round(config.unseen_phrasings * len(order)))
    return order[unseen:], order[:unseen]


def held_out(config: SplitConfig, passages: Path) -> list[dict[str, str]]:
    """What to keep out of training: a row for every held-out name, with the document, the passage and its sentence.

    Cheap enough to be called before the corpus is finished: cut ``text`` (or every sentence equal to ``sentence``) out
    of the documents before they are tokenised.
    """
    drawn = draw_split(config, passages)
    return [exclusion(fact, split) for split in SPLITS if split != "train" for fact in drawn.facts[split]]


def held_out_names(config: SplitConfig, passages: Path) -> list[str]:
    """The held-out names, test and calibration."""
    return [row["name"] for row in held_out(config, passages)]


def exclusion(fact: Fact, split: Split) -> dict[str, str]:
    """One row of ``held_out.jsonl``."""
    row = {"name": fact.name, "split": split, "document_id": fact.document_id, "url": fact.url}
    return {**row, "sentence": fact.sentence, "text": fact.text}
