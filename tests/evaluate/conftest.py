"""A miniature run to evaluate: real docstrings as passages, drawn tasks, an index, tiny random models."""

import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from herd.formats.huggingface import save_model
from herd.foundation.progress import Progress
from herd.infer.engine import Engine
from herd.tasks.build import Counts, TasksConfig, draw_tasks
from herd.tokenizer.bpe import train_bpe
from herd.tools.search import SearchConfig, build_index
from tests.small import small_model

_MODULES = ("shutil", "textwrap", "statistics", "calendar", "fractions", "ast", "inspect", "random", "os", "pathlib")


@dataclass(frozen=True)
class Bench:
    """Directories of the miniature run."""

    corpus: Path
    tasks: Path
    index: Path
    models: dict[str, Path]


def _passages() -> list[dict[str, str]]:
    rows = []
    for module in map(importlib.import_module, _MODULES):
        for name, member in inspect.getmembers(module):
            text = inspect.getdoc(member) if inspect.isroutine(member) or inspect.isclass(member) else None
            if text and not name.startswith("_") and getattr(member, "__module__", None) == module.__name__:
                dotted = f"{module.__name__}.{name}"
                row = {"document_id": dotted, "name": dotted, "signature": f"{name}()", "text": text, "url": dotted}
                rows.append(row | {"package": "stdlib", "summary": " ".join(text.split("\n\n")[0].split())})
    return rows


def make_model(tokenizer_dir: Path, vocabulary: int, out: Path, seed: int) -> Path:
    """A random model of two layers whose logits are so large that its choices are firm."""
    model = small_model(vocabulary, seed, max_positions=1024)
    with torch.no_grad():
        model.embedding.weight.mul_(25)
    save_model(model, tokenizer_dir, out)
    return out


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("bench")
    corpus, tasks, index, tokenizer_dir = (root / name for name in ("corpus", "tasks", "index", "tokenizer"))
    for folder in (corpus / "documents", corpus / "heldout", tasks, index, tokenizer_dir):
        folder.mkdir(parents=True)
    rows = _passages()
    pq.write_table(pa.Table.from_pylist(rows), corpus / "passages.parquet")
    for folder, part in (("documents", rows[40:]), ("heldout", rows[:40])):
        texts = [
            {"id": row["name"], "title": row["name"], "text": row["text"], "domain": ("general", "code")[i % 2]}
            for i, row in enumerate(part)
        ]
        pq.write_table(pa.Table.from_pylist(texts), corpus / folder / "0.parquet")
    draw_tasks(_tasks_config(), corpus, tasks, Progress.silent())
    build_index(SearchConfig(), corpus, index, Progress.silent())
    tokenizer = train_bpe((row["text"] for row in rows), 1024)
    tokenizer.save(tokenizer_dir)
    models = {
        name: make_model(tokenizer_dir, tokenizer.vocab_size, root / name, seed)
        for seed, name in enumerate(("base-tiny", "chat-tiny"))
    }
    return Bench(corpus, tasks, index, models)


def _tasks_config() -> TasksConfig:
    few = Counts(lookup=8, arithmetic=8, two_step=8, unknown=6, refuse=6, borderline=6, talk=4, injection=6)
    return TasksConfig(test_sentences=20, calibration_sentences=5, train=few, calibration=few, test=few)


@pytest.fixture(scope="session")
def engine(bench: Bench) -> Engine:
    return Engine.load(bench.models["chat-tiny"])
