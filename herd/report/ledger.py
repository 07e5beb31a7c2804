"""What the run cost beside what was planned, and where its flagship comes from."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from herd.report import figures
from herd.report.run_files import Run

_CHAPTERS = (
    ("data", ("pages", "corpus", "tasks", "search", "documents", "tokenizer", "tokens", "echoes")),
    ("scaling laws", ("scaling",)),
    ("pre-training", ("initial-",)),
    ("long context", ("long-",)),
    ("annealing", ("base-",)),
    ("alignment", ("dialogues", "bootstrap-", "preferences-", "reward-", "samples-", "sft-", "dpo-", "chat-")),
    ("guard", ("guard",)),
    ("evaluation", ("evaluation",)),
)
_OTHER = "other"


def chapter_of(stage: str) -> str:
    """The part of the road that a stage belongs to."""
    return next((chapter for chapter, names in _CHAPTERS if stage.startswith(names)), _OTHER)


def cost(run: Run) -> dict[str, Any]:
    """Time, FLOPs and memory of every stage and chapter, planned and spent."""
    plan = run.json("plan.json")
    planned = plan.get("stages", {})
    stages = [_stage(run, name, manifest, planned.get(name, {})) for name, manifest in run.stages.items()]
    chapters = []
    for chapter in [*(name for name, _ in _CHAPTERS), _OTHER]:
        own = [row for row in stages if row["chapter"] == chapter]
        if own:
            chapters.append(_together(chapter, own))
    drawn: Markup | None = None
    bars = [(row["name"], row["planned_seconds"], row["seconds"]) for row in chapters if row["planned_seconds"]]
    if bars:
        drawn = figures.planned_and_spent(bars, "Minutes planned and spent")
    return {"stages": stages, "chapters": chapters, "total": _together("total", stages), "svg": drawn,
            "peak_flops": plan.get("peak_flops"), "run_memory": run.json("memory.json").get("peak_bytes")}  # fmt: skip


def _stage(run: Run, name: str, manifest: Mapping[str, Any], plan: Mapping[str, float]) -> dict[str, Any]:
    return {
        "name": name,
        "chapter": chapter_of(name),
        "seconds": manifest["seconds"],
        "flops": _flops(run.stats(name)),
        "memory": manifest["peak_memory_bytes"],
        "planned_seconds": plan.get("seconds"),
        "planned_flops": plan.get("flops") or None,
        "planned_memory": plan.get("memory_bytes") or None,
    }


def _together(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Times and FLOPs add up, memory is that of the largest; None where no row has a figure."""
    found: dict[str, Any] = {"name": name}
    for key, join in (("seconds", sum), ("flops", sum), ("memory", max)):
        for each in (key, f"planned_{key}"):
            values = [row[each] for row in rows if row[each] is not None]
            found[each] = join(values) if values else None
    return found


def _flops(stats: Mapping[str, Any]) -> float | None:
    """FLOPs that a stage's networks have spent in training, sampling and judging, wherever its figures hold them."""
    if "flops" in stats:
        return float(stats["flops"])
    inner = stats.get("training")
    return _flops(inner) if isinstance(inner, dict) else None


def lineage(run: Run) -> list[dict[str, Any]]:
    """The flagship and everything it was made from, each once, each behind what it was made from."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in run.stages and name not in order:
            for entry in run.stages[name]["inputs"].values():
                visit(entry["stage"])
            order.append(name)

    if run.flagship is not None:
        visit(run.flagship)
    return [
        {
            "name": name,
            "digest": run.stages[name]["digest"][:12],
            "finished": run.stages[name]["finished"],
            "inputs": sorted({entry["stage"] for entry in run.stages[name]["inputs"].values()}),
            "outside": {key: str(value)[:40] for key, value in run.stages[name]["outside"].items()},
        }
        for name in order
    ]
