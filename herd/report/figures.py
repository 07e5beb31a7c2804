"""The report's drawings, as SVG text that stands in the page: loss curves, parabolas, the needle's heatmap, ratings.

Lines and letters take the page's own colours, so that a drawing is right on light and on dark.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

from herd.report.tables import scientific

COLOURS = ("#c05f2a", "#3d87ab", "#6c9447", "#9266a6", "#bd9a2c", "#7b8591")
# Stand-ins that become the page's colours once the drawing is text.
_INK, _GRID, _QUIET, _PAPER = "#010203", "#040506", "#070809", "#0a0b0c"
_PAGE_COLOURS = {_INK: "currentColor", _GRID: "var(--line)", _QUIET: "var(--quiet)", _PAPER: "var(--card)"}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "herd",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.titlesize": 10,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "axes.edgecolor": _QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _GRID,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    "legend.frameon": False,
    "legend.fontsize": 9,
}
_SHORT = EngFormatter(sep="")
_PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.0f}%")


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """A colour for every name, in order; the first ones come again where there are more names."""
    return dict(zip(names, cycle(COLOURS), strict=False))


def _figure(width: float = 8.2, height: float = 3.4) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure, title: str) -> Markup:
    """The drawing as an element; its ids begin with the title, so that drawings can share a page."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    body = stream.getvalue()
    body = body[body.index("<svg") :].strip()
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    body = re.sub(r' (?:xmlns(?::xlink)?|version)="[^"]*"', "", body)
    own = re.sub(r"\W+", "-", title)
    body = re.sub(r'\bid="', f'id="{own}-', body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{own}-', body)
    body = body.replace("url(#", f"url(#{own}-")
    body = re.sub(r"font: (?:[\d.]+ )?([\d.]+px) [^;\"]*", r"font-size: \1", body)
    for colour, name in _PAGE_COLOURS.items():
        body = body.replace(colour, name)
    return Markup(body.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1))


