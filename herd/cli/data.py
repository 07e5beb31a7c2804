"""The verbs from pages to token shards: ``pages, curate, tasks, index, withhold, tokenizer, extend, tokenize``."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from herd.cli.options import ConfigFile, Out, Overrides, make, numbered, read_settings

Corpus = Annotated[Path, typer.Argument(help="a corpus: what herd curate or herd withhold made")]


def pages(
    out: Out,
    paths: Annotated[
        list[str] | None, typer.Argument(help="files, folders or globs; none: what the settings say")
    ] = None,
    kind: Annotated[Literal["html", "warc", "jsonl", "parquet"], typer.Option(help="what the paths hold")] = "html",
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Gather pages: Python's documentation, or files of your own.

    With paths, the settings are those of one source of that kind; jsonl and parquet have the columns' names besides.
    Without, the setting sources lists several; the default is the documentation of the Python at hand.
    """
    from herd.corpus.collect import PagesConfig, collect
    from herd.corpus.sources import FILE_SOURCES
    from herd.pipeline.outside import sources

    if paths:
        given = [f"paths={json.dumps(paths)}", f"kind={kind}"]
        settings = PagesConfig(sources=(read_settings(FILE_SOURCES[kind], config, [*(overrides or []), *given]),))
    else:
        settings = read_settings(PagesConfig, config, overrides)
    make("pages", settings, {}, out, lambda place, progress: collect(settings, place, progress), sources(settings))


def curate(
    pages: Annotated[Path, typer.Argument(help="what herd pages made")],
    out: Out,
    evaluation_texts: Annotated[
        Path | None, typer.Option(help="JSONL of texts that must stay out of the training documents")
    ] = None,
    sample: Annotated[
        str | None, typer.Option(help="curate this share of the pages, as 1%, and say what all of them would take")
    ] = None,
    core_price: Annotated[float | None, typer.Option(min=0.0, help="with --sample: what a core costs an hour")] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="CORPUS", help="the corpus of an earlier snapshot; again for each, the oldest first"),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Turn pages into a corpus.

    Extract, filter, deduplicate, judge, mix; every reject is kept with its reason.
    """
    from herd.corpus.blocklist import list_digests
    from herd.corpus.curate import CurateConfig
    from herd.corpus.curate import curate as stage
    from herd.corpus.sampling import curate_sample, describe, parse_share
    from herd.foundation.files import read_json

    settings = read_settings(CurateConfig, config, overrides)
    earlier = against or []
    inputs = {"pages": pages} | ({"evaluation texts": evaluation_texts} if evaluation_texts else {})
    inputs |= numbered("earlier snapshot", earlier)
    outside = list_digests(settings.blocklists)
    if sample is None:
        make(
            "curate",
            settings,
            inputs,
            out,
            lambda place, progress: stage(settings, pages, place, progress, evaluation_texts, earlier),
            outside,
        )
        return
    share = parse_share(sample)
    make(
        "curate",
        settings,
        inputs,
        out,
        lambda place, progress: curate_sample(settings, share, pages, place, progress, evaluation_texts, earlier),
        outside | {"sample": f"{share:g}"},
    )
    print(f"  {describe(read_json(out / 'stats.json')['whole'], core_price)}")


def tasks(corpus: Corpus, out: Out, config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Draw questions about a corpus for training and test.

    For calibration too, and what must be held out of training for them.
    """
    from herd.tasks.build import TasksConfig, draw_tasks

    settings = read_settings(TasksConfig, config, overrides)
    passages = corpus / "passages.parquet"
    make(
        "tasks",
        settings,
        {"corpus": corpus},
        out,
        lambda place, progress: draw_tasks(settings, passages, place, progress),
    )


def index(corpus: Corpus, out: Out, config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Build the index that the search tool looks things up in."""
    from herd.tools.search import SearchConfig, build_index

    settings = read_settings(SearchConfig, config, overrides)
    make(
        "index",
        settings,
        {"corpus": corpus},
        out,
        lambda place, progress: build_index(settings, corpus, place, progress),
    )


def withhold(
    corpus: Corpus,
    tasks: Annotated[Path, typer.Argument(help="what herd tasks made from this corpus")],
    out: Out,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Cut out of a corpus what the tasks hold out.

    And what its training documents share with evaluation texts.
    """
    from herd.corpus.decontaminate import DecontaminateConfig, decontaminate
    from herd.foundation.progress import Progress

    settings = read_settings(DecontaminateConfig, config, overrides)

    def run(place: Path, progress: Progress) -> None:
        texts, held_out = tasks / "evaluation_texts.jsonl", tasks / "held_out.jsonl"
        decontaminate(settings, corpus, texts, place, progress, held_out)

    make("withhold", settings, {"corpus": corpus, "tasks": tasks}, out, run)


def tokenizer(corpus: Corpus, out: Out, config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Train a byte-level BPE tokenizer on a corpus."""
    from herd.tokenizer.bpe import TokenizerConfig, train_tokenizer

    settings = read_settings(TokenizerConfig, config, overrides)
    inputs = {"corpus": corpus}
    make("tokenizer", settings, inputs, out, lambda place, progress: train_tokenizer(settings, corpus, place, progress))


def extend(
    tokenizer: Annotated[Path, typer.Argument(help="the tokenizer to begin with: a directory or a rank file")],
    corpus: Corpus,
    out: Out,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Add tokens for more languages to a tokenizer.

    Its own ranks and its English stay as they are.
    """
    from herd.tokenizer.extend import ExtendConfig, extend_tokenizer

    settings = read_settings(ExtendConfig, config, overrides)
    inputs = {"tokenizer": tokenizer, "corpus": corpus}
    make(
        "extend",
        settings,
        inputs,
        out,
        lambda place, progress: extend_tokenizer(settings, tokenizer, corpus, place, progress),
    )


def tokenize(
    corpus: Corpus,
    tokenizer: Annotated[Path, typer.Argument(help="a tokenizer's directory, or a model's")],
    out: Out,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Turn a corpus into memory-mapped token shards."""
    from herd.train.shards import TokenizeConfig
    from herd.train.shards import tokenize as stage

    settings = read_settings(TokenizeConfig, config, overrides)
    inputs = {"corpus": corpus, "tokenizer": tokenizer}
    make("tokenize", settings, inputs, out, lambda place, progress: stage(settings, corpus, tokenizer, place, progress))
