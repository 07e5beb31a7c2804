"""Writes a corpus's own page: ``write_corpus_report(Path("corpus"))``, or ``herd report corpus``.

The funnel with the throughput of every step, what went and why with samples, the values of the rules for what stayed
and what went, the shares of domains, languages, topics, sources and licences, and families of near-duplicates.  The
page lies beside the corpus (``corpus.html`` for ``corpus/``), since an artifact is not changed after it was made.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

import herd
from herd.foundation.errors import HerdError
from herd.foundation.files import write_text
from herd.report import figures
from herd.report.corpus_files import GROUPS, Corpus, Part, is_corpus, shares
from herd.report.template import packaged, template

_GROUPS_SHOWN, _REASONS_SHOWN = 8, 12
_REJECTS_PER_RULE, _CHARACTERS = 2, 400
_FAMILIES_SHOWN, _VALUES_SHOWN = 4, 12
_FIRST_VALUES = ("words", "quality", "divergence")


def write_corpus_report(directory: Path) -> Path:
    """Writes the page of a corpus and returns its path; a directory that is no corpus is a ``HerdError``."""
    if not is_corpus(directory):
        raise HerdError(f"{directory}: holds no corpus (expected documents/*.parquet and stats.json)")
    place = directory.resolve()
    target = place.with_name(f"{place.name}.html")
    content = _content(Corpus(directory)) | {"name": place.name, "version": herd.__version__}
    write_text(target, template("corpus.html.jinja").render(style=Markup(packaged("report.css")), **content))
    return target


def _content(corpus: Corpus) -> dict[str, Any]:
    stats, today = corpus.stats(), datetime.now(UTC)
    kept, gone = corpus.part("documents", "heldout"), corpus.part("rejects")
    sizes, families = corpus.families(_FAMILIES_SHOWN, _CHARACTERS)
    steps = throughput(stats.get("funnel", []))
    return {
        "written": f"{today.day} {today:%B %Y}",
        "documents": kept.documents,
        "characters": kept.characters,
        "rejected": gone.documents,
        "heldout": steps[-1].get("heldout", 0) if steps else 0,
        "steps": steps,
        "funnel": figures.funnel(steps) if steps else None,
        "rejects": corpus.rejects(_REJECTS_PER_RULE, _CHARACTERS),
        "reasons": _reasons(steps),
        "private": stats.get("private", {}),
        "quality": stats.get("quality", {}),
        "values": _values(kept, gone),
        "groups": {name: shares(kept, name, _GROUPS_SHOWN) for name in GROUPS if len(kept.groups.get(name, ())) > 1},
        "mix": _mix(stats.get("mix", {})),
        "topics": stats.get("topics", {}),
        "whole": stats.get("whole"),
        "decontamination": stats.get("decontamination", {}),
        "families": families,
        "twins": {"families": sizes.total(), "sizes": sorted(sizes.items())},
    }


def throughput(funnel: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The steps with what entered each, and documents and characters a second where its time is known."""
    rows: list[dict[str, Any]] = []
    for step in funnel:
        entered = rows[-1] if rows else None
        seconds = step.get("seconds") or None
        row = {**step, "rate": None, "megabytes": None}
        if entered is not None and seconds and seconds >= 0.01:
            rate = entered["documents"] / seconds
            row |= {"rate": round(rate) if rate >= 10 else rate, "megabytes": entered["characters"] / 1e6 / seconds}
        rows.append(row)
    return rows


def _reasons(steps: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, int]]:
    """The commonest reasons of all steps: step, reason, documents."""
    counts = Counter({(str(step["step"]), str(why)): n for step in steps for why, n in step["removed"].items()})
    return [(step, why, count) for (step, why), count in counts.most_common(_REASONS_SHOWN)]


def _values(kept: Part, gone: Part) -> Markup | None:
    """Distributions of the values in which documents differ, those that people ask for first."""
    names = [name for name, values in kept.values.items() if len(set(values)) > 2]
    names.sort(key=lambda name: (name not in _FIRST_VALUES, list(kept.values).index(name)))
    chosen = names[:_VALUES_SHOWN]
    return (
        figures.distributions({name: (kept.values[name], gone.values.get(name, [])) for name in chosen})
        if chosen
        else None
    )


def _mix(mix: Mapping[str, Any]) -> dict[str, Any] | None:
    if not mix.get("shares"):
        return None
    shown = {"as the sources have it": mix.get("natural", {}), "as weighed": mix["shares"]}
    domains = sorted({domain for row in shown.values() for domain in row})
    return {
        "shares": {name: dict(sorted(row.items())) for name, row in shown.items() if row},
        "colours": figures.colours_of(domains),
        "notes": mix.get("notes", []),
    }
