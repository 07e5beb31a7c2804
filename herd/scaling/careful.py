"""Names the points of an IsoFLOP table that a careful reader would leave out, and why.

``review(points)`` looks for three things, in this order, and drops nothing itself:

- a run that stands in the table twice, which would count double;
- a run whose loss is far from what every other run says of its size and tokens (it diverged, or it had so few tokens
  for its size that no law of converged training holds);
- a budget whose sizes lie to one side of its minimum, so that the parabola's vertex is an extrapolation.  Such budgets
  bend the power law, since they tend to stand at the ends of the range.  The parametric law can use them all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from herd.foundation.errors import HerdError
from herd.scaling.laws import Parabola, ParametricLaw, Point, by_budget, fit_parabola, fit_parametric

# Figures that differ by less are the same figure, rounded differently.
_SAME = 1e-4
# An outlier is this many robust standard deviations of the log loss away from the parametric law, and never less than
# eight times 0.1%: noiseless tables have residuals of rounding only.
_OUTLYING = 8.0
_LEAST_DEVIATION = 1e-3
# At most this share of a table can be outliers; beyond it the law is wrong, not the points.
_MOST_OUTLIERS = 0.1
# How far the vertex may lie from the middle of the sizes, as a share of half their range in log tokens.
_OFF_CENTRE = 0.6
# A table is one of IsoFLOP runs where this share of its rows belongs to budgets with so many sizes.
_ISOFLOP_SHARE, _LEAST_SIZES = 0.8, 3
# Fewer budgets than this leave no power law to speak of; then off-centre budgets are named and kept.
_LEAST_BUDGETS = 3


@dataclass(frozen=True)
class Doubt:
    """Why the point at ``index`` is doubtful, and which of the careful fits does without it."""

    index: int
    reason: str
    left_out_of: Literal["every fit", "parabolas", "none"]


def review(points: Sequence[Point]) -> list[Doubt]:
    """What speaks against points of the table; an empty list where nothing does."""
    doubts = _duplicates(points)
    doubts += _outliers(points, _gone(doubts))
    if is_isoflop(points):
        doubts += _off_centre(points, _gone(doubts))
    return sorted(doubts, key=lambda doubt: doubt.index)


def keep(points: Sequence[Point], doubts: Sequence[Doubt], parabolas: bool = False) -> list[Point]:
    """The points that every careful fit uses, or those of the ``parabolas``."""
    gone = _gone(doubts)
    if parabolas:
        gone |= {doubt.index for doubt in doubts if doubt.left_out_of == "parabolas"}
    return [point for index, point in enumerate(points) if index not in gone]


def is_isoflop(points: Sequence[Point]) -> bool:
    """Whether budgets were spent on several sizes each; runs scattered over budgets have no parabolas to speak of."""
    spent = [rows for rows in by_budget(points).values() if len({row.tokens for row in rows}) >= _LEAST_SIZES]
    return sum(map(len, spent)) >= _ISOFLOP_SHARE * len(points)


def _gone(doubts: Sequence[Doubt]) -> set[int]:
    return {doubt.index for doubt in doubts if doubt.left_out_of == "every fit"}


def _duplicates(points: Sequence[Point]) -> list[Doubt]:
    """Rows of the same run; where only the losses differ they may be two seeds, and are named but kept."""
    doubts = []
    for index, point in enumerate(points):
        earlier = [other for other in points[:index] if _close(point, other, "budget", "params", "tokens")]
        if any(_close(point, other, "loss") for other in earlier):
            doubts.append(
                Doubt(index, "duplicate: an earlier row has the same budget, size, tokens and loss", "every fit")
            )
        elif earlier:
            doubts.append(
                Doubt(index, "repeat: an earlier row has the same budget, size and tokens with another loss", "none")
            )
    return doubts


def _close(point: Point, other: Point, *names: str) -> bool:
    return all(abs(np.log(getattr(point, name) / getattr(other, name))) < _SAME for name in names)


def _outliers(points: Sequence[Point], gone: set[int]) -> list[Doubt]:
    """Rows far from the parametric law, the law being fitted anew until no row stands out any more."""
    candidates = [index for index in range(len(points)) if index not in gone]
    most = int(_MOST_OUTLIERS * len(candidates))
    kept, doubts = candidates, list[Doubt]()
    while len(kept) >= 6:
        law = fit_parametric([points[index] for index in kept])
        residuals = _residuals(law, [points[index] for index in kept])
        deviation = max(1.4826 * float(np.median(np.abs(residuals))), _LEAST_DEVIATION)
        far = {index: r for index, r in zip(kept, residuals, strict=True) if abs(r) > _OUTLYING * deviation}
        if not far:
            return doubts
        doubts += [
            Doubt(
                index,
                f"outlier: the loss is {np.expm1(r):+.0%} off the law of the other runs, {abs(r) / deviation:.0f} "
                f"robust deviations, at {points[index].tokens / points[index].params:.2g} tokens a parameter",
                "every fit",
            )
            for index, r in far.items()
        ]
        kept = [index for index in kept if index not in far]
        if len(doubts) > most:
            return [
                replace(doubt, reason=f"{doubt.reason}; kept, as so many are", left_out_of="none") for doubt in doubts
            ]
    return doubts


def _residuals(law: ParametricLaw, points: Sequence[Point]) -> np.ndarray:
    return np.array([np.log(point.loss / law(point.params, point.tokens)) for point in points])


def _off_centre(points: Sequence[Point], gone: set[int]) -> list[Doubt]:
    """Every row of a budget whose parabola has its vertex near or beyond the end of the sizes, or has none."""
    kept = [point for index, point in enumerate(points) if index not in gone]
    budgets = by_budget(kept)
    wrong = {budget: reason for budget, rows in budgets.items() if (reason := _lopsided(rows)) is not None}
    enough = len(budgets) - len(wrong) >= _LEAST_BUDGETS
    note = "" if enough else "; kept, since too few budgets would be left"
    return [
        Doubt(index, wrong[point.budget] + note, "parabolas" if enough else "none")
        for index, point in enumerate(points)
        if index not in gone and point.budget in wrong
    ]


def _lopsided(points: Sequence[Point]) -> str | None:
    """What is wrong with the sizes of one budget."""
    budget = f"{points[0].budget:.3g}"
    try:
        parabola = fit_parabola(points)
    except HerdError as error:
        return str(error)
    shift = off_centre(parabola, points)
    if abs(shift) <= _OFF_CENTRE:
        return None
    side = "more" if shift > 0 else "fewer"
    place = "beyond" if not parabola.inside else "close to the end of"
    return f"off-centre budget {budget}: its minimum lies {place} the sizes that were run, towards {side} tokens"


def off_centre(parabola: Parabola, points: Sequence[Point]) -> float:
    """Where the vertex lies among the sizes: 0 in their middle, -1 and 1 at the fewest and the most tokens."""
    x = np.log([point.tokens for point in points])
    return float((np.log(parabola.tokens) - (x.min() + x.max()) / 2) / ((x.max() - x.min()) / 2))