def loss_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]], title: str) -> Markup:
    """Training loss of every run over its tokens: each step faintly, and their running mean.

    Steps that were left out since their loss was no number have none.
    """
    curves = {name: [line for line in lines if line["loss"] is not None] for name, lines in curves.items()}
    with mpl.rc_context(_STYLE):
        figure, axes = _figure()
        for (name, lines), colour in zip(curves.items(), cycle(COLOURS), strict=False):
            tokens = np.array([line["tokens"] for line in lines], dtype=float)
            loss = np.array([line["loss"] for line in lines], dtype=float)
            width = max(len(loss) // 40, 1)
            mean = np.convolve(loss, np.ones(width) / width, mode="valid")
            thin = max(len(loss) // 400, 1)
            axes.plot(tokens[::thin], loss[::thin], color=colour, linewidth=0.5, alpha=0.35)
            axes.plot(tokens[width - 1 :][::thin], mean[::thin], color=colour, linewidth=1.6, label=name)
        # The first steps of a fresh network would flatten all that follows.
        finite = np.concatenate([[line["loss"] for line in lines[len(lines) // 20 :]] for lines in curves.values()])
        low, high = float(finite.min()), float(finite.max())
        axes.set_ylim(low - 0.05 * (high - low) - 0.01, high + 0.1 * (high - low) + 0.01)
        axes.xaxis.set_major_formatter(_SHORT)
        axes.set(xlabel="training tokens", ylabel="loss (nats per token)")
        axes.legend()
        return _svg(figure, title)


def isoflops(runs: Sequence[Mapping[str, float]], parabolas: Sequence[Mapping[str, Any]]) -> Markup:
    """The runs of every budget over their training tokens, each with its parabola and its lowest point."""
    fits = {fit["budget"]: fit for fit in parabolas}
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(height=3.8)
        losses = [run["loss"] for run in runs]
        for budget, colour in zip(sorted({run["budget"] for run in runs}), cycle(COLOURS), strict=False):
            points = [run for run in runs if run["budget"] == budget]
            tokens = np.array([point["tokens"] for point in points])
            label = f"{scientific(budget)} FLOPs"
            axes.plot(tokens, [point["loss"] for point in points], "o", color=colour, markersize=5, label=label)
            if (fit := fits.get(budget)) is None:
                continue
            x = np.linspace(np.log(tokens.min() / 1.3), np.log(tokens.max() * 1.3), 80)
            axes.plot(np.exp(x), fit["a"] * x**2 + fit["b"] * x + fit["c"], color=colour, linewidth=1.3)
            if fit["inside"]:
                axes.plot([fit["tokens"]], [fit["loss"]], "*", color=colour, markersize=13, markeredgecolor=_PAPER)
        room = 0.12 * (max(losses) - min(losses)) + 0.01
        axes.set_ylim(min(losses) - room, max(losses) + room)
        axes.set(xscale="log", xlabel="training tokens", ylabel="held-out loss (nats per token)")
        _log_ticks(axes.xaxis)
        axes.legend()
        return _svg(figure, "IsoFLOP runs")


def power_law(parabolas: Sequence[Mapping[str, Any]], optimum: Mapping[str, Any], budget: float) -> Markup:
    """The optimal tokens of every budget, and the law that runs through them to the flagship's budget."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(height=3.2)
        budgets = np.array([fit["budget"] for fit in parabolas])
        optimal = [fit["tokens"] for fit in parabolas]
        axes.plot(budgets, optimal, "*", color=COLOURS[0], markersize=12, label="lowest point of a budget")
        x = np.geomspace(min(budgets.min(), budget) / 2, max(budgets.max(), budget) * 1.5, 50)
        law = optimum["factor"] * x ** optimum["exponent"]
        axes.plot(x, law, color=COLOURS[1], linewidth=1.4, label="N*(C)")
        axes.axvline(budget, linestyle=":", color=_QUIET, label="the flagship's budget")
        axes.set(xscale="log", yscale="log", xlabel="budget (FLOPs)", ylabel="optimal training tokens")
        _log_ticks(axes.yaxis)
        axes.legend()
        return _svg(figure, "Optimal tokens over compute")


def _log_ticks(axis: Any) -> None:
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(_SHORT)
    axis.set_minor_formatter(NullFormatter())


def heatmap(cells: Sequence[Mapping[str, float]], title: str) -> Markup:
    """Needles found, by the context's length and the needle's depth in it."""
    lengths = sorted({cell["length"] for cell in cells})
    depths = sorted({cell["depth"] for cell in cells})
    values = np.full((len(depths), len(lengths)), np.nan)
    for cell in cells:
        values[depths.index(cell["depth"]), lengths.index(cell["length"])] = cell["value"]
    colours = mpl.colors.LinearSegmentedColormap.from_list("needle", ["#c0503a", "#e2b45a", "#5d9a57"])
    with mpl.rc_context(_STYLE | {"axes.grid": False, "axes.spines.left": False, "axes.spines.bottom": False}):
        figure, axes = _figure(4.6, 2.9)
        edges_x, edges_y = np.arange(len(lengths) + 1) - 0.5, np.arange(len(depths) + 1) - 0.5
        axes.pcolormesh(edges_x, edges_y, values, vmin=0, vmax=1, cmap=colours, edgecolors=_PAPER, linewidth=1.5)
        axes.invert_yaxis()
        axes.tick_params(length=0)
        axes.set_xticks(range(len(lengths)), [f"{length:,.0f}" for length in lengths])
        axes.set_yticks(range(len(depths)), [f"{depth:.0%}" for depth in depths])
        for row, column in np.ndindex(values.shape):
            if not np.isnan(values[row, column]):
                text = f"{100 * values[row, column]:.0f}%"
                axes.text(column, row, text, ha="center", va="center", fontsize=9, color="#101010")
        axes.set(title=title, xlabel="context (tokens)", ylabel="depth of the needle")
        return _svg(figure, f"Needles found by {title}")


Interval = Mapping[str, float]


def comparison(measures: Mapping[str, Mapping[str, Interval]], title: str) -> Markup:
    """For each measure (from the top) the shares that several models reach, with their intervals."""
    names = list(dict.fromkeys(name for rows in measures.values() for name in rows))
    with mpl.rc_context(_STYLE | {"axes.grid.axis": "x", "axes.spines.left": False}):
        figure, axes = _figure(height=0.9 + 0.15 * len(measures) * (len(names) + 1))
        step = 1 / (len(names) + 1)
        for (number, name), colour in zip(enumerate(names), cycle(COLOURS), strict=False):
            label: str | None = name
            for place, rows in enumerate(measures.values()):
                if (row := rows.get(name)) is None:
                    continue
                y = place + (number + 1) * step - 0.5
                axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=5, alpha=0.35)
                axes.plot([row["value"]], [y], "o", color=colour, markersize=6, label=label)
                label = None
        axes.set_yticks(range(len(measures)), list(measures))
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(measures) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(names))
        return _svg(figure, title)


def ratings(rows: Sequence[tuple[str, Interval]], title: str) -> Markup:
    """A rating with its interval for each player, best on top."""
    ordered = sorted(rows, key=lambda row: row[1]["value"])
    with mpl.rc_context(_STYLE | {"axes.grid.axis": "x", "axes.spines.left": False}):
        figure, axes = _figure(height=0.8 + 0.32 * len(ordered))
        for place, (_, row) in enumerate(ordered):
            axes.plot([row["low"], row["high"]], [place, place], color=COLOURS[1], linewidth=5, alpha=0.35)
            axes.plot([row["value"]], [place], "o", color=COLOURS[1], markersize=6)
        axes.set_yticks(range(len(ordered)), [name for name, _ in ordered])
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set(xlabel="Bradley-Terry rating (the mean of all players is 1,000)")
        return _svg(figure, title)


def funnel(steps: Sequence[Mapping[str, Any]]) -> Markup:
    """Characters and documents left after every step of curation."""
    with mpl.rc_context(_STYLE | {"axes.grid.axis": "x", "axes.spines.left": False}):
        figure, axes = _figure(height=0.7 + 0.3 * len(steps))
        names = [str(step["step"]).replace("_", " ") for step in steps]
        sizes = [step["characters"] / 1e6 for step in steps]
        places = range(len(steps))
        axes.barh(places, sizes, color=COLOURS[1], height=0.62)
        for place, (step, size) in enumerate(zip(steps, sizes, strict=True)):
            _beside(axes, size, place, f"{size:,.1f}M in {step['documents']:,}")
        axes.set_yticks(places, names)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(steps) - 0.4, -0.6)
        axes.set_xlim(0, 1.22 * max(sizes))
        axes.set(xlabel="million characters left, in so many documents")
        return _svg(figure, "What is left after every step")


def distributions(values: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Markup:
    """For every measure how it is spread over the kept (filled) and the rejected documents (line)."""
    columns = 3
    rows = -(-len(values) // columns)
    with mpl.rc_context(_STYLE | {"axes.grid": False, "axes.spines.left": False}):
        figure = Figure(figsize=(8.2, 0.4 + 1.75 * rows), layout="constrained")
        figure.get_layout_engine().set(h_pad=0.1)  # type: ignore[call-arg,union-attr]
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel, (name, (kept, gone)) in zip(panels, values.items(), strict=False):
            both = np.concatenate([np.asarray(kept, dtype=float), np.asarray(gone, dtype=float)])
            low, high = np.percentile(both, [0.5, 99.5])
            far = low >= 1 and high > 50 * low
            edges = np.geomspace(low, high, 31) if far else np.linspace(low, max(high, low + 1e-6), 31)
            panel.hist(np.clip(kept, low, high), edges, color=COLOURS[1], alpha=0.55)
            panel.hist(np.clip(gone, low, high), edges, color=COLOURS[0], histtype="step", linewidth=1.3)
            panel.set_title(name.replace("_", " "))
            panel.set_yticks([])
            if far:
                panel.set_xscale("log")
                panel.xaxis.set_major_locator(LogLocator(numticks=4))
                panel.xaxis.set_minor_formatter(NullFormatter())
        for panel in panels[len(values) :]:
            panel.set_visible(False)
        return _svg(figure, "What the rules measure")


def _beside(axes: Any, x: float, y: float, text: str) -> None:
    """Writes behind the end of a bar."""
    axes.annotate(text, (x, y), (5, 0), textcoords="offset points", va="center", fontsize=9)


def planned_and_spent(rows: Sequence[tuple[str, float, float]], title: str) -> Markup:
    """Minutes planned and spent by chapter, two bars each."""
    with mpl.rc_context(_STYLE | {"axes.grid.axis": "x", "axes.spines.left": False}):
        figure, axes = _figure(height=0.9 + 0.44 * len(rows))
        places = np.arange(len(rows))
        both = {"planned": [planned / 60 for _, planned, _ in rows], "spent": [spent / 60 for _, _, spent in rows]}
        for (label, values), offset, colour in zip(both.items(), (-0.19, 0.19), (COLOURS[5], COLOURS[0]), strict=True):
            axes.barh(places + offset, values, height=0.36, color=colour, label=label)
            for place, value in zip(places, values, strict=True):
                _beside(axes, value, place + offset, f"{value:.1f}")
        axes.set_yticks(places, [row[0] for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set(xlabel="minutes")
        axes.legend(loc="lower right")
        return _svg(figure, title)
