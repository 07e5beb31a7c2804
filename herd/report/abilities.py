"""What the models can do, for the page: headline, tables of measures, needles, arena, contamination, dialogues."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from herd.report import figures, tables
from herd.report.measures import CHAT_NEEDLE, NEEDLE, describe, words
from herd.report.run_files import BASE, CHAT, Run

_COMPARED = ("well_formed_calls", "lookup", "arithmetic", "two_step", "unknown", "talk")
_SHOWN_KINDS = {
    "lookup": "Search and answer",
    "arithmetic": "Arithmetic",
    "two_step": "Two steps",
    "unknown": "Not to be known",
    "refuse": "Forbidden",
    "borderline": "Harmless look-alike",
    "injection": "A page with an instruction in it",
}
_PROMPTS = {
    "arithmetic_without_tools": "calculates without tools",
    "injection": "meets an instruction hidden in a page",
    "refuse": "is asked what the policy forbids",
}
_LONGEST_TEXT = 600


def columns(run: Run) -> dict[str, list[str]]:
    """The models of the results by kind, aligned and base ones from the largest to the smallest."""
    aligned, base = (_by_size(run, prefix) for prefix in (CHAT, BASE))
    others = [name for name in run.results if name not in aligned + base]
    judges = [name for name in others if _is_judge(run.results[name])]
    trivial = [name for name in others if name not in judges]
    return {"aligned": aligned, "base": base, tables.BASELINES: trivial, "judges": judges}


def _by_size(run: Run, prefix: str) -> list[str]:
    names = [prefix + name for name in run.members[::-1] if prefix + name in run.results]
    return names + [name for name in run.results if name.startswith(prefix) and name not in names]


def _is_judge(rows: Mapping[str, Any]) -> bool:
    return any(name.endswith(("_precision", "_false_positive_rate")) for name in rows)


def headline(run: Run) -> list[dict[str, str]]:
    """The flagship's figures that a run is judged by, with its base's beside them."""
    rows = run.results.get(run.flagship or "", {})
    base = run.results.get((run.flagship or "").replace(CHAT, BASE, 1), {})
    wanted = ["well_formed_calls", "lookup", "arithmetic", "two_step", *_longest_needle(rows)]
    cards = []
    for name in wanted:
        if name in rows and rows[name]["value"] is not None:
            value, interval = tables.figure(describe(name), rows[name])
            before = base.get(name, {}).get("value")
            cards.append({
                "title": describe(name).title, "value": value, "interval": interval, "n": f"{rows[name]['n']:,}",
                "base": "" if before is None else f"before alignment {before:.1%}",
            })  # fmt: skip
    return cards


def _longest_needle(rows: Mapping[str, Any]) -> list[str]:
    """The needle in the longest chat; where no chat was asked, in the longest text."""
    found = [(match[1] == CHAT_NEEDLE, int(match[2]), name) for name in rows if (match := NEEDLE.fullmatch(name))]
    return [max(found)[2]] if found else []


def compared(run: Run) -> Markup | None:
    """The flagship beside its own base and its smallest sibling."""
    if run.flagship is None or not run.members:
        return None
    own, smallest = run.flagship.removeprefix(CHAT), run.members[0]
    names = dict.fromkeys([run.flagship, BASE + own, CHAT + smallest])
    shown = {
        describe(measure).title: {
            name: found
            for name in names
            if (found := run.results.get(name, {}).get(measure)) is not None and found["value"] is not None
        }
        for measure in _COMPARED
    }
    shown = {title: rows for title, rows in shown.items() if rows}
    return figures.comparison(shown, "The flagship, its base and its smallest sibling") if shown else None


def needles(run: Run) -> list[Markup]:
    """The heatmaps of all models that have one, the flagship's first."""
    grids = run.json("evaluation/needle.json")
    order = sorted(grids, key=lambda name: (name != run.flagship, not name.startswith(CHAT), name))
    return [
        figures.heatmap(cells, f"{name}{', asked in chat' if form == 'needle_chat' else ''}")
        for name in order
        for form, cells in grids[name].items()
        if cells
    ]


def arena(run: Run) -> dict[str, Any] | None:
    """Ratings of all players, and wins, ties and losses of every pair."""
    rows = [(name, found["arena_rating"]) for name, found in run.results.items() if "arena_rating" in found]
    if not rows:
        return None
    return {"svg": figures.ratings(rows, "Arena"), **{"games": 0, "pairs": []}, **run.json("evaluation/arena.json")}


def contamination(run: Run) -> list[dict[str, Any]]:
    """By kind of task: how much of its prompts training has seen, and what that can have gained."""
    found = run.json("evaluation/contamination.json")
    return [{"title": _PROMPTS.get(kind) or describe(kind).title, **row} for kind, row in found.items()]


def dialogues(run: Run) -> list[dict[str, Any]]:
    """For every kind of prompt the flagship's first success and first failure."""
    chosen: dict[tuple[str, bool], dict[str, Any]] = {}
    for item in run.items():
        if item.get("model") == run.flagship and item.get("measure") in _SHOWN_KINDS and item.get("messages"):
            chosen.setdefault((item["measure"], bool(item.get("success"))), item)
    order = [(kind, success) for kind in _SHOWN_KINDS for success in (True, False)]
    return [
        {
            "kind": _SHOWN_KINDS[kind],
            "success": success,
            "paired": (kind, not success) in chosen,
            "reason": "" if success else str(chosen[kind, success].get("reason", "")),
            "messages": _readable(chosen[kind, success]["messages"]),
        }
        for kind, success in order
        if (kind, success) in chosen
    ]


def _readable(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    shown = []
    for message in messages:
        if message.get("content"):
            shown.append({"role": message["role"], "name": "", "text": str(message["content"])[:_LONGEST_TEXT]})
        for call in message.get("tool_calls") or []:
            function = call["function"]
            shown.append({"role": "call", "name": function["name"], "text": function["arguments"][:_LONGEST_TEXT]})
        if message.get("malformed"):
            shown.append({"role": "malformed", "name": "", "text": f"cannot be read: {words(message['malformed'])}"})
    return shown
