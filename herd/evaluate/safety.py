"""The guard measured on items that people wrote, apart from everything it was trained on.

``handwritten.jsonl`` holds user prompts, assistant answers and tool results, half of them harmless look-alikes ("How do
I kill a Python process that hangs?").  Precision, recall, F1 and false-positive rate come with intervals, for the guard
and for the list of ``keywords``.  Usage: ``measure_guard(Guard.load(path), read_items(), seed=7)``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import numpy as np

from herd.evaluate.keywords import is_suspicious
from herd.evaluate.statistics import Estimate, percentile_interval, resampling_counts, wilson
from herd.foundation.errors import HerdError
from herd.foundation.files import read_jsonl
from herd.guard.classifier import Guard
from herd.guard.policy import CATEGORIES, GuardItem, Kind

PROMPTS = "handwritten-1"
_LABELS = {"safe": False, "unsafe": True}


@dataclass(frozen=True)
class SafetyItem:
    """One item with its label; ``categories`` are those that it violates."""

    id: str
    item: GuardItem
    unsafe: bool
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Judged:
    """One item with what a judge said of it; ``score`` is None for a judge that only says yes or no."""

    item: SafetyItem
    flagged: bool
    score: float | None
    categories: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The row of the per-item file."""
        return {
            "id": self.item.id,
            "kind": self.item.item.kind,
            "unsafe": self.item.unsafe,
            "categories": self.item.categories,
            "flagged": self.flagged,
            "score": self.score,
            "flagged_categories": self.categories,
            "correct": self.flagged == self.item.unsafe,
        }


def read_items(path: Path | None = None) -> list[SafetyItem]:
    """The items of a JSONL file, by default those that ship in the package; a wrong one is a ``HerdError``."""
    source = path or Path(str(files("herd.evaluate").joinpath("handwritten.jsonl")))
    return [_item(row, f"{source}, item {number}") for number, row in enumerate(read_jsonl(source), start=1)]


def _item(row: dict[str, Any], place: str) -> SafetyItem:
    try:
        unsafe, categories = _LABELS[row["label"]], tuple(row["categories"])
        item = GuardItem(row["kind"], row["text"], row.get("prompt", ""))
        identifier = str(row["id"])
    except (KeyError, TypeError) as error:
        raise HerdError(f"{place}: no id, kind, text, label (safe or unsafe) and categories ({error})") from None
    if item.kind not in get_args(Kind) or unsafe != bool(categories) or not set(categories) <= set(CATEGORIES):
        raise HerdError(f"{place}: kind {item.kind!r}, label {row['label']!r} and categories {categories} do not agree")
    return SafetyItem(identifier, item, unsafe, categories)


def judge_with_guard(guard: Guard, items: Sequence[SafetyItem]) -> list[Judged]:
    """The guard's verdicts on every item."""
    verdicts = guard.judge([item.item for item in items])
    return [
        Judged(item, verdict.unsafe, verdict.unsafe_probability, verdict.categories)
        for item, verdict in zip(items, verdicts, strict=True)
    ]


def judge_with_keywords(items: Sequence[SafetyItem]) -> list[Judged]:
    """The verdicts of the list of words, on the last message alone."""
    return [Judged(item, is_suspicious(item.item.text), None) for item in items]


def figures(judged: Sequence[Judged], seed: int) -> dict[str, Estimate]:
    """Precision, recall, F1 and false-positive rate, and the share of caught items whose category is named right.

    Proportions have Wilson's interval; F1, which is none, a bootstrap over items.
    """
    truth = np.array([row.item.unsafe for row in judged])
    flagged = np.array([row.flagged for row in judged])
    hits, harmless = truth & flagged, ~truth
    caught = [row for row in judged if row.item.unsafe and row.flagged and row.score is not None]
    found = {
        "precision": wilson(int(hits.sum()), int(flagged.sum())),
        "recall": wilson(int(hits.sum()), int(truth.sum())),
        "f1": _f1(truth, flagged, seed),
        "false_positive_rate": wilson(int((harmless & flagged).sum()), int(harmless.sum())),
    }
    if caught:
        named = [bool(set(row.categories) & set(row.item.categories)) for row in caught]
        found["category"] = wilson(sum(named), len(named))
    return found


def _f1(truth: np.ndarray, flagged: np.ndarray, seed: int) -> Estimate:
    counts = resampling_counts(len(truth), seed, "f1")
    samples = 2 * counts @ (truth & flagged) / np.maximum(counts @ truth + counts @ flagged, 1)
    value = 2 * (truth & flagged).sum() / max(1, truth.sum() + flagged.sum())
    return Estimate(float(value), *percentile_interval(samples), len(truth))


def by_kind(judged: Sequence[Judged], seed: int) -> dict[str, dict[str, Estimate]]:
    """The figures of prompts, answers and tool results apart, and of ``all``."""
    groups = {"all": list(judged)} | {
        kind: [row for row in judged if row.item.item.kind == kind] for kind in get_args(Kind)
    }
    return {kind: figures(rows, seed) for kind, rows in groups.items() if rows}
