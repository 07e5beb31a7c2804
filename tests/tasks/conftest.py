"""Tasks drawn from the documentation of a few modules of this very Python, with a search index over the same."""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from herd.corpus.passages import first_sentence
from herd.foundation.progress import Progress
from herd.tasks.build import Counts, TasksConfig, draw_tasks
from herd.tasks.solve import Tools
from herd.tasks.task import SPLITS, Split, Task, read_tasks
from herd.tools.search import SearchConfig, SearchIndex, build_index

MODULES = re.findall(
    r"\S+",
    "json os os.path shutil re math statistics pathlib textwrap string random threading subprocess logging argparse "
    "collections datetime ast email.message xml.dom.minidom zipfile tarfile decimal fractions inspect http.client ssl",
)
FEW = Counts(lookup=60, arithmetic=60, two_step=60, unknown=30, refuse=40, borderline=40, talk=15, injection=30)
CONFIG = TasksConfig(
    test_sentences=60, calibration_sentences=30, train=FEW.model_copy(update={"talk": 100}), calibration=FEW, test=FEW
)


def rows() -> list[dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for module in MODULES:
        for name, value in sorted(vars(importlib.import_module(module)).items()):
            members = {name: value}
            if inspect.isclass(value):
                members |= {f"{name}.{member}": inner for member, inner in sorted(vars(value).items())}
            for path, member in members.items():
                text = inspect.getdoc(member)
                if text and callable(member) and not any(part.startswith("_") for part in path.split(".")):
                    full = f"{module}.{path}"
                    place = {"document_id": f"doc-{module}", "url": f"pydoc:{module}", "package": "python"}
                    words = {"text": f"{full}()\n{text}", "summary": first_sentence(text)}
                    found.setdefault(full, {"name": full, "signature": f"{full}()", **place, **words})
    return list(found.values())


@pytest.fixture(scope="session")
def config() -> TasksConfig:
    return CONFIG


@pytest.fixture(scope="session")
def passages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("corpus") / "passages.parquet"
    pq.write_table(pa.Table.from_pylist(rows()), file)
    return file


@pytest.fixture(scope="session")
def drawn(passages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tasks")
    draw_tasks(CONFIG, passages, out, Progress.silent())
    return out


@pytest.fixture(scope="session")
def tasks(drawn: Path) -> dict[Split, list[Task]]:
    return {split: list(read_tasks(drawn, split)) for split in SPLITS}


@pytest.fixture(scope="session")
def tools(passages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    """Real search; the code of gold trajectories is harmless, so that it needs no sandbox here."""
    out = tmp_path_factory.mktemp("index")
    build_index(SearchConfig(), passages, out, Progress.silent())
    index = SearchIndex(out)

    def python(code: str) -> str:
        try:
            return f"completed\n[stdout]{eval(code, {})}[/stdout]"
        except Exception as error:
            return f"failed\n[stderr]{error}[/stderr]"

    yield {"search": index.answer, "python": python}
    index.close()
