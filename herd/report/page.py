"""Writes ``report.html``: ``write_report(Path("runs/pocket"))``, or ``herd report runs/pocket``.

One file with its drawings in it.  A section whose artifacts are not there yet is left out.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import herd
from herd.foundation.files import write_text
from herd.report import figures, tables
from herd.report.run_files import Run, open_run

_SHOWN_KINDS = ("lookup", "arithmetic", "two_step", "unknown", "refuse", "injection")


def write_report(run_directory: Path) -> Path:
    """Writes the page of a run and returns its path; a directory that is no run is a ``HerdError``."""
    run = open_run(run_directory)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": tables.number, "duration": tables.duration, "title": tables.title}
    template = environment.from_string(files("herd.report").joinpath("report.html.jinja").read_text(encoding="utf-8"))
    target = run_directory / "report.html"
    write_text(target, template.render(**_content(run)))
    return target


def _content(run: Run) -> dict[str, Any]:
    stages = run.stages()
    results = run.json("results.json").get("models", {})
    flagship = (run.path / "chat").resolve().name if (run.path / "chat").exists() else None
    return {
        "name": run.path.name,
        "version": herd.__version__,
        "written": datetime.now(UTC).strftime("%d %B %Y"),
        "environment": next(iter(stages.values()))["environment"],
        "seconds": sum(stage["seconds"] for stage in stages.values()),
        "memory": max(stage["peak_memory_bytes"] for stage in stages.values()),
        "flagship": flagship,
        "headline": _headline(results, flagship),
        "road": _road(run, stages),
        "funnel": _funnel(run),
        "mix": _mix(run),
        "training": _training(run, stages),
        "scaling": _scaling(run),
        "gates": _gates(run, stages),
        "needles": _needles(run),
        "alignment": _alignment(run, stages),
        "results": {name: tables.matrix(results, found) for name, found in tables.grouped(results).items()},
        "arena": _arena(results),
        "dialogues": _dialogues(run, flagship),
        "lineage": _lineage(stages, flagship),
    }


def _headline(results: Mapping[str, Any], flagship: str | None) -> list[dict[str, str]]:
    """The flagship's figures that the recipe's goals are about."""
    rows = results.get(flagship or "", {})
    needles = sorted(
        (name for name in rows if name.startswith("needle_") and name.split("_")[-1].isdigit()),
        key=lambda name: int(name.split("_")[-1]),
    )
    wanted = ["well_formed", "arithmetic", "lookup", "two_step", *needles[-1:]]
    return [
        {
            "title": tables.title(name),
            "value": f"{rows[name]['value']:.0%}",
            "interval": f"{rows[name]['low']:.0%}–{rows[name]['high']:.0%}",
        }
        for name in wanted
        if name in rows and rows[name]["value"] is not None
    ]


def _road(run: Run, stages: Mapping[str, Any]) -> list[dict[str, Any]]:
    planned = run.json("plan.json").get("stages", {})
    rows = []
    for name, stage in stages.items():
        flops = _flops(run.stats(name))
        plan = planned.get(name, {})
        rows.append({
            "name": name,
            "seconds": stage["seconds"],
            "planned_seconds": plan.get("seconds"),
            "flops": flops,
            "planned_flops": plan.get("flops"),
            "memory": stage["peak_memory_bytes"],
            "planned_memory": plan.get("memory_bytes"),
        })  # fmt: skip
    return rows


def _flops(stats: Mapping[str, Any]) -> float | None:
    """FLOPs that a stage's networks have spent, wherever its figures hold them."""
    if "flops" in stats:
        return float(stats["flops"])
    inner = stats.get("training")
    return _flops(inner) if isinstance(inner, dict) else None


def _funnel(run: Run) -> dict[str, Any] | None:
    steps = run.stats("documents").get("funnel") or run.stats("corpus").get("funnel")
    if not steps:
        return None
    return {"steps": steps, "svg": Markup(figures.funnel(steps)), "rejects": run.rejects(2, 400)}


def _mix(run: Run) -> dict[str, Any] | None:
    meta = run.json("tokens/meta.json")
    if not meta:
        return None
    shares = {}
    for path in sorted(run.path.glob("initial-*/stats.json")):
        shares[path.parent.name] = run.stats(path.parent.name).get("mix", {})
    return {"meta": meta, "shares": shares, "compression": run.stats("tokenizer")}


