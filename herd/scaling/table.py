"""Fits a table of finished runs that a user brings: ``herd scale fit runs.csv --at 3.8e25``."""

import csv
import math
from pathlib import Path
from typing import Any

from herd.foundation.errors import HerdError
from herd.scaling.laws import Point, fit_optimum, fit_parabolas, fit_parametric

COLUMNS = ("budget", "params", "tokens", "loss")


def read_points(path: Path) -> list[Point]:
    """The rows of a CSV file with the columns of ``COLUMNS``; anything else is a ``HerdError`` with its line."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise HerdError(f"{path}: the column {missing[0]} is missing; needed are {', '.join(COLUMNS)}")
            return [_point(row, f"{path}, line {number}") for number, row in enumerate(rows, start=2)]
    except (OSError, UnicodeDecodeError) as error:
        raise HerdError(f"{path}: not readable ({error})") from None


def _point(row: dict[str, str], place: str) -> Point:
    values = {}
    for name in COLUMNS:
        try:
            values[name] = float(row[name])
        except (TypeError, ValueError):
            raise HerdError(f"{place}: {name} is {row[name]!r}, not a number") from None
        if not (math.isfinite(values[name]) and values[name] > 0):
            raise HerdError(f"{place}: {name} is {row[name]}, it must be positive and finite")
    return Point(**values)


def fit_table(path: Path, at: float | None = None) -> dict[str, Any]:
    """alpha and A of N*(C) = A C^alpha with 95% intervals, each budget's optimum, L(N, D), and the optimum ``at``."""
    points = read_points(path)
    law = fit_optimum(points)
    fitted: dict[str, Any] = {
        "alpha": law.exponent,
        "alpha_interval": law.exponent_interval,
        "A": law.factor,
        "A_interval": law.factor_interval,
        "optima": [
            {
                "budget": fit.budget,
                "tokens": fit.tokens,
                "params": fit.budget / (6 * fit.tokens),
                "loss": fit.loss,
                "inside": fit.inside,
            }
            for fit in fit_parabolas(points)
        ],
        "parametric": vars(fit_parametric(points)) if len(points) >= 6 else None,
    }
    if at is not None:
        fitted["at"] = {"budget": at, "tokens": law(at), "params": at / (6 * law(at))}
    return fitted


def describe_fit(fitted: dict[str, Any]) -> str:
    """The same in words, for a terminal."""
    lines = ["optimal tokens N*(C) = A C^alpha"]
    for name in ("alpha", "A"):
        low, high = fitted[f"{name}_interval"]
        lines.append(f"  {name:5} = {fitted[name]:.4g}  (95%: {low:.4g} to {high:.4g})")
    for optimum in fitted["optima"]:
        note = "" if optimum["inside"] else "  outside the sizes that were run"
        lines.append(
            f"  {optimum['budget']:.3g} FLOPs: {optimum['tokens']:.4g} tokens, {optimum['params']:.4g} parameters{note}"
        )
    if fitted["parametric"]:
        lines.append(
            "L(N, D) = E + A / N^alpha + B / D^beta: "
            + ", ".join(f"{k} = {v:.4g}" for k, v in fitted["parametric"].items())
        )
    if "at" in fitted:
        at = fitted["at"]
        lines.append(f"at {at['budget']:.3g} FLOPs: {at['tokens']:.4g} tokens, {at['params']:.4g} parameters")
    return "\n".join(lines)
