"""The verbs of the command line, one thin function each: ``herd --help``.

Exit status 0 on success, 2 on a mistake that the user can mend, with one sentence and no traceback.
"""

import errno
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

import herd
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress

app = typer.Typer(
    help=herd.__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
RecipeArgument = Annotated[
    str, typer.Argument(help="a recipe file, or the name of one that ships with Herd: pocket, mini")
]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="key=value laid over the recipe; may be repeated")]


def main() -> None:
    """The entry point of the ``herd`` command."""
    try:
        app()
    except HerdError as error:
        _refuse(str(error))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _refuse(f"{error.filename or 'the disk'}: no space left; free some and run the same command again")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one was", file=sys.stderr)
        raise SystemExit(130) from None


def _refuse(sentence: str) -> None:
    print(f"herd: {sentence}", file=sys.stderr)
    raise SystemExit(2) from None


def _version(wanted: bool) -> None:
    if wanted:
        print(f"herd {herd.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Raises a family of Llama-3-style language models, from raw pages to a guarded, served assistant."""


@app.command()
def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the resolved recipe and the plan, run nothing")
    ] = False,
) -> None:
    """Raise the herd: every stage, resumable, then the report."""
    from herd.pipeline.planning import describe_plan
    from herd.pipeline.recipe import load_recipe
    from herd.pipeline.run import raise_herd

    loaded = load_recipe(recipe, overrides or [])
    if dry_run:
        print(json.dumps(loaded.model_dump(mode="json"), indent=2))
        print(describe_plan(loaded))
        return
    print(raise_herd(loaded, Progress()))


@app.command()
def plan(recipe: RecipeArgument, overrides: Overrides = None) -> None:
    """What a recipe will need, stage by stage, before it is spent."""
    from herd.pipeline.planning import describe_plan
    from herd.pipeline.recipe import load_recipe

    print(describe_plan(load_recipe(recipe, overrides or [])))


@app.command()
def lineage(
    artifact: Annotated[Path, typer.Argument(help="a finished artifact, for example runs/pocket/chat-3m")],
) -> None:
    """Where an artifact comes from, back to its sources."""
    from herd.pipeline.lineage import as_text

    print(as_text(artifact))


@app.command()
def chat(
    model: Annotated[Path, typer.Argument(help="a model of a run, for example runs/pocket/chat")],
    guard: Annotated[bool, typer.Option(help="judge prompts, tool results and answers with the run's guard")] = True,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 always takes the likeliest token")] = 0.0,
) -> None:
    """Talk to a model in the terminal; it calls its tools and shows what they return."""
    from herd.serve.terminal import talk

    talk(model, with_guard=guard, temperature=temperature)


@app.command()
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


@app.command()
def report(
    run_directory: Annotated[Path, typer.Argument(metavar="RUN", help="a run, for example runs/pocket")],
) -> None:
    """Write a run's report.html anew from its artifacts."""
    from herd.report.page import write_report

    print(write_report(run_directory))


scale = typer.Typer(help="Scaling laws of finished runs.", no_args_is_help=True)
app.add_typer(scale, name="scale")


@scale.command("fit")
def scale_fit(
    table: Annotated[Path, typer.Argument(help="CSV with the columns budget, params, tokens, loss")],
    at: Annotated[float | None, typer.Option(help="a budget in FLOPs to extrapolate to")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Fit the power law of optimal tokens and the parametric law to a table of IsoFLOP runs."""
    from herd.scaling.table import describe_fit, fit_table

    fitted = fit_table(table, at)
    print(json.dumps(fitted, indent=2) if as_json else describe_fit(fitted))
