"""From pages to what is trained on, asked about and searched.

The corpus is curated first, the tasks are drawn from its passages, and only then is the training set cut: passages of
held-out functions stay in the search index and leave the documents, so that an answer must be read and cannot be
remembered.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from herd.corpus.blocklist import list_digests
from herd.corpus.collect import collect
from herd.corpus.curate import curate
from herd.corpus.decontaminate import decontaminate
from herd.foundation.progress import Progress
from herd.pipeline.graph import Stage
from herd.pipeline.outside import sources
from herd.pipeline.recipe import Recipe
from herd.tasks.build import draw_tasks
from herd.tokenizer.bpe import train_tokenizer
from herd.tools.search import build_index
from herd.train.echo import add_echoes
from herd.train.shards import tokenize

Inputs = Mapping[str, Path]


def data_stages(recipe: Recipe) -> list[Stage]:
    """``pages``, ``corpus``, ``tasks``, ``search``, ``documents``, ``tokenizer``, ``tokens``."""

    def pages(inputs: Inputs, out: Path, progress: Progress) -> None:
        collect(recipe.pages, out, progress)

    def corpus(inputs: Inputs, out: Path, progress: Progress) -> None:
        curate(recipe.corpus, inputs["pages"], out, progress)

    def tasks(inputs: Inputs, out: Path, progress: Progress) -> None:
        draw_tasks(recipe.tasks, inputs["corpus"] / "passages.parquet", out, progress)

    def search(inputs: Inputs, out: Path, progress: Progress) -> None:
        build_index(recipe.search, inputs["corpus"], out, progress)

    def documents(inputs: Inputs, out: Path, progress: Progress) -> None:
        texts, held_out = (inputs["tasks"] / name for name in ("evaluation_texts.jsonl", "held_out.jsonl"))
        decontaminate(recipe.decontaminate, inputs["corpus"], texts, out, progress, held_out)

    def tokenizer(inputs: Inputs, out: Path, progress: Progress) -> None:
        train_tokenizer(recipe.tokenizer, inputs["documents"], out, progress)

    def tokens(inputs: Inputs, out: Path, progress: Progress) -> None:
        tokenize(recipe.tokens, inputs["documents"], inputs["tokenizer"], out, progress)
        add_echoes(recipe.echoes, out, progress)

    return [
        Stage("pages", pages, recipe.part("pages"), outside=partial(sources, recipe.pages), whole_machine=True),
        Stage(
            "corpus",
            corpus,
            recipe.part("corpus"),
            {"pages": "pages"},
            partial(list_digests, recipe.corpus.blocklists),
            whole_machine=True,
        ),
        Stage("tasks", tasks, recipe.part("tasks"), {"corpus": "corpus"}),
        Stage("search", search, recipe.part("search"), {"corpus": "corpus"}),
        Stage("documents", documents, recipe.part("decontaminate"), {"corpus": "corpus", "tasks": "tasks"}),
        Stage("tokenizer", tokenizer, recipe.part("tokenizer"), {"documents": "documents"}),
        Stage("tokens", tokens, recipe.part("tokens", "echoes"), {"documents": "documents", "tokenizer": "tokenizer"}),
    ]
