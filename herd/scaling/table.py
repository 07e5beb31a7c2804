"""Fits a table of finished runs that a user brings: ``herd scale fit runs.csv --at 3.8e25``.

The headline fit leaves out the rows that ``careful`` names; the fit of all rows stands beside it, so that what the
naming changes can be seen.  Tables that hold several experiments are fitted one by one with ``only``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from herd.foundation.errors import HerdError
from herd.scaling.careful import Doubt, keep, review
from herd.scaling.laws import Point
from herd.scaling.methods import both
from herd.scaling.rows import read_rows

COLUMNS = ("budget", "params", "tokens", "loss")
# Budgets this close are one budget: whole steps do not spend a budget to the last FLOP.
_SAME_BUDGET = 0.02
# FLOPs per parameter and token, by which a table may differ from 6 before its reader is told.
_SIX = 0.05


@dataclass(frozen=True)
class Table:
    """The points of a file, the line that each stands on, and the other columns in which they differ."""

    points: list[Point]
    lines: list[int]
    differing: dict[str, list[str]]


def read_table(path: Path, only: Sequence[str] = ()) -> Table:
    """The rows of a CSV file with the columns of ``COLUMNS``; anything else is a ``HerdError`` with its line.

    ``only`` holds conditions ``column=value``; rows that do not meet all of them are passed over.
    """
    wanted = [_condition(text) for text in only]
    rows = read_rows(path, COLUMNS, [name for name, _ in wanted])
    chosen = [(line, row) for line, row in rows if all(row[name].strip() == value for name, value in wanted)]
    if not chosen:
        raise HerdError(f"{path}: no row to fit" + (f" with {' and '.join(only)}" if only else ""))
    points = [_point(row, f"{path}, line {line}") for line, row in chosen]
    return Table(_gather_budgets(points), [line for line, _ in chosen], _differing([row for _, row in chosen]))


def _condition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise HerdError(f"--only takes COLUMN=VALUE, not {text!r}")
    return name.strip(), value.strip()


def _point(row: dict[str, str], place: str) -> Point:
    values = {}
    for name in COLUMNS:
        try:
            values[name] = float(row[name])
        except ValueError:
            raise HerdError(f"{place}: {name} is {row[name]!r}, not a number") from None
        if not (math.isfinite(values[name]) and values[name] > 0):
            raise HerdError(f"{place}: {name} is {row[name]}, it must be positive and finite")
    return Point(**values)


def _gather_budgets(points: Sequence[Point]) -> list[Point]:
    """Points whose budgets differ by rounding only get the same one, the least of them."""
    leader: dict[float, float] = {}
    current = 0.0
    for budget in sorted({point.budget for point in points}):
        if budget > current * (1 + _SAME_BUDGET):
            current = budget
        leader[budget] = current
    return [replace(point, budget=leader[point.budget]) for point in points]


def _differing(rows: Sequence[dict[str, str]]) -> dict[str, list[str]]:
    """Columns of words that hold more than one value, and these: rows of different experiments in one file."""
    found = {}
    for name in rows[0]:
        values = sorted({row[name] for row in rows})
        if name not in COLUMNS and 1 < len(values) <= len(rows) / 3 and not all(_is_number(value) for value in values):
            found[name] = values
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return not text
    return True


def fit_table(path: Path, at: float | None = None, only: Sequence[str] = ()) -> dict[str, Any]:
    """alpha and A of N*(C) = A C^alpha with 95% intervals, each budget's optimum, L(N, D), and the optimum ``at``.

    With ``at``, each of ``methods`` also has the loss to expect of that optimum.

    The result is that of the careful fit: by parabolas where the table allows it, else of the parametric
    law (``method`` says which).  ``doubts`` names the rows that it does without, ``all_points`` is the fit of all rows.
    """
    if at is not None and not (math.isfinite(at) and at > 0):
        raise HerdError(f"--at is {at:g}; a budget in FLOPs must be positive and finite")
    table = read_table(path, only)
    doubts = review(table.points)
    careful = both(keep(table.points, doubts), keep(table.points, doubts, parabolas=True), at)
    if careful["isoflop"] is None and careful["parametric"] is None:
        raise HerdError(f"{path}: {'; '.join(careful['warnings'])}")
    every = both(table.points, table.points, at) if doubts else careful
    headline = careful["isoflop"] or careful["parametric"]
    parametric = careful["parametric"]
    fitted: dict[str, Any] = {
        "method": "isoflop" if careful["isoflop"] else "parametric",
        **{name: headline[name] for name in ("alpha", "alpha_interval", "A", "A_interval")},
        "optima": headline.get("optima", []),
        "parametric": parametric and parametric["law"],
        "methods": {name: careful[name] for name in ("isoflop", "parametric")},
        "rows": len(table.points),
        "doubts": _by_reason(doubts, table.lines),
        "all_points": {name: every[name] for name in ("isoflop", "parametric", "warnings")},
        "warnings": [*_about_table(table), *careful["warnings"]],
    }
    if at is not None:
        fitted |= {"at": headline["at"], "tokens": headline["at"]["tokens"], "params": headline["at"]["params"]}
    return fitted


def _by_reason(doubts: Sequence[Doubt], lines: Sequence[int]) -> list[dict[str, Any]]:
    grouped: dict[tuple[str, str], list[int]] = {}
    for doubt in doubts:
        grouped.setdefault((doubt.reason, doubt.left_out_of), []).append(lines[doubt.index])
    return [{"lines": numbers, "reason": reason, "left_out_of": scope} for (reason, scope), numbers in grouped.items()]


def _about_table(table: Table) -> list[str]:
    said = [
        f"the column {name} holds {len(values)} values ({', '.join(values[:4])}{', …' if len(values) > 4 else ''}) and "
        f"all are fitted together; --only {name}={values[0]} takes one"
        for name, values in table.differing.items()
    ]
    ratios = sorted(point.budget / (point.params * point.tokens) for point in table.points)
    if ratios[0] < 6 * (1 - _SIX) or ratios[-1] > 6 * (1 + _SIX):
        said.append(
            f"the budgets are {ratios[0]:.2f} to {ratios[-1]:.2f} FLOPs per parameter and token, not 6: "
            "parameters beyond the table are reckoned with 6"
        )
    return said


def describe_fit(fitted: dict[str, Any]) -> str:
    """The same in words, for a terminal."""
    lines = [f"optimal tokens N*(C) = A C^alpha, {_METHODS[fitted['method']]}"]
    for name in ("alpha", "A"):
        low, high = fitted[f"{name}_interval"]
        lines.append(f"  {name:5} = {fitted[name]:.4g}  (95%: {low:.4g} to {high:.4g})")
    for optimum in fitted["optima"]:
        note = "" if optimum["inside"] else "  outside the sizes that were run"
        lines.append(
            f"  {optimum['budget']:.3g} FLOPs: {optimum['tokens']:.4g} tokens, {optimum['params']:.4g} parameters{note}"
        )
    parametric = fitted["methods"]["parametric"]
    if parametric:
        lines.append("L(N, D) = E + A / N^alpha + B / D^beta")
        for name, (low, high) in parametric["law_intervals"].items():
            lines.append(f"  {name:5} = {parametric['law'][name]:.4g}  (95%: {low:.4g} to {high:.4g})")
        low, high = parametric["alpha_interval"]
        lines.append(f"  optimal tokens grow as C^{parametric['alpha']:.4g}  (95%: {low:.4g} to {high:.4g})")
    if "at" in fitted:
        at = fitted["at"]
        lines.append(f"at {at['budget']:.3g} FLOPs: {at['tokens']:.4g} tokens, {at['params']:.4g} parameters")
        lines += [f"  {sentence}" for sentence in describe_losses(forecast_losses(fitted))]
    return "\n".join([*lines, *_remarks(fitted)])


def forecast_losses(fitted: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The loss of the optimum ``at``, by every law that was fitted."""
    return {law: loss for fit in fitted["methods"].values() if fit for law, loss in fit["at"]["losses"].items()}


