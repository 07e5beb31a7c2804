"""What small runs on several mixes say: differences with intervals over seeds, and a forecast for a large run.

    compare([Run("web", "0.5m", 0, 6e10, {"judged": 5.1, ...}), ...], large_flops=6e12)

Runs of the same size and seed begin with the same weights, so a mix is compared with the first one pair by pair; the
interval is Student's over the pairs.  The forecast is a line through log loss over log FLOPs (the small sizes are few,
and a floor could not be told from them), with Student's interval for a new run; so is that of the difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from herd.foundation.errors import HerdError

_FAR = 30.0
"""Times the largest small run from which on a forecast is called far."""


@dataclass(frozen=True)
class Run:
    """A finished small run: ``losses`` holds ``judged`` and ``held_out/DOMAIN``, nats a token."""

    mix: str
    size: str
    seed: int
    flops: float
    losses: Mapping[str, float]


def mean_interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and Student's 95% interval."""
    mean, n = float(np.mean(values)), len(values)
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return {"value": mean, "low": mean - half, "high": mean + half}


def line_at(x: Sequence[float], y: Sequence[float], at: float) -> dict[str, float]:
    """The least-squares line at ``at`` with the 95% interval of a new value there (Student, n - 2)."""
    xs, ys = np.asarray(x), np.asarray(y)
    n = len(xs)
    slope, base = np.polyfit(xs, ys, 1)
    error = float(np.sum((ys - slope * xs - base) ** 2) / (n - 2))
    spread = np.sqrt(error * (1 + 1 / n + (at - xs.mean()) ** 2 / np.sum((xs - xs.mean()) ** 2)))
    value, half = float(slope * at + base), float(student.ppf(0.975, n - 2) * spread)
    return {"value": value, "low": value - half, "high": value + half, "slope": float(slope)}


def compare(runs: Sequence[Run], large_flops: float) -> dict[str, Any]:
    """Losses by size and mix, differences from the first mix, forecasts for ``large_flops``, the best mix.

    Raises:
        HerdError: a loss that is no number.
    """
    for run in runs:
        if not np.isfinite(list(run.losses.values())).all():
            raise HerdError(
                f"mix {run.mix}, {run.size}, seed {run.seed}: the loss is no number; lower the learning rate"
            )
    mixes = list(dict.fromkeys(run.mix for run in runs))
    flops = {run.size: run.flops for run in runs}
    sizes = sorted(flops, key=lambda size: flops[size])
    found: dict[str, Any] = {
        "reference": mixes[0],
        "sizes": {
            size: {
                "flops": flops[size],
                "mixes": {mix: _at_size(runs, size, mix, mixes[0]) for mix in mixes},
            }
            for size in sizes
        },
        "large_flops": large_flops,
        "notes": [],
    }
    largest = found["sizes"][sizes[-1]]
    if len(set(flops.values())) > 1:
        found["forecast"] = {mix: _forecast(runs, mix, mixes[0], large_flops) for mix in mixes}
        best = min(mixes, key=lambda mix: found["forecast"][mix]["judged"]["value"])
        forecast = found["forecast"][best]["judged"]
        found["best"] = {"mix": best, "forecast": {"forecast": forecast["value"], **_ends(forecast)}}
    else:
        best = min(mixes, key=lambda mix: largest["mixes"][mix]["judged"]["value"])
        judged = largest["mixes"][best]["judged"]
        found["best"] = {"mix": best, "forecast": {"forecast": judged["value"], **_ends(judged)}}
        found["notes"].append("one size only (by FLOPs): no forecast; its own loss stands in the place of one")
    found["notes"] += _warnings(found, largest["flops"], mixes)
    return found


def _ends(interval: Mapping[str, float]) -> dict[str, float]:
    return {"low": interval["low"], "high": interval["high"]}


def _losses(runs: Sequence[Run], mix: str, size: str, name: str = "judged") -> dict[int, float]:
    return {run.seed: run.losses[name] for run in runs if (run.mix, run.size) == (mix, size)}