def _training(run: Run, stages: Mapping[str, Any]) -> dict[str, Any] | None:
    initial = {name: run.metrics(name) for name in stages if name.startswith("initial-")}
    anneal = {name: run.metrics(name) for name in stages if name.startswith("base-")}
    if not initial:
        return None
    drawn = {"initial": Markup(figures.loss_curves(initial))}
    if any(anneal.values()):
        drawn["anneal"] = Markup(figures.loss_curves({name: lines for name, lines in anneal.items() if lines}))
    rows = [{"name": name, **run.stats(name)} for name in stages if name.startswith(("initial-", "base-"))]
    return {**drawn, "rows": rows}


def _scaling(run: Run) -> dict[str, Any] | None:
    laws, runs = run.json("scaling/laws.json"), run.stats("scaling").get("runs")
    if not laws or not runs:
        return None
    forecasts = []
    for name, forecast in laws["forecast"].items():
        measured = run.stats(f"initial-{name}").get("held_out")
        error = None if measured is None else forecast["loss"] / measured - 1
        forecasts.append({"name": name, **forecast, "measured": measured, "error": error})
    return {
        "isoflops": Markup(figures.isoflops(runs, laws["parabolas"])),
        "law": Markup(figures.power_law(laws["parabolas"], laws["optimum"], laws["flagship"]["budget"])),
        "optimum": laws["optimum"],
        "parametric": laws["parametric"],
        "flagship": laws["flagship"],
        "forecasts": forecasts,
    }


def _gates(run: Run, stages: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name in stages:
        for number, gate in enumerate(run.stats(name).get("gates", [])):
            rows.append({"stage": name, "when": "before" if number == 0 else f"attempt {number}", **gate})
    return rows


def _needles(run: Run) -> list[Markup]:
    grids = run.json("evaluation/needle.json")
    return [
        Markup(figures.heatmap(cells, f"{model}, {tables.title(form)}"))
        for model, forms in grids.items()
        for form, cells in forms.items()
        if cells
    ]


def _alignment(run: Run, stages: Mapping[str, Any]) -> list[dict[str, Any]]:
    kinds = ("dialogues", "bootstrap-", "preferences-", "reward-", "samples-", "sft-", "dpo-", "guard")
    rows = []
    for name in stages:
        if name.startswith(kinds):
            plain = {key: value for key, value in run.stats(name).items() if isinstance(value, int | float | str)}
            rows.append({"name": name, "figures": plain})
    return rows


def _arena(results: Mapping[str, Any]) -> Markup | None:
    rows = [(name, found["arena_rating"]) for name, found in results.items() if "arena_rating" in found]
    return Markup(figures.intervals(rows, "Bradley-Terry rating")) if rows else None


def _dialogues(run: Run, flagship: str | None) -> list[dict[str, Any]]:
    """For every kind of prompt the flagship's first success and first failure."""
    chosen: dict[tuple[str, bool], dict[str, Any]] = {}
    for item in run.items():
        kind = str(item.get("kind", item.get("measure")))
        if item.get("model") == flagship and kind in _SHOWN_KINDS and item.get("messages"):
            chosen.setdefault((kind, bool(item.get("success"))), item)
    order = [(kind, success) for kind in _SHOWN_KINDS for success in (True, False)]
    return [
        {"kind": key[0], "success": key[1], "messages": _messages(chosen[key]["messages"])}
        for key in order
        if key in chosen
    ]


def _messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    shown = []
    for message in messages:
        for call in message.get("tool_calls") or []:
            shown.append({"role": "call", "text": f"{call['function']['name']} {call['function']['arguments']}"})
        if message.get("content"):
            shown.append({"role": message["role"], "text": message["content"]})
    return shown


def _lineage(stages: Mapping[str, Any], flagship: str | None) -> list[dict[str, Any]]:
    """The flagship and everything it was made from, each once, with its inputs."""
    order, waiting = [], [flagship] if flagship else []
    while waiting:
        name = waiting.pop(0)
        if name in stages and name not in order:
            order.append(name)
            waiting += [entry["stage"] for entry in stages[name]["inputs"].values()]
    return [
        {
            "name": name,
            "digest": stages[name]["digest"][:12],
            "inputs": sorted({e["stage"] for e in stages[name]["inputs"].values()}),
            "outside": stages[name]["outside"],
        }
        for name in order
    ]
