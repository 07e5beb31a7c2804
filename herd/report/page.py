"""Writes ``report.html``: ``write_report(Path("runs/pocket"))``, or ``herd report runs/pocket``.

One file with its drawings in it.  A section whose artifacts are not there yet is left out.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

import herd
from herd.foundation.files import write_text
from herd.report import abilities, ledger, making, tables
from herd.report.run_files import Run, open_run
from herd.report.template import packaged, template


def write_report(run_directory: Path) -> Path:
    """Writes the page of a run and returns its path; a directory that is no run is a ``HerdError``."""
    run = open_run(run_directory)
    target = run_directory / "report.html"
    page = template("report.html.jinja").render(style=Markup(packaged("report.css")), **_content(run))
    write_text(target, page)
    return target


def _content(run: Run) -> dict[str, Any]:
    stages, today = run.stages, datetime.now(UTC)
    return {
        "name": run.path.resolve().name,
        "version": herd.__version__,
        "written": f"{today.day} {today:%B %Y}",
        "environment": next(reversed(stages.values()))["environment"],
        "finished": bool(run.results),
        "flagship": run.flagship,
        "headline": abilities.headline(run),
        "compared": abilities.compared(run),
        "dialogues": abilities.dialogues(run),
        "tables": tables.tables(run.results, abilities.columns(run)),
        "needles": abilities.needles(run),
        "arena": abilities.arena(run),
        "contamination": abilities.contamination(run),
        "cost": ledger.cost(run),
        "scaling": making.scaling(run),
        "training": making.training(run),
        "gates": making.gates(run),
        "alignment": making.alignment(run),
        "guard": making.guard(run),
        "funnel": making.funnel(run),
        "mix": making.mix(run),
        "lineage": ledger.lineage(run),
    }
