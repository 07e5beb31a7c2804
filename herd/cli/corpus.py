"""The verbs around a corpus, on files of one's own: ``herd extract | what-if``."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer


def extract(
    file: Annotated[str, typer.Argument(metavar="[FILE|-]", help="an HTML file; - or nothing: standard input")] = "-",
    form: Annotated[Literal["text", "markdown", "json"], typer.Option("--format", help="what to print")] = "text",
    url: Annotated[str | None, typer.Option(help="where the page was found: makes its links whole")] = None,
) -> None:
    """Print the main text of one HTML page; as JSON with its title, author, date, language and links."""
    import json

    from herd.corpus.extract import extract as read
    from herd.foundation.errors import HerdError

    found = read(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes(), url)
    if found.refused:
        raise HerdError(f"{'standard input' if file == '-' else file}: {found.refused}")
    names = ("title", "author", "date", "language", "text", "links")
    row = {name: getattr(found, name) for name in names}
    shown = {"text": found.text, "markdown": found.markdown, "json": json.dumps(row, ensure_ascii=False, indent=2)}
    typer.echo(shown[form].encode("utf-8", "replace"))


def what_if(
    corpus: Annotated[Path, typer.Argument(help="a corpus that Herd made")],
    limits: Annotated[list[str], typer.Argument(metavar="LIMIT...", help="new limits, as in 'words>=50'")],
    form: Annotated[Literal["text", "json"], typer.Option("--format", help="what to print")] = "text",
) -> None:
    """Print what a corpus would keep under other thresholds, by source, language, domain and year; no new run."""
    import json

    from herd.corpus.rules import HeuristicsConfig
    from herd.corpus.what_if import as_text
    from herd.corpus.what_if import what_if as tell
    from herd.pipeline.lineage import ancestors

    made_by = (ancestor.manifest.config.get("heuristics") for ancestor in ancestors(corpus))
    settings = next((found for found in made_by if found is not None), {})
    table = tell(corpus, limits, HeuristicsConfig.model_validate(settings))
    typer.echo(json.dumps(table, ensure_ascii=False, indent=2) if form == "json" else as_text(table))