def _at_size(runs: Sequence[Run], size: str, mix: str, reference: str) -> dict[str, Any]:
    """A mix's loss at one size, and how far it is from the reference's, over all and by domain."""
    own, base = _losses(runs, mix, size), _losses(runs, reference, size)
    row: dict[str, Any] = {"judged": mean_interval(list(own.values())), "seeds": len(own)}
    if mix != reference:
        row["difference"] = mean_interval([own[seed] - base[seed] for seed in own])
        row["verdict"] = verdict(row["difference"])
        domains = sorted({name for run in runs for name in run.losses} - {"judged"})
        for name in domains:
            mine, others = _losses(runs, mix, size, name), _losses(runs, reference, size, name)
            row[name.removeprefix("held_out/")] = mean_interval([mine[seed] - others[seed] for seed in mine])
    return row


def verdict(difference: Mapping[str, float]) -> str:
    """What an interval of a difference in loss says in words."""
    if difference["high"] < 0:
        return "better"
    return "worse" if difference["low"] > 0 else "not told apart"


def _forecast(runs: Sequence[Run], mix: str, reference: str, large_flops: float) -> dict[str, Any]:
    """The loss of a large run on the mix, and the ratio to the reference's, both from lines in logarithms."""
    own = [run for run in runs if run.mix == mix]
    base = {(run.size, run.seed): run.losses["judged"] for run in runs if run.mix == reference}
    x = [float(np.log(run.flops)) for run in own]
    line = line_at(x, [float(np.log(run.losses["judged"])) for run in own], float(np.log(large_flops)))
    row: dict[str, Any] = {
        "judged": {name: float(np.exp(line[name])) for name in ("value", "low", "high")},
        "exponent": line["slope"],
    }
    if mix != reference:
        logs = [float(np.log(run.losses["judged"] / base[run.size, run.seed])) for run in own]
        ratio = line_at(x, logs, float(np.log(large_flops)))
        row["ratio"] = {name: float(np.exp(ratio[name])) for name in ("value", "low", "high")}
        row["verdict"] = verdict(ratio)
    return row


def _warnings(found: Mapping[str, Any], largest: float, mixes: Sequence[str]) -> list[str]:
    notes = []
    if "forecast" in found and found["large_flops"] > _FAR * largest:
        times = f"{found['large_flops'] / largest:,.0f} times the compute of the largest small one"
        notes.append(f"the large run has {times}: a line that far says little about the loss, more about the order")
    best = found["best"]["mix"]
    rows = found.get("forecast") or next(reversed(found["sizes"].values()))["mixes"]
    unsure = [mix for mix in mixes if rows[mix].get("verdict") == "not told apart"]
    if unsure:
        notes.append(f"{', '.join(unsure)}: not told apart from {found['reference']}; more seeds or tokens would")
    notes.append(f"{best} does best")
    return notes


def as_text(found: Mapping[str, Any]) -> str:
    """The comparison for a terminal."""
    lines = [f"judged loss (nats a token), 95% over seeds; differences from {found['reference']}"]
    for size, row in found["sizes"].items():
        for mix, cell in row["mixes"].items():
            lines.append(f"{size:<10}{mix:<16}{_shown(cell['judged'])}{_compared(cell, 'difference')}")
    for mix, cell in found.get("forecast", {}).items():
        lines.append(f"{'forecast':<10}{mix:<16}{_shown(cell['judged'])}{_compared(cell, 'ratio')}")
    return "\n".join([*lines, *found["notes"]])


def _shown(cell: Mapping[str, float], sign: str = "") -> str:
    return f"{cell['value']:{sign}.4f} ({cell['low']:{sign}.4f} to {cell['high']:{sign}.4f})"


def _compared(cell: Mapping[str, Any], name: str) -> str:
    if name not in cell:
        return ""
    return f"   {name} {_shown(cell[name], '+' if name == 'difference' else '')}: {cell['verdict']}"
