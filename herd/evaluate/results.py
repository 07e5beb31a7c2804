"""The one file of figures: ``{"models": {MODEL: {MEASURE: {"value", "low", "high", "n", "prompts", "seed"}}}}``.

``Results`` collects rows while models are measured and writes ``results.json``; ``items.jsonl`` beside it holds what
every figure was computed from, one line per model, measure and item.  A measure that could not be taken keeps its
row, with ``value`` null and the reason under ``note``.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from herd.evaluate.statistics import Estimate
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, write_json

RESULTS_NAME, ITEMS_NAME = "results.json", "items.jsonl"
Row = dict[str, Any]


def row(estimate: Estimate, prompts: str, seed: int, **more: Any) -> Row:
    """A measured figure; ``prompts`` names the set and version of the prompts."""
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "prompts": prompts,
        "seed": seed,
    } | more


def not_measured(reason: str, prompts: str, seed: int) -> Row:
    """The row of a figure that could not be measured here, for example for want of a sandbox."""
    return {"value": None, "low": None, "high": None, "n": 0, "prompts": prompts, "seed": seed} | {
        "note": f"not measured: {reason}"
    }


class Results:
    """Rows by model and measure."""

    def __init__(self, models: dict[str, dict[str, Row]] | None = None) -> None:
        self.models: dict[str, dict[str, Row]] = models or {}

    def add(self, model: str, measure: str, figures: Row) -> None:
        """Adds a row; measuring something twice is a mistake of the caller."""
        rows = self.models.setdefault(model, {})
        if measure in rows:
            raise ValueError(f"{model} was measured twice on {measure}")
        rows[measure] = figures

    def add_all(self, model: str, rows: Iterable[tuple[str, Row]]) -> None:
        """Adds several rows of one model."""
        for measure, figures in rows:
            self.add(model, measure, figures)

    def write(self, out: Path, **more: Any) -> None:
        """Writes ``results.json`` in ``out``; ``more`` stands beside ``models``."""
        write_json(out / RESULTS_NAME, {"models": self.models} | more)

    @classmethod
    def read(cls, directory: Path) -> "Results":
        """Reads what ``write`` wrote; a file of another shape is a ``HerdError``."""
        value = read_json(directory / RESULTS_NAME)
        if not isinstance(value, dict) or not isinstance(value.get("models"), dict):
            raise HerdError(f"{directory / RESULTS_NAME}: there is no object 'models' in it")
        return cls(value["models"])
