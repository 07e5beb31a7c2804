"""How much of the elapsed time trains, when accelerators fail (paper, section 3.3.4 and Table 5).

``effective_share`` is the closed form for failures at a constant rate, ``best_interval`` the time between checkpoints
that makes it largest, ``replay`` a simulation of the paper's 54 days, which gives the counts of interruptions but
neither the time of a restart nor that of a checkpoint.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from herd.foundation.seeds import numpy_from

DAY = 86_400.0

# The paper's Table 5: unexpected interruptions of 16,384 accelerators in 54 days, by component.
TABLE_5: dict[str, tuple[str, int]] = {
    "faulty GPU": ("GPU", 148),
    "GPU HBM3 memory": ("GPU", 72),
    "software bug": ("dependency", 54),
    "network switch or cable": ("network", 35),
    "host maintenance": ("unplanned maintenance", 32),
    "GPU SRAM memory": ("GPU", 19),
    "GPU system processor": ("GPU", 17),
    "NIC": ("host", 7),
    "NCCL watchdog timeouts": ("unknown", 7),
    "silent data corruption": ("GPU", 6),
    "GPU thermal interface and sensor": ("GPU", 6),
    "SSD": ("host", 3),
    "power supply": ("host", 3),
    "server chassis": ("host", 2),
    "IO expansion board": ("host", 2),
    "dependency": ("dependency", 2),
    "CPU": ("host", 2),
    "system memory": ("host", 2),
}
UNEXPECTED = sum(count for _, count in TABLE_5.values())
PLANNED, DAYS, ACCELERATORS = 47, 54, 16_384


@dataclass(frozen=True)
class Faults:
    """Seconds between interruptions of the whole job, of a restart, and that a checkpoint holds training up."""

    between: float
    restart: float
    pause: float


def effective_share(faults: Faults, interval: float) -> float:
    """Useful over elapsed time with a checkpoint every ``interval`` seconds of training (Daly 2006, complete model).

    Failures strike training, checkpoints and restarts alike; what was done since the last checkpoint is lost.
    """
    if math.isinf(faults.between):
        return interval / (interval + faults.pause)
    with np.errstate(over="ignore"):
        elapsed = faults.between * np.exp(faults.restart / faults.between)
        elapsed *= np.expm1((interval + faults.pause) / faults.between)
    return float(interval / elapsed)


def best_interval(faults: Faults) -> float:
    """The seconds of training between two checkpoints that lose the least."""
    if math.isinf(faults.between):
        return math.inf
    # Without a pause the shortest interval is the best; a step or so is the shortest there is.
    if faults.pause <= 0:
        return 1.0
    middle = math.log(math.sqrt(2 * faults.pause * faults.between))  # Young's first approximation
    found = minimize_scalar(
        lambda x: -effective_share(faults, math.exp(x)), bounds=(middle - 3, middle + 3), method="bounded"
    )
    return float(math.exp(found.x))


def replay(restart: float, pause: float, interval: float, seed: int = 0) -> float:
    """Effective share of the paper's 54 days: its 419 unexpected and 47 planned interruptions at random moments.

    A planned one checkpoints first, so that it costs a pause and a restart but no work.  Times in seconds.
    """
    generator = numpy_from(seed, "failures")
    horizon = DAYS * DAY
    moments = generator.uniform(0, horizon, UNEXPECTED + PLANNED)
    planned = np.zeros(len(moments), dtype=bool)
    planned[generator.choice(len(moments), PLANNED, replace=False)] = True
    useful, clock = 0.0, 0.0
    for index in np.argsort(moments):
        moment = float(moments[index])
        if moment < clock:  # it strikes a job that is starting: the restart begins again
            clock = moment + restart
            continue
        useful += _kept(moment - clock, interval, pause, lost=not planned[index])
        clock = moment + restart + (pause if planned[index] else 0.0)
    return (useful + _kept(max(horizon - clock, 0.0), interval, pause, lost=False)) / horizon


def _kept(elapsed: float, interval: float, pause: float, lost: bool) -> float:
    """Seconds of training that count, of ``elapsed`` since the start; only finished checkpoints where work is lost."""
    rounds, rest = divmod(elapsed, interval + pause)
    return rounds * interval + (0.0 if lost else min(rest, interval))


def replay_grid(restarts: Sequence[float], pauses: Sequence[float], seeds: int = 5) -> list[dict[str, float]]:
    """The replay over restart and checkpoint times (seconds), each at its best interval; mean over ``seeds``."""
    between = DAYS * DAY / (UNEXPECTED + PLANNED)
    rows = []
    for restart in restarts:
        for pause in pauses:
            interval = best_interval(Faults(between, restart, pause))
            share = float(np.mean([replay(restart, pause, interval, seed) for seed in range(seeds)]))
            rows.append({"restart": restart, "pause": pause, "interval": interval, "share": share})
    return rows


def describe_grid(rows: Sequence[dict[str, float]], goal: float = 0.9) -> str:
    """The grid as a table for a terminal; shares that reach ``goal`` carry a star."""
    pauses = sorted({row["pause"] for row in rows})
    lines = [
        f"{UNEXPECTED} unexpected and {PLANNED} planned interruptions of {ACCELERATORS:,} accelerators in {DAYS} days:",
        f"effective training time, a checkpoint at its best interval; * reaches {goal:.0%}",
        "restart     " + "".join(f"{f'pause {pause:g} s':>14}" for pause in pauses),
    ]
    for restart in sorted({row["restart"] for row in rows}):
        cells = [
            f"{row['share']:.1%}{'*' if row['share'] >= goal else ' '}" for row in rows if row["restart"] == restart
        ]
        lines.append(f"{restart / 60:>4g} min    " + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)
