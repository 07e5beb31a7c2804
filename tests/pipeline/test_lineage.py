"""Lineage: from the last artifact to the first, and a warning where the chain no longer holds."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.pipeline.graph import Stage, run_graph
from herd.pipeline.lineage import ancestors, as_text, descendants
from herd.pipeline.manifest import Manifest


def write(inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    (out / "text").write_text(out.name)


GRAPH = [
    Stage("pages", write, {}, outside=lambda: {"interpreter": "3.11"}),
    Stage("corpus", write, {}, {"pages": "pages"}),
    Stage("tokens", write, {}, {"corpus": "corpus"}),
    Stage("base", write, {}, {"tokens": "tokens", "corpus": "corpus"}),
]


def test_every_ancestor_is_found_and_a_shared_one_is_told_once(tmp_path: Path) -> None:
    run_graph(GRAPH, tmp_path, Progress.silent())
    found = [(a.depth, a.role, a.stage, a.repeated) for a in ancestors(tmp_path / "base")]
    assert found == [
        (0, "", "base", False),
        (1, "tokens", "tokens", False),
        (2, "corpus", "corpus", False),
        (3, "pages", "pages", False),
        (1, "corpus", "corpus", True),
    ]
    assert "from interpreter 3.11" in as_text(tmp_path / "base")


def test_a_changed_ancestor_is_stale(tmp_path: Path) -> None:
    run_graph(GRAPH, tmp_path, Progress.silent())
    (tmp_path / "corpus" / "text").write_text("other words")
    (stale,) = {a.stale for a in ancestors(tmp_path / "base") if a.stale}
    assert stale == "text was changed after it was made"


def test_descendants_are_found_whichever_finished_in_the_same_second(tmp_path: Path) -> None:
    chain = [
        Stage(f"{number:02d}", write, {}, {"before": f"{number - 1:02d}"} if number else {}) for number in range(9)
    ]
    run_graph([*chain, Stage("other", write, {})], tmp_path, Progress.silent())
    for stage in chain:
        manifest = Manifest.read(tmp_path / stage.name)
        assert manifest is not None
        replace(manifest, finished="2026-01-01T00:00:00+00:00").write(tmp_path / stage.name)
    assert sorted(descendants(tmp_path / "00")) == [stage.name for stage in chain[1:]]
    assert descendants(tmp_path / "08") == []


def test_what_is_no_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HerdError, match="not a finished artifact"):
        list(ancestors(tmp_path))
