"""A disk that fills while a corpus is curated: what is finished stays valid, and the next call goes on from it."""

import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from herd.corpus import curate as module
from herd.corpus import portions
from herd.corpus.curate import CurateConfig, curate
from herd.corpus.pages import Page, PageWriter
from herd.corpus.prepare import Portion, Tally, prepare_portion
from herd.foundation.progress import Progress

_PAGES = 120


def _prose(seed: int) -> str:
    chance = random.Random(seed)
    small = ("the", "of", "and", "in", "to", "with", "that", "is")
    long = [f"{one}{two}{three}" for one in ("ba", "cor", "fin", "mer", "por") for two in ("del", "lo", "nis", "vin")
            for three in ("", "ta", "ly", "wes")]  # fmt: skip
    words = [chance.choice(small if chance.random() < 0.4 else long) for _ in range(300)]
    return "\n".join(" ".join(words[at : at + 12]).capitalize() + "." for at in range(0, len(words), 12))


@contextmanager
def _room_for(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes: a write beyond it fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_finished_partitions_outlive_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PORTION_CHARACTERS", 20_000)
    prepared: list[int] = []

    def noted(portion: Portion, *rest: object) -> Tally:
        prepared.append(portion.number)
        return prepare_portion(portion, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(portions, "prepare_portion", noted)
    writer = PageWriter(tmp_path / "in" / "pages")
    for number in range(_PAGES):
        writer.add(Page(f"https://example.org/{number}", "web", "text", _prose(number)))
    writer.close()
    config = CurateConfig(workers=1)
    whole, out = tmp_path / "whole", tmp_path / "out"
    for place in (whole, out):
        place.mkdir()
    curate(config, tmp_path / "in", whole, Progress.silent())
    count, full = len(set(prepared)), (whole / "documents" / "00000.parquet").stat().st_size
    prepared.clear()
    with _room_for(full - 1), pytest.raises(OSError, match="requested and"):
        curate(config, tmp_path / "in", out, Progress.silent())
    finished = sorted((out / "work").glob("documents-*.parquet"))
    assert len(finished) == count > 4
    assert sum(pq.read_table(shard).num_rows for shard in finished) == _PAGES
    assert not list(out.rglob("*.tmp"))
    assert not list((out / "documents").glob("*.parquet"))
    prepared.clear()
    curate(config, tmp_path / "in", out, Progress.silent())
    assert prepared == []
    for name in ("documents", "heldout", "rejects"):
        shards = [(place / name / "00000.parquet").read_bytes() for place in (whole, out)]
        assert shards[0] == shards[1]
