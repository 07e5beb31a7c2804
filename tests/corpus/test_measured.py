"""Floors for what the benchmarks of this room measure on labelled data; skipped where the data is not."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from herd.corpus.dedup import DedupConfig

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"


def _bench(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / "bench" / "corpus" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _data(path: str) -> Path:
    if not (DATA / path).exists():
        pytest.skip(f"needs the labelled data {path}")
    return DATA / path


@pytest.mark.parametrize("count", [100, 1000])
def test_near_duplicates(count: int) -> None:
    base = _data(f"neardup/articles/articles_{count}.train").with_suffix("")
    result = _bench("near_duplicates").measure(base, DedupConfig())
    assert result.known in (5, 10)
    assert result.right == result.known == result.found


def test_privacy() -> None:
    table = _bench("privacy").measure(_data("pii/presidio/synth_dataset_v2.json"))
    for kind, (labels, found, findings, right) in table.items():
        assert found / labels >= (0.88 if kind == "PHONE" else 0.97), kind
        assert right / findings >= 0.95, kind


def test_language() -> None:
    table = _bench("language").measure(_data("langid/pud/pud.jsonl.gz"))
    assert min(right / seen for seen, right in table.values()) >= 0.99
    assert sum(right for _, right in table.values()) / sum(seen for seen, _ in table.values()) >= 0.995
