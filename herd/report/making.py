"""How the models were made, for the page: data, mix, scaling laws, training, gates, alignment, the guard."""

from collections.abc import Callable, Mapping
from typing import Any

from herd.report import figures, tables
from herd.report.run_files import BASE, INITIAL, LONG, Run

_REJECTS_PER_RULE, _REJECT_CHARACTERS = 2, 400


def funnel(run: Run) -> dict[str, Any] | None:
    """What curation left after every step, and examples of what it rejected."""
    stats = run.stats("documents") or run.stats("corpus")
    if not stats.get("funnel"):
        return None
    return {
        "pages": run.stats("pages"),
        "steps": stats["funnel"],
        "svg": figures.funnel(stats["funnel"]),
        "rejects": run.rejects(_REJECTS_PER_RULE, _REJECT_CHARACTERS),
        "private": sum(stats.get("private", {}).values()),
        "auc": stats.get("quality", {}).get("auc"),
        "passages": stats.get("passages"),
    }


def mix(run: Run) -> dict[str, Any] | None:
    """Shares of the domains: as they came, as wanted, as trained on; and how the tokenizer compresses them."""
    corpus = (run.stats("documents") or run.stats("corpus")).get("mix", {})
    shares = {"as the sources have it": corpus.get("natural")}
    for kind, title in ((INITIAL, "pre-training"), (BASE, "annealing")):
        found = [run.stats(kind + name).get("mix") for name in run.members]
        shares[title] = found[-1] if found else None
    shown = {name: dict(sorted(row.items())) for name, row in shares.items() if row}
    tokenizer = run.stats("tokenizer")
    if not shown and not tokenizer:
        return None
    domains = sorted({domain for row in shown.values() for domain in row})
    return {
        "shares": shown,
        "colours": figures.colours_of(domains),
        "notes": corpus.get("notes", []),
        "vocabulary": tokenizer.get("vocab_size"),
        "compression": tokenizer.get("compression", {}),
        "tokens": {split: _tokens(rows) for split, rows in run.stats("tokens").get("splits", {}).items()},
    }


def _tokens(domains: Mapping[str, Mapping[str, int]]) -> int:
    return sum(row["tokens"] for row in domains.values())


def scaling(run: Run) -> dict[str, Any] | None:
    """IsoFLOP runs with their parabolas, the law through their lowest points, the forecasts beside what came."""
    laws, runs = run.json("scaling/laws.json"), run.stats("scaling").get("runs")
    if not laws or not runs:
        return None
    optimum, flagship = laws.get("optimum"), laws.get("flagship", {})
    law = figures.power_law(laws["parabolas"], optimum, flagship["budget"]) if optimum else None
    return {
        "isoflops": figures.isoflops(runs, laws["parabolas"]),
        "runs": len(runs),
        "law": law,
        "optimum": optimum,
        "parametric": laws.get("parametric"),
        "flagship": {key: flagship.get(key) for key in ("budget", "best_params", "best_tokens")},
        "notes": laws.get("notes", []),
        "forecasts": forecasts(run),
    }


def forecasts(run: Run) -> list[dict[str, Any]]:
    """Every member's loss as it was forecast before its training, and as it was measured."""
    rows = []
    for name, forecast in run.json("scaling/laws.json").get("forecast", {}).items():
        measured = run.stats(INITIAL + name).get("held_out")
        error = None if measured is None else forecast["loss"] / measured - 1
        rows.append({"name": name, **forecast, "measured": measured, "error": error})
    return rows


def training(run: Run) -> dict[str, Any] | None:
    """Loss curves of pre-training and annealing, and a row of figures for every training."""
    if not run.members:
        return None
    drawn = {}
    for kind, title in ((INITIAL, "Pre-training"), (BASE, "Annealing")):
        curves = {kind + name: found for name in run.members[::-1] if (found := run.metrics(kind + name))}
        if curves:
            drawn[title] = figures.loss_curves(curves, title)
    rows = []
    for name in run.trainings:
        stats = run.stats(name)
        rows.append({"name": name, **(stats.get("training", {}) if name.startswith(LONG) else stats)})
    return {"drawn": drawn, "rows": rows, "eager": next((row.get("eager_because") for row in rows), None)}


def gates(run: Run) -> list[dict[str, Any]]:
    """What the gate of every step of long context saw and said, before it and after each attempt."""
    rows = []
    for name in run.trainings:
        stats = run.stats(name)
        seen = stats.get("gates", [])
        for number, gate in enumerate(seen):
            last = number == len(seen) - 1
            verdict = "" if number == 0 else stats.get("refusal") or "passed" if last else "trained on"
            when = "before" if number == 0 else f"attempt {number}"
            rows.append({"stage": name, "when": when, "verdict": verdict, **gate})
    return rows


_Read = Callable[[Mapping[str, Any]], float | None]


def _inner(key: str) -> _Read:
    return lambda stats: stats.get("training", {}).get(key)


def _of(key: str) -> _Read:
    return lambda stats: stats.get(key)


_ROUND: tuple[tuple[str, str, _Read, Callable[[float | None], str]], ...] = (
    ("preferences", "answers right before the round", lambda stats: (stats.get("right") or [None])[0], tables.percent),
    ("preferences", "pairs of answers compared", _of("comparisons"), tables.number),
    ("reward", "held-out pairs that the reward model orders right", _of("held_out_accuracy"), tables.percent),
    ("samples", "sampled answers that are right", _of("right_mean"), tables.percent),
    ("samples", "… of the best by reward", _of("right_best"), tables.percent),
    ("samples", "… of the prompts, any answer", _of("right_any"), tables.percent),
    ("samples", "sampled dialogues kept", _of("kept"), tables.number),
    ("sft", "dialogues in finetuning", _of("dialogues"), tables.number),
    ("sft", "closing loss of finetuning", _inner("closing_loss"), tables.decimal),
    ("dpo", "pairs in DPO", _of("pairs"), tables.number),
    ("dpo", "pairs whose better answer gained", _of("accuracy"), tables.percent),
)


def alignment(run: Run) -> dict[str, Any] | None:
    """The synthesised dialogues, and round by round what every member's steps reported."""
    dialogues = run.stats("dialogues")
    if not dialogues:
        return None
    members = run.members[::-1]
    rounds = []
    number = 1
    while any(f"preferences-{number}-{name}" in run.stages for name in members):
        rows = []
        for step, title, read, write in _ROUND:
            values = [read(run.stats(f"{step}-{number}-{name}")) for name in members]
            if any(value is not None for value in values):
                rows.append((title, [write(value) for value in values]))
        rounds.append({"number": number, "rows": rows})
        number += 1
    return {"dialogues": dialogues, "rejected": dialogues.get("rejected", {}), "members": members, "rounds": rounds}


_CALIBRATION: dict[str, tuple[str, Callable[[float | None], str]]] = {
    "n": ("examples", tables.number),
    "threshold": ("threshold", tables.decimal),
    "f1": ("F1", tables.decimal),
    "false_positive_rate": ("harmless ones flagged", lambda share: tables.percent(share, 1)),
}


def guard(run: Run) -> dict[str, Any] | None:
    """What the guard was trained on, and what its calibration said of every kind of item."""
    stats = run.stats("guard")
    if not stats:
        return None
    found = {kind: row for kind, row in stats.get("calibration", {}).items() if isinstance(row, dict)}
    kinds = {kind: [write(row.get(name)) for name, (_, write) in _CALIBRATION.items()] for kind, row in found.items()}
    return {
        "examples": stats.get("examples"),
        "kinds": kinds,
        "titles": [title for title, _ in _CALIBRATION.values()],
    }
