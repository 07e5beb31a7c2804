"""The verbs of the command line, one thin function each: ``herd --help``.

``runs`` holds the verbs for a whole run, ``planning`` what comes before one, ``scaling`` those for tables of finished
ones, ``data`` and ``models`` those for one stage alone on files of one's own.  What a verb needs is imported when it is
called, so that ``herd --help`` answers at once.  Exit status 0 on success, 2 on a mistake that the user can mend, with
one sentence and no traceback.
"""

from collections.abc import Callable
from typing import Annotated

import typer

import herd
from herd.cli import checkpoints, corpus, data, models, planning, runs, scaling
from herd.cli.help import Verb, Verbs
from herd.cli.options import refusing

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 120},  # a line for each verb, where the terminal has room for it
)
fetch = typer.Typer(help="Bring pages from the web to the disk.", no_args_is_help=True)
quality = typer.Typer(help="Judgements of a corpus' documents.", no_args_is_help=True)
scale = typer.Typer(help="Scaling laws of finished runs, and what they forecast.", no_args_is_help=True)


def main() -> None:
    """The entry point of the ``herd`` command."""
    app()


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


_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "A whole run": (runs.run, planning.plan, runs.report, runs.lineage),
    "Use a model": (runs.chat, runs.serve, checkpoints.convert),
    "Pages and corpus": (
        *(data.pages, corpus.extract, data.curate, corpus.what_if, corpus.decontaminate, corpus.exact_dedup),
        *(corpus.topics, corpus.mix, corpus.blocklist, corpus.take_down, corpus.export),
    ),
    "Tokens and training": (data.tokenizer, data.extend, data.tokenize, models.pretrain, planning.judge_data),
    "Tasks and alignment": (
        *(data.tasks, data.index, data.withhold, models.dialogues, models.sft, models.preferences, models.reward),
        *(models.sample, models.dpo, models.average, models.guard, models.evaluate),
    ),
}
_CORPUS, _TRAINING = list(_PANELS)[2:4]

for _panel, _verbs in _PANELS.items():
    for _verb in _verbs:
        app.command(_verb.__name__.replace("_", "-"), cls=Verb, rich_help_panel=_panel)(refusing(_verb))
scale.command("run", cls=Verb)(refusing(scaling.scale_run))
scale.command("fit")(refusing(scaling.scale_fit))
scale.command("downstream")(refusing(scaling.scale_downstream))
app.add_typer(scale, name="scale", rich_help_panel=_TRAINING)
fetch.command("common-crawl", cls=Verb)(refusing(corpus.common_crawl))
app.add_typer(fetch, name="fetch", rich_help_panel=_CORPUS)
quality.command("label", cls=Verb)(refusing(corpus.label))
quality.command("train", cls=Verb)(refusing(corpus.train))
app.add_typer(quality, name="quality", rich_help_panel=_CORPUS)