def describe_losses(losses: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each law's loss."""
    return [
        f"loss {found['loss']:.4g}  (95%: {found['loss_interval'][0]:.4g} to {found['loss_interval'][1]:.4g}), "
        f"{_LOSSES[law]}"
        for law, found in losses.items()
    ]


_LOSSES = {
    "chosen": "by the law of size and tokens that forecasts the largest budget best from the smaller ones",
    "line": "by a line through the budgets' least losses over log FLOPs",
    "power": "by a power law through them",
    "parametric": "by the parametric law",
}
_METHODS = {"isoflop": "through the parabolas of the budgets", "parametric": "implied by the parametric law"}


def _remarks(fitted: dict[str, Any]) -> list[str]:
    lines = [
        f"{_SCOPES[group['left_out_of']]}: {_ranges(group['lines'])}: {group['reason']}" for group in fitted["doubts"]
    ]
    if lines:
        for name, fit in fitted["all_points"].items():
            if name != "warnings" and fit is not None:
                low, high = fit["alpha_interval"]
                lines.append(
                    f"  with all {fitted['rows']} rows, {_METHODS[name]}: alpha = {fit['alpha']:.4g} "
                    f"(95%: {low:.4g} to {high:.4g}), A = {fit['A']:.4g}"
                )
    return lines + [f"warning: {sentence}" for sentence in fitted["warnings"]]


_SCOPES = {"every fit": "left out", "parabolas": "left out of the parabolas", "none": "doubtful, kept"}


def _ranges(numbers: Sequence[int]) -> str:
    """Line numbers in words, neighbours drawn together: ``lines 2-4, 9``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    text = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"line{'s' if len(numbers) > 1 else ''} {text}"
