"""A small index of real documentation, cut with the corpus' own rules."""

import inspect
import json
import os.path
import shutil
import string
import textwrap
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from herd.corpus.passages import first_sentence
from herd.foundation.progress import Progress
from herd.tools.search import SearchConfig, SearchIndex, build_index

MODULES: dict[str, ModuleType] = {
    "json": json,
    "os.path": os.path,
    "shutil": shutil,
    "string": string,
    "textwrap": textwrap,
}


def rows() -> list[dict[str, str]]:
    found = []
    for module, namespace in MODULES.items():
        for name, value in sorted(vars(namespace).items()):
            text = inspect.getdoc(value)
            if name.startswith("_") or not text or not (inspect.isfunction(value) or inspect.isclass(value)):
                continue
            signature = f"{module}.{name}" + ("" if inspect.isclass(value) else str(inspect.signature(value)))
            row = {"name": f"{module}.{name}", "signature": signature, "text": f"{signature}\n{text}"}
            place = {"document_id": f"doc-{module}", "url": f"pydoc:{module}", "package": "python"}
            found.append({**row, **place, "summary": first_sentence(text)})
    return found


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("corpus")
    pq.write_table(pa.Table.from_pylist(rows()), place / "passages.parquet")
    return place


@pytest.fixture(scope="session")
def index(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchIndex:
    out = tmp_path_factory.mktemp("index")
    build_index(SearchConfig(), corpus, out, Progress.silent())
    return SearchIndex(out)
