"""Numbers as people read them, and tables of measures by model with their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from herd.report.measures import GROUPS, Measure, describe, order

Row = Mapping[str, Any]
Models = Mapping[str, Mapping[str, Row]]
ABSENT = "–"
BASELINES = "trivial baselines"
"""The kind of column that is there to compare with, and is never marked as the best."""
_DIGITS = {"bits": 3, "rating": 0, "number": 2}


def number(value: float | None) -> str:
    """A count or a size in short: 1,234 or 3.2M; a dash for none."""
    if value is None:
        return ABSENT
    for least, unit, name in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:.1f}{name}"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:,.2f}"


def scientific(value: float | None) -> str:
    """FLOPs: 5.4e13; a dash for none."""
    if not value:
        return ABSENT
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def duration(seconds: float | None) -> str:
    """Minutes and seconds; a dash for none."""
    if seconds is None:
        return ABSENT
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def gigabytes(value: float | None) -> str:
    """Bytes in gigabytes; a dash for none or nothing."""
    return f"{value / 1e9:.2f} GB" if value else ABSENT


def percent(value: float | None, digits: int = 0) -> str:
    """A share in per cent; a dash for none."""
    return ABSENT if value is None else f"{100 * value:.{digits}f}%"


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with that many digits behind the point; a dash for none."""
    return ABSENT if value is None else f"{value:.{digits}f}"


@dataclass
class Cell:
    """A figure: value and interval in words, ``bar`` places both on a line from 0 to 100; or the ``note`` why not."""

    value: str = ABSENT
    interval: str = ""
    bar: tuple[float, float, float] | None = None
    note: int | None = None
    best: bool = False


@dataclass
class Line:
    """A measure with its cells, one a model; ``n`` counts the items behind them."""

    title: str
    detail: bool
    n: str
    cells: list[Cell]


@dataclass
class Table:
    """Measures by model; ``parts`` are the models' kinds with how many columns each has, ``notes`` the footnotes."""

    group: str
    parts: list[tuple[str, int]]
    models: list[str]
    lines: list[Line]
    notes: list[str] = field(default_factory=list)


def figure(measure: Measure, row: Row) -> tuple[str, str]:
    """A value and its 95% interval in words."""
    value, low, high = row["value"], row["low"], row["high"]
    if measure.unit == "share":
        return f"{value:.1%}", f"{100 * low:.1f}–{100 * high:.1f}"
    digits = _DIGITS[measure.unit]
    if row["n"] == 1:
        return f"{value:,.{digits}f}", "of one item"  # resampling one item gives no interval
    return f"{value:,.{digits}f}", f"{low:,.{digits}f}–{high:,.{digits}f}"


def tables(models: Models, columns: Mapping[str, Sequence[str]]) -> list[Table]:
    """A table for every group of measures; ``columns`` maps the models' kinds to their names, in order.

    Models without a figure in a group are left out of its table.
    """
    measures = [describe(name) for name in {name for rows in models.values() for name in rows}]
    found = []
    for group in GROUPS:
        chosen = sorted((measure for measure in measures if measure.group == group), key=order)
        if chosen:
            found.append(_table(group, chosen, models, columns))
    return found


def _table(group: str, measures: Sequence[Measure], models: Models, columns: Mapping[str, Sequence[str]]) -> Table:
    names = {measure.name for measure in measures}
    kept = {kind: [name for name in those if names & set(models[name])] for kind, those in columns.items()}
    shown = [name for those in kept.values() for name in those]
    table = Table(group, [(kind, len(those)) for kind, those in kept.items() if those], shown, [])
    for measure in measures:
        rows = [models[name].get(measure.name) for name in shown]
        if measure.detail and rows == [models[name].get(measure.name.removesuffix("_unseen")) for name in shown]:
            continue  # all of its prompts are in wordings that training never had
        cells = [_cell(measure, row, table.notes) for row in rows]
        contenders = [place for place, name in enumerate(shown) if name not in kept.get(BASELINES, [])]
        _mark_best(measure, {place: row for place in contenders if (row := rows[place])}, cells)
        table.lines.append(Line(measure.title, measure.detail, _range([row["n"] for row in rows if row]), cells))
    return table


def _cell(measure: Measure, row: Row | None, notes: list[str]) -> Cell:
    if row is None:
        return Cell()
    if row["value"] is None:
        note = str(row.get("note", "not measured"))
        if note not in notes:
            notes.append(note)
        return Cell(note=notes.index(note) + 1)
    value, interval = figure(measure, row)
    bar = (100 * row["low"], 100 * row["value"], 100 * row["high"]) if measure.unit == "share" else None
    return Cell(value, interval, bar)


def _mark_best(measure: Measure, rows: Mapping[int, Row], cells: Sequence[Cell]) -> None:
    """Marks the best value, and none where all are alike or there is nothing to be better at."""
    values = {place: row["value"] for place, row in rows.items() if row["value"] is not None}
    if measure.better == "neither" or len(set(values.values())) < 2:
        return
    best = max(values.values()) if measure.better == "high" else min(values.values())
    for place, value in values.items():
        cells[place].best = value == best


def _range(counts: Sequence[int]) -> str:
    counts = [count for count in counts if count]
    if not counts:
        return ABSENT
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"
