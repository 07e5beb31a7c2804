"""The verbs for a whole run and what it made: ``herd run | report | lineage | chat | serve``."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from herd.cli.options import Overrides

RecipeArgument = Annotated[
    str, typer.Argument(help="a recipe file, or the name of one that ships with Herd: pocket, mini, mix-search")
]


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the resolved recipe and the plan, run nothing")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="stages at the same time; two where there is no GPU, unless told")
    ] = None,
) -> None:
    """Raise the herd: every stage, resumable, then the report."""
    from herd.foundation.progress import Progress
    from herd.pipeline.recipe_file import recipe_kind, recipe_path
    from herd.pipeline.standing import question, still_stands

    if recipe_kind(recipe) == "mix-search":
        _search_mixes(recipe, overrides or [], dry_run)
        return
    file, progress = recipe_path(recipe), Progress(sys.stderr)
    asked = question(file, overrides or [])
    if not dry_run and (sentence := still_stands(file, overrides or [], progress)):
        print(sentence)
        return
    # Only now what trains is loaded.
    from herd.pipeline.planning import describe_plan
    from herd.pipeline.recipe import load_recipe
    from herd.pipeline.run import raise_herd

    loaded = load_recipe(recipe, overrides or [])
    if dry_run:
        print(json.dumps(loaded.model_dump(mode="json"), indent=2))
        print(describe_plan(loaded))
        return
    print(raise_herd(loaded, asked, progress, jobs))


def _search_mixes(recipe: str, overrides: list[str], dry_run: bool) -> None:
    from herd.foundation.progress import Progress
    from herd.pipeline.mix_search import describe_search, load_mix_search, search_mixes

    loaded = load_mix_search(recipe, overrides)
    if dry_run:
        print(json.dumps(loaded.model_dump(mode="json"), indent=2))
        print(describe_search(loaded))
        return
    print(search_mixes(loaded, Progress(sys.stderr)))


def lineage(
    artifact: Annotated[Path, typer.Argument(help="a finished artifact, for example runs/pocket/chat-900k")],
) -> None:
    """Where an artifact comes from, back to its sources."""
    from herd.pipeline.lineage import as_text

    print(as_text(artifact))


def chat(
    model: Annotated[Path, typer.Argument(help="a model of a run, for example runs/pocket/chat")],
    guard: Annotated[bool, typer.Option(help="judge prompts, tool results and answers with the run's guard")] = True,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 always takes the likeliest token")] = 0.0,
) -> None:
    """Talk to a model in the terminal.

    It calls its tools and shows what they return.
    """
    from herd.serve.terminal import talk

    talk(model, with_guard=guard, temperature=temperature)


def serve(
    model: Annotated[Path, typer.Argument(help="a model of a run, for example runs/pocket/chat")],
    host: Annotated[str, typer.Option(help="the address to listen on; only this machine unless told")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8080,
    guard: Annotated[bool, typer.Option(help="judge prompts, tool results and answers with the run's guard")] = True,
    api_key: Annotated[str | None, typer.Option(envvar="HERD_API_KEY", help="ask every client for this key")] = None,
) -> None:
    """Serve a model: the OpenAI-compatible API and the chat page."""
    from herd.serve.app import serve_model

    serve_model(model, host=host, port=port, with_guard=guard, api_key=api_key)


def report(
    directory: Annotated[
        Path, typer.Argument(metavar="RUN|CORPUS", help="a run, for example runs/pocket, or a corpus")
    ],
) -> None:
    """Write the report of a run, or the page about a corpus.

    report.html in the run, anew from its artifacts; CORPUS.html beside a corpus.
    """
    from herd.report.corpus_files import is_corpus
    from herd.report.corpus_page import write_corpus_report
    from herd.report.page import write_report

    print(write_corpus_report(directory) if is_corpus(directory) else write_report(directory))
