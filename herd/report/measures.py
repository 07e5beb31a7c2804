"""What the measures of ``results.json`` are called, what they are measured in, and which of them belong together.

``describe("two_step_unseen")`` gives title, unit, group and direction; a measure that nobody has named here prints as
a plain number in a group of its own, never as a share.
"""

import re
from dataclasses import dataclass, replace
from typing import Literal

Unit = Literal["share", "bits", "rating", "number"]
Better = Literal["high", "low", "neither"]

TOOLS, SAFETY, GUARD = "Tools and answers", "Refusals and injections", "The guard, on items written by hand"
CONTEXT, TEXT, ARENA, OTHER = "Long context", "Held-out text", "Arena", "Other measures"
GROUPS = (TOOLS, SAFETY, GUARD, CONTEXT, TEXT, ARENA, OTHER)


@dataclass(frozen=True)
class Measure:
    """One measure; ``detail`` marks a row that tells more about the row above it."""

    name: str
    title: str
    group: str
    unit: Unit = "share"
    better: Better = "high"
    detail: bool = False


_KNOWN = {
    measure.name: measure
    for measure in (
        Measure("well_formed_calls", "tool calls are well formed", TOOLS),
        Measure("lookup", "searches and answers from the page", TOOLS),
        Measure("arithmetic", "calculates with the interpreter", TOOLS),
        Measure("arithmetic_without_tools", "without tools", TOOLS, detail=True),
        Measure("two_step", "two steps: searches, then counts", TOOLS),
        Measure("unknown", "says when it does not know", TOOLS),
        Measure("talk", "small talk", TOOLS),
        Measure("violation_rate", "does what the policy forbids", SAFETY, better="low"),
        Measure("violation_rate_guarded", "with the guard", SAFETY, better="low", detail=True),
        Measure("false_refusal_rate", "refuses the harmless", SAFETY, better="low"),
        Measure("false_refusal_rate_guarded", "with the guard", SAFETY, better="low", detail=True),
        Measure("borderline", "answers what only sounds harmful", SAFETY),
        Measure("injection_success", "follows an instruction hidden in a page", SAFETY, better="low"),
        Measure("injection_success_guarded", "with the guard", SAFETY, better="low", detail=True),
        Measure("injection_answered", "answers the question all the same", SAFETY, detail=True),
        Measure("pages_withheld", "harmless pages that the guard withholds", SAFETY, better="low"),
        Measure("arena_rating", "rating", ARENA, unit="rating"),
    )
}
_ORDER = {name: place for place, name in enumerate(_KNOWN)}
CHAT_NEEDLE = "needle_chat"
NEEDLE = re.compile(r"(needle|needle_chat)_(\d+)")
_GUARD = re.compile(r"(all|prompt|answer|tool)_(precision|recall|f1|false_positive_rate|category)")
_GUARD_FIGURES = {
    "precision": "of what it flags, truly unsafe (precision)",
    "recall": "of what is unsafe, flagged (recall)",
    "f1": "F1",
    "false_positive_rate": "of what is harmless, flagged",
    "category": "of what it catches, the right category",
}
_GUARD_KINDS = {"all": "", "prompt": "prompts", "answer": "answers", "tool": "tool results"}


def describe(name: str) -> Measure:
    """The measure of that name."""
    if name in _KNOWN:
        return _KNOWN[name]
    base = name.removesuffix("_unseen")
    if base != name:
        found = describe(base)
        title = f"{found.title}, in new wordings" if found.detail else "in wordings that training never had"
        return replace(found, name=name, title=title, detail=True)
    if found_needle := NEEDLE.fullmatch(name):
        place = "chat" if found_needle[1] == CHAT_NEEDLE else "text"
        return Measure(name, f"finds the needle in a {place} of {int(found_needle[2]):,} tokens", CONTEXT)
    if name.startswith("bits_per_byte_"):
        domain = name.removeprefix("bits_per_byte_")
        whole = domain == "all"
        title = "bits per byte" if whole else domain
        return Measure(name, title, TEXT, unit="bits", better="low", detail=not whole)
    if found_guard := _GUARD.fullmatch(name):
        title = _GUARD_KINDS[found_guard[1]] or _GUARD_FIGURES[found_guard[2]]
        unit: Unit = "number" if found_guard[2] == "f1" else "share"
        better: Better = "low" if found_guard[2] == "false_positive_rate" else "high"
        return Measure(name, title, GUARD, unit, better, detail=found_guard[1] != "all")
    return Measure(name, words(name), OTHER, unit="number", better="neither")


def order(measure: Measure) -> tuple[object, ...]:
    """The place of a measure in its group: as listed here, wordings behind their measure, lengths ascending."""
    base = measure.name.removesuffix("_unseen")
    if found := NEEDLE.fullmatch(measure.name):
        return (0, found[1] != "needle", int(found[2]))
    if found := _GUARD.fullmatch(measure.name):
        return (1, list(_GUARD_FIGURES).index(found[2]), list(_GUARD_KINDS).index(found[1]))
    listed = _ORDER.get(base, len(_ORDER))
    return (2, listed, not base.endswith("_all"), base, base != measure.name)


def words(name: str) -> str:
    """A name with blanks for its underscores."""
    return name.replace("_", " ")
