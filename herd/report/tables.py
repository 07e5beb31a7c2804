"""Numbers as people read them: shares with their interval, sizes with their unit, tables of measures by model."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

# Measures that are not shares, with the number of digits to print.
_PLAIN = {"arena_rating": 0}


def number(value: float) -> str:
    """A count or a size in short: 1,234 or 3.2M or 5.4e13."""
    for limit, unit in ((1e15, None), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value:.2e}" if unit is None else f"{value / {'G': 1e9, 'M': 1e6, 'k': 1e3}[unit]:.1f}{unit}"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def duration(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {seconds % 60:.0f} s"


def measured(measure: str, row: Row | None) -> str:
    """A figure with its 95% interval, as a share, in bits or as a rating; the reason where it was not measured."""
    if row is None:
        return "–"
    if row["value"] is None:
        return str(row.get("note", "not measured"))
    if measure in _PLAIN or measure.startswith("bits_per_byte"):
        digits = _PLAIN.get(measure, 3)
        return f"{row['value']:.{digits}f} ({row['low']:.{digits}f}–{row['high']:.{digits}f})"
    return f"{row['value']:.1%} ({row['low']:.1%}–{row['high']:.1%})"


def title(measure: str) -> str:
    """A measure's name in words."""
    return measure.replace("_", " ")


def grouped(models: Mapping[str, Mapping[str, Row]]) -> dict[str, list[str]]:
    """All measures, put together by what they are about, each group in a fixed order."""
    groups: dict[str, list[str]] = {
        "Tools and answers": [], "Safety": [], "Long context": [], "Held-out text": [], "Guard": [], "Arena": []
    }  # fmt: skip
    for measure in sorted({measure for rows in models.values() for measure in rows}):
        groups[_group(measure)].append(measure)
    return {name: measures for name, measures in groups.items() if measures}


def _group(measure: str) -> str:
    if measure.startswith("bits_per_byte"):
        return "Held-out text"
    if measure.startswith("needle"):
        return "Long context"
    if measure.startswith("arena"):
        return "Arena"
    if measure.endswith(("precision", "recall", "f1", "false_positive_rate")):
        return "Guard"
    if any(word in measure for word in ("refus", "violation", "injection", "borderline")):
        return "Safety"
    return "Tools and answers"


def matrix(models: Mapping[str, Mapping[str, Row]], measures: Sequence[str]) -> dict[str, Any]:
    """A table of measures by model, with the number of items a cell rests on; models without any are left out."""
    names = [name for name, rows in models.items() if any(measure in rows for measure in measures)]
    rows = [
        {
            "title": title(measure),
            "n": max((models[name][measure]["n"] for name in names if measure in models[name]), default=0),
            "cells": [measured(measure, models[name].get(measure)) for name in names],
        }
        for measure in measures
    ]
    return {"models": names, "rows": rows}
