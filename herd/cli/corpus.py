"""The verbs around a corpus, on files of one's own: ``herd fetch | extract | what-if | decontaminate | quality``.

``topics`` and ``mix`` make its mix.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from herd.cli.options import ConfigFile, Out, Overrides, make, numbered, read_settings


def extract(
    file: Annotated[str, typer.Argument(metavar="[FILE|-]", help="an HTML file; - or nothing: standard input")] = "-",
    form: Annotated[Literal["text", "markdown", "json"], typer.Option("--format", help="what to print")] = "text",
    url: Annotated[str | None, typer.Option(help="where the page was found: makes its links whole")] = None,
) -> None:
    """Print the main text of one HTML page.

    As JSON it comes with title, author, date, language and links.
    """
    import json

    from herd.corpus.extract import MOST_BYTES
    from herd.corpus.extract import extract as read
    from herd.foundation.errors import HerdError

    with sys.stdin.buffer if file == "-" else Path(file).open("rb") as stream:
        found = read(stream.read(MOST_BYTES + 1), url)
    if found.refused:
        raise HerdError(f"{'standard input' if file == '-' else file}: {found.refused}")
    names = ("title", "author", "date", "language", "text", "links")
    row = {name: getattr(found, name) for name in names}
    shown = {"text": found.text, "markdown": found.markdown, "json": json.dumps(row, ensure_ascii=False, indent=2)}
    typer.echo(shown[form].encode("utf-8", "replace"))


def common_crawl(
    snapshot: Annotated[str, typer.Option(help="as CC-MAIN-2024-10")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="where to; a second call brings what is missing")],
    segments: Annotated[str, typer.Option(help="numbers from 0, ranges and names, as 0-3,7; none: list them")] = "",
    files: Annotated[int | None, typer.Option(min=1, help="how many files of each segment; all, if left out")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """List or download segments of a Common Crawl snapshot.

    A download goes on where an earlier call was.
    """
    import json

    from herd.corpus.fetch import CommonCrawlConfig, fetch, list_segments
    from herd.foundation.progress import Progress

    given = [f"snapshot={json.dumps(snapshot)}"]
    given += [f"segments={json.dumps(segments)}"] if segments else []
    given += [f"files={files}"] if files else []
    settings = read_settings(CommonCrawlConfig, config, [*given, *(overrides or [])])
    if not settings.segments:
        for number, (name, paths) in enumerate(list_segments(settings).items()):
            typer.echo(f"{number}\t{name}\t{len(paths)} files")
        return
    print(f"{out}: {len(fetch(settings, out, Progress(sys.stderr)))} files are there")


def what_if(
    corpus: Annotated[Path, typer.Argument(help="a corpus that Herd made")],
    limits: Annotated[list[str], typer.Argument(metavar="LIMIT...", help="new limits, as in 'words>=50'")],
    form: Annotated[Literal["text", "json"], typer.Option("--format", help="what to print")] = "text",
) -> None:
    """Print what a corpus would keep under other thresholds.

    By source, language, domain and year, without a new run.
    """
    import json

    from herd.corpus.rules import HeuristicsConfig
    from herd.corpus.what_if import as_text
    from herd.corpus.what_if import what_if as tell
    from herd.pipeline.lineage import ancestors

    made_by = (ancestor.manifest.config.get("heuristics") for ancestor in ancestors(corpus))
    settings: dict[str, object] = next((found for found in made_by if found is not None), {})
    table = tell(corpus, limits, HeuristicsConfig.model_validate(settings))
    typer.echo(json.dumps(table, ensure_ascii=False, indent=2) if form == "json" else as_text(table))


def decontaminate(
    corpus: Annotated[Path, typer.Argument(help="a corpus that Herd made")],
    benchmarks: Annotated[
        list[Path], typer.Argument(help="files or folders of evaluation sets: JSONL, JSON, CSV, TSV, Parquet, text")
    ],
    out: Out,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Cut out of a corpus what it shares with evaluation sets.

    Training documents are cut, and each set is reported.
    """
    from herd.corpus.decontaminate import DecontaminateConfig, as_text
    from herd.corpus.decontaminate import decontaminate as stage
    from herd.foundation.files import read_json

    settings = read_settings(DecontaminateConfig, config, overrides)
    inputs = {"corpus": corpus, **numbered("benchmark", benchmarks)}
    make(
        "decontaminate",
        settings,
        inputs,
        out,
        lambda place, progress: stage(settings, corpus, benchmarks, place, progress, name_items=True),
    )
    typer.echo(as_text(read_json(out / "stats.json")["decontamination"]))


