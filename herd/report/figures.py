"""The report's drawings, as SVG text that stands in the page: loss curves, parabolas, the needle's heatmap, ratings."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure

COLOURS = ("#9a4b1f", "#2c6e8f", "#5b7f3a", "#7a4d8c", "#b08a1e", "#555f6b")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "herd",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4dfd3",
    "axes.edgecolor": "#8a8f98",
    "axes.prop_cycle": cycler(color=COLOURS),
}


def _figure(width: float = 7.2, height: float = 3.4) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure, title: str) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    body = stream.getvalue()
    body = body[body.index("<svg") :]
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    return body.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def loss_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Training loss of every run over its tokens, smoothed by a running mean."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure()
        for name, lines in curves.items():
            tokens = np.array([line["tokens"] for line in lines], dtype=float)
            loss = np.array([line["loss"] for line in lines], dtype=float)
            width = max(len(loss) // 60, 1)
            kernel = np.ones(width) / width
            axes.plot(tokens[width - 1 :], np.convolve(loss, kernel, mode="valid"), label=name, linewidth=1.4)
        axes.set(xlabel="tokens", ylabel="loss (nats per token)")
        axes.legend(frameon=False)
        return _svg(figure, "loss over tokens")


def isoflops(runs: Sequence[Mapping[str, float]], parabolas: Sequence[Mapping[str, Any]]) -> str:
    """The runs of every budget with their parabola and its lowest point."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure()
        for colour, fit in zip(COLOURS * 3, parabolas, strict=False):
            points = [run for run in runs if run["budget"] == fit["budget"]]
            tokens = np.array([point["tokens"] for point in points])
            axes.plot(tokens, [point["loss"] for point in points], "o", color=colour, markersize=4)
            x = np.linspace(np.log(tokens.min() / 1.3), np.log(tokens.max() * 1.3), 80)
            label = f"{fit['budget']:.1e} FLOPs"
            axes.plot(np.exp(x), fit["a"] * x**2 + fit["b"] * x + fit["c"], color=colour, linewidth=1.2, label=label)
            if fit["inside"]:
                axes.plot([fit["tokens"]], [fit["loss"]], "*", color=colour, markersize=11)
        axes.set(xscale="log", xlabel="training tokens", ylabel="held-out loss (nats per token)")
        axes.legend(frameon=False)
        return _svg(figure, "IsoFLOP parabolas")


def power_law(parabolas: Sequence[Mapping[str, Any]], optimum: Mapping[str, Any], budget: float) -> str:
    """The optimal tokens of every budget, and the law that runs through them to the flagship's budget."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(height=3.0)
        budgets = np.array([fit["budget"] for fit in parabolas])
        axes.plot(budgets, [fit["tokens"] for fit in parabolas], "*", markersize=11, label="lowest points")
        x = np.geomspace(budgets.min() / 2, budget * 1.5, 50)
        axes.plot(x, optimum["factor"] * x ** optimum["exponent"], linewidth=1.2, label="N*(C)")
        axes.axvline(budget, linestyle=":", color="#8a8f98", label="flagship")
        axes.set(xscale="log", yscale="log", xlabel="FLOPs", ylabel="optimal tokens")
        axes.legend(frameon=False)
        return _svg(figure, "optimal tokens over compute")


def heatmap(cells: Sequence[Mapping[str, float]], title: str) -> str:
    """Recall by context length and depth."""
    lengths = sorted({cell["length"] for cell in cells})
    depths = sorted({cell["depth"] for cell in cells})
    values = np.full((len(depths), len(lengths)), np.nan)
    for cell in cells:
        values[depths.index(cell["depth"]), lengths.index(cell["length"])] = cell["value"]
    with mpl.rc_context(_STYLE | {"axes.grid": False}):
        figure, axes = _figure(4.4, 2.7)
        axes.imshow(values, vmin=0, vmax=1, cmap="RdYlGn", aspect="auto")
        axes.set_xticks(range(len(lengths)), [f"{length:,.0f}" for length in lengths])
        axes.set_yticks(range(len(depths)), [f"{depth:.0%}" for depth in depths])
        for row, column in np.ndindex(values.shape):
            if not np.isnan(values[row, column]):
                axes.text(column, row, f"{values[row, column]:.0%}", ha="center", va="center", fontsize=8)
        axes.set(title=title, xlabel="context (tokens)", ylabel="depth")
        return _svg(figure, title)


def intervals(rows: Sequence[tuple[str, Mapping[str, float]]], label: str) -> str:
    """A value with its interval for each name, best on top."""
    ordered = sorted(rows, key=lambda row: row[1]["value"])
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(height=0.6 + 0.32 * len(ordered))
        for place, (_, row) in enumerate(ordered):
            axes.plot([row["low"], row["high"]], [place, place], color=COLOURS[1], linewidth=2)
            axes.plot([row["value"]], [place], "o", color=COLOURS[0])
        axes.set_yticks(range(len(ordered)), [name for name, _ in ordered])
        axes.set(xlabel=label)
        return _svg(figure, label)


def funnel(steps: Sequence[Mapping[str, Any]]) -> str:
    """Characters left after every step of curation."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(height=0.7 + 0.28 * len(steps))
        names = [step["step"] for step in steps][::-1]
        sizes = np.array([step["characters"] for step in steps][::-1]) / 1e6
        axes.barh(names, sizes, color=COLOURS[1], height=0.65)
        for place, size in enumerate(sizes):
            axes.text(size, place, f" {size:,.1f}", va="center", fontsize=8)
        axes.set(xlabel="million characters left")
        axes.grid(axis="y", visible=False)
        return _svg(figure, "the data funnel")
