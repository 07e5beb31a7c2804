"""Every engine curates to the same corpus: Daft embedded, and Daft on a Ray cluster of two nodes.

A run is a process of its own, since Daft has one engine a process, and is judged by the file that it writes last.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from herd.corpus.curate import CurateConfig, curate
from herd.corpus.dedup import NOWHERE, DedupConfig, families
from herd.corpus.engine import EngineConfig, LocalEngine, open_engine
from herd.corpus.pages import Page
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from tests.corpus.test_curate import LEAK, _page, _prose, artifact, some_pages

ROOT = Path(__file__).parents[2]
needs_daft = pytest.mark.skipif(find_spec("daft") is None, reason="the extra cluster is not installed")
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra cluster is not installed")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = artifact(tmp_path_factory.mktemp("engine"), some_pages())
    (place / "exam.jsonl").write_text(json.dumps({"question": LEAK}) + "\n")
    artifact(place / "newer", _newer_pages())
    return place


def _newer_pages() -> list[Page]:
    """Pages of their own, two of them alike, and such as the earlier snapshot has in its own words or nearly so."""
    pages = [_page(f"q{n}", _prose(100 + n), date="2024-05-01") for n in range(20)]
    pages += [_page("q5-again", f"{_prose(105)} So it ends."), _page("p7-again", f"{_prose(7)} Copied with love.")]
    return [*pages, _page("p8", _prose(200), date="2024-05-01"), _page("p8-again", f"{_prose(8)} The old one.")]


@pytest.fixture(scope="module")
def local(pages: Path) -> Path:
    out = pages / "local"
    out.mkdir()
    curate(CurateConfig(workers=1), pages, out, Progress.silent(), pages / "exam.jsonl")
    (out / "newer").mkdir()
    curate(CurateConfig(workers=1), pages / "newer", out / "newer", Progress.silent(), against=(out,))
    return out


@pytest.mark.parametrize(
    ("kind", "nodes"),
    [pytest.param("daft", 1, marks=needs_daft), pytest.param("ray", 2, marks=[needs_daft, needs_ray])],
)
def test_every_engine_makes_the_same_corpus(kind: str, nodes: int, pages: Path, local: Path) -> None:
    out = pages / kind
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"}
    line = [sys.executable, str(Path(__file__).parent / "engine_run.py"), kind, str(pages), str(out)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert (out / "done").exists(), done.stderr[-3000:]
    _are_the_same(out, local)
    _are_the_same(out / "newer", local / "newer")
    reasons = pq.read_table(local / "newer" / "rejects")["reason"].to_pylist()
    assert sum(reason.startswith("a near-duplicate of an earlier snapshot stays") for reason in reasons) == 1
    told = json.loads((out / "done").read_text())
    assert told["driver"] not in told["places"]
    assert len(set(told["places"])) >= nodes


def _are_the_same(one: Path, other: Path) -> None:
    for name in ("documents", "heldout"):
        assert pq.read_table(one / name).to_pylist() == pq.read_table(other / name).to_pylist()
    rejects = [pq.read_table(place / "rejects").sort_by("id").to_pylist() for place in (one, other)]
    assert rejects[0] == rejects[1]
    stats = [json.loads((place / "stats.json").read_text()) for place in (one, other)]
    for step in stats[0]["funnel"] + stats[1]["funnel"]:
        del step["seconds"]
    assert stats[0] == stats[1]
    for name in ("families.jsonl", "index/signatures.npy", "index/superseded.jsonl"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


@needs_daft
def test_families_are_the_same_in_small_and_in_huge_buckets(tmp_path: Path) -> None:
    """Of 3,000 signatures a third belong to one family, whose buckets are compared with a few of their members only."""
    chance = np.random.default_rng(0)
    originals = chance.integers(0, 1 << 32, (300, 256), dtype=np.uint32)
    signatures = originals[np.where(chance.random(3000) < 0.3, 0, chance.integers(0, 300, 3000))]
    changed = chance.random(signatures.shape) < chance.uniform(0, 0.3, (3000, 1))
    signatures[changed] = chance.integers(0, 1 << 32, changed.sum(), dtype=np.uint32)
    np.save(tmp_path / "signatures.npy", signatures)
    files = [tmp_path / "old.npy", tmp_path / "new.npy"]
    for file, part in zip(files, (signatures[:1500], signatures[1500:]), strict=True):
        np.save(file, part)
    rows = np.sort(chance.choice(3000, 2000, replace=False))
    expected = families(signatures, DedupConfig(), rows)
    assert 1000 < len(np.unique(expected)) < 1300
    with open_engine(EngineConfig(kind="daft"), 2) as engine:
        found = engine.families([tmp_path / "signatures.npy"], rows[:0], rows, DedupConfig())
        alone = engine.families([tmp_path / "signatures.npy"], rows[:0], rows[:1], DedupConfig())
        none = engine.families([tmp_path / "signatures.npy"], rows[:0], rows[:0], DedupConfig())
        halves = engine.families(files, rows[:1200], rows[1200:], DedupConfig())
    assert found[0].tolist() == expected.tolist()
    assert (alone[0].tolist(), none[0].tolist()) == ([0], [])
    here = LocalEngine(1).families(files, rows[:1200], rows[1200:], DedupConfig())
    assert [part.tolist() for part in halves] == [part.tolist() for part in here]
    assert (halves[1] < NOWHERE).sum() > 300


@needs_daft
def test_a_users_mistake_far_away_is_one_sentence(tmp_path: Path) -> None:
    with open_engine(EngineConfig(kind="daft"), 2) as engine, pytest.raises(HerdError, match=r"^page 3 is broken$"):
        list(engine.map(_fails_at_three, range(5)))


def _fails_at_three(number: int) -> int:
    if number == 3:
        raise HerdError("page 3 is broken")
    return number


def test_this_machines_processes_keep_the_order() -> None:
    assert list(LocalEngine(2).map(str, range(20))) == list(map(str, range(20)))


@pytest.mark.skipif(find_spec("daft") is not None, reason="the extra cluster is installed")
def test_a_missing_engine_is_named() -> None:
    with (
        pytest.raises(HerdError, match=r"engine.kind daft: .*the extra cluster brings it"),
        open_engine(EngineConfig(kind="daft"), 1),
    ):
        pass


@needs_ray
@needs_daft
def test_a_cluster_that_does_not_answer_is_named() -> None:
    settings = EngineConfig(kind="ray", address="127.0.0.1:1")
    with pytest.raises(HerdError, match=r"engine.address 127\.0\.0\.1:1: no Ray cluster"), open_engine(settings, 1):
        pass


def test_an_address_without_a_cluster_is_refused() -> None:
    with pytest.raises(ValidationError, match="an address is that of a Ray cluster"):
        EngineConfig(kind="daft", address="127.0.0.1:6379")