def label(
    corpus: Annotated[Path, typer.Argument(help="a corpus that Herd made")],
    endpoint: Annotated[str, typer.Option(help="an OpenAI-compatible API, as http://127.0.0.1:8080/v1")],
    model: Annotated[str, typer.Option(help="the model's name there")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="where to; the same call goes on")],
    documents: Annotated[int | None, typer.Option(min=1, help="how many documents are judged")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Ask a chat model how good documents of a corpus are.

    Its judgements train a quality classifier.
    """
    import json

    from herd.corpus.label import LabelConfig
    from herd.corpus.label import label as ask
    from herd.foundation.files import read_json
    from herd.foundation.progress import Progress

    given = [f"endpoint={json.dumps(endpoint)}", f"model={json.dumps(model)}"]
    given += [f"documents={documents}"] if documents else []
    ask(read_settings(LabelConfig, config, [*given, *(overrides or [])]), corpus, out, Progress(sys.stderr))
    stats = read_json(out / "stats.json")
    print(f"{out}: {stats['judged']} documents judged, {stats['unanswered']} without a usable answer")


def train(
    corpus: Annotated[Path, typer.Argument(help="a corpus that Herd made")],
    judgements: Annotated[Path, typer.Argument(help="judgements.jsonl of herd quality label")],
    out: Out,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Train a quality classifier on judgements.

    It is calibrated and measured on unseen sites, and scores the whole corpus.
    """
    from herd.corpus.labelled_quality import LabelledQualityConfig, train_on_labels

    settings = read_settings(LabelledQualityConfig, config, overrides)
    make(
        "quality train",
        settings,
        {"corpus": corpus, "judgements": judgements},
        out,
        lambda place, progress: train_on_labels(settings, corpus, judgements, place, progress),
    )


def topics(
    labels: Annotated[Path, typer.Argument(help="JSONL with text and topic, and site or url where known")],
    out: Out,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Train a classifier of topics on labelled texts.

    It is measured on sites that training never saw.
    """
    from herd.corpus.topics import TopicsConfig, train_topics

    settings = read_settings(TopicsConfig, config, overrides)
    make(
        "topics",
        settings,
        {"labels": labels},
        out,
        lambda place, progress: train_topics(settings, labels, place, progress),
    )


def mix(
    corpus: Annotated[Path, typer.Argument(help="a corpus that Herd made")],
    out: Out,
    topics: Annotated[Path | None, typer.Option(help="what herd topics made; for limits on topics")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Bring a corpus to its mix of topics, domains and languages.

    Documents of common topics are drawn out, the others get weights by domain and language.
    """
    from herd.corpus.weigh import WeighConfig, weigh
    from herd.foundation.files import read_json

    settings = read_settings(WeighConfig, config, overrides)
    inputs = {"corpus": corpus} | ({"topics": topics} if topics else {})
    make("mix", settings, inputs, out, lambda place, progress: weigh(settings, corpus, place, progress, topics))
    for note in read_json(out / "stats.json")["mix"]["notes"]:
        print(f"  {note}")


def blocklist(
    corpora: Annotated[list[Path], typer.Argument(help="corpora that Herd made, with their rejects")],
    out: Out,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Learn from corpora which domains to keep out.

    Adult ones, and those with much personal data.
    """
    from herd.corpus.blocklist import LearnConfig, learn
    from herd.foundation.files import read_json

    settings = read_settings(LearnConfig, config, overrides)
    inputs = numbered("corpus", corpora)
    make("blocklist", settings, inputs, out, lambda place, progress: learn(settings, corpora, place, progress))
    stats = read_json(out / "stats.json")
    kinds = " and ".join(f"{count} {kind}" for kind, count in stats["blocked"].items())
    print(f"{out / 'blocked.txt'}: {kinds} domains of {stats['judged']} with enough pages")


def exact_dedup(
    corpus: Annotated[Path, typer.Argument(help="a corpus that Herd made")],
    out: Out,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Cut passages that a corpus holds word for word twice.

    The copy of the best document stays.
    """
    from herd.corpus.substrings import SubstringConfig, drop_substrings
    from herd.foundation.files import read_json

    settings = read_settings(SubstringConfig, config, overrides)
    inputs = {"corpus": corpus}
    make(
        "exact-dedup", settings, inputs, out, lambda place, progress: drop_substrings(settings, corpus, place, progress)
    )
    step = read_json(out / "stats.json")["funnel"][-1]
    print(f"  {step['tokens_cut']:,} tokens cut from {step['documents_cut']:,} documents")


def take_down(
    corpus: Annotated[Path, typer.Argument(help="a corpus, or pages, that Herd made")],
    out: Out,
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="a document; may be given again, as all of these")
    ] = None,
    urls: Annotated[list[str] | None, typer.Option("--url", help="an address")] = None,
    domains: Annotated[list[str] | None, typer.Option("--domain", help="a domain with all below it")] = None,
    sources: Annotated[list[str] | None, typer.Option("--source", help="a source by name")] = None,
    licenses: Annotated[list[str] | None, typer.Option("--license", help="a licence, * for any text")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Write a corpus or its pages anew without what is named.

    Says which shards and artifacts it touches.
    """
    import json

    from herd.corpus.removal import TakeDownConfig
    from herd.corpus.removal import take_down as stage
    from herd.foundation.files import read_json
    from herd.pipeline.lineage import descendants

    asked = {"ids": ids, "urls": urls, "domains": domains, "sources": sources, "licenses": licenses}
    given = [f"{name}={json.dumps(values)}" for name, values in asked.items() if values]
    settings = read_settings(TakeDownConfig, config, [*given, *(overrides or [])])
    make(
        "take-down", settings, {"corpus": corpus}, out, lambda place, progress: stage(settings, corpus, place, progress)
    )
    found = read_json(out / "stats.json")["take-down"]
    counts = ", ".join(f"{count} of {folder}" for folder, count in found["removed"].items())
    print(f"  gone: {counts}, {found['passages']} passages; see removed.jsonl")
    print(f"  shards that changed: {', '.join(found['shards'])}")
    for name in found["not found"]:
        print(f"  not found: {name}")
    if made := [name for name in descendants(corpus) if (corpus.parent / name).resolve() != out.resolve()]:
        print(f"  made from {corpus} and still holding it: {', '.join(made)}")


def export(
    corpus: Annotated[Path, typer.Argument(help="a corpus that Herd made")],
    licenses: Annotated[list[str], typer.Option("--license", help="a licence that stays, * for any text")],
    out: Out,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Write out a corpus' documents under the given licences."""
    import json

    from herd.corpus.removal import ExportConfig
    from herd.corpus.removal import export as stage
    from herd.foundation.files import read_json

    settings = read_settings(ExportConfig, config, [f"licenses={json.dumps(licenses)}", *(overrides or [])])
    make("export", settings, {"corpus": corpus}, out, lambda place, progress: stage(settings, corpus, place, progress))
    for name, count in read_json(out / "stats.json")["export"]["licenses"].items():
        print(f"  {count:>9,}  {name}")
