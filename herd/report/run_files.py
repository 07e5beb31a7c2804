"""Reads what a run left on the disk; what is not there reads as empty, so that an unfinished run has a report too."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, read_jsonl

INITIAL, LONG, BASE, CHAT = "initial-", "long-", "base-", "chat-"
_ROWS = 512


@dataclass(frozen=True)
class Run:
    """A run directory."""

    path: Path

    @cached_property
    def stages(self) -> dict[str, dict[str, Any]]:
        """The manifests of the finished stages, in the order in which they finished."""
        places = [path for path in self.path.glob("[!.]*/manifest.json") if not path.parent.is_symlink()]
        found = [read_json(path) for path in places]
        return {manifest["stage"]: manifest for manifest in sorted(found, key=lambda one: one["finished"])}

    @cached_property
    def members(self) -> list[str]:
        """The sizes of the herd by name, smallest first."""
        names = [name.removeprefix(INITIAL) for name in self.stages if name.startswith(INITIAL)]
        return sorted(names, key=lambda name: self.stats(INITIAL + name).get("parameters", 0))

    @property
    def trainings(self) -> list[str]:
        """The finished stages that trained on documents: the largest member's first, each member's as they came."""
        return [
            name
            for member in reversed(self.members)
            for name in self.stages
            if name in (INITIAL + member, BASE + member) or name.startswith(f"{LONG}{member}-")
        ]

    @cached_property
    def flagship(self) -> str | None:
        """The directory that ``chat`` points to; in an unfinished run the largest aligned model there is."""
        link = self.path / "chat"
        if link.exists():
            return link.resolve().name
        aligned = [CHAT + name for name in self.members if CHAT + name in self.stages]
        return aligned[-1] if aligned else None

    @cached_property
    def results(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Figures by model and measure."""
        published = self.json("results.json") or self.json("evaluation/results.json")
        return published.get("models", {})

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object of the run, or an empty one."""
        path = self.path / name
        return read_json(path) if path.exists() else {}

    def stats(self, stage: str) -> dict[str, Any]:
        """A stage's figures, or none."""
        return self.json(f"{stage}/stats.json")

    def metrics(self, stage: str) -> list[dict[str, Any]]:
        """A training's lines of figures, one a step."""
        paths = sorted((self.path / stage).glob("**/metrics.jsonl"))
        return [line for path in paths for line in read_jsonl(path)]

    def items(self) -> Iterator[dict[str, Any]]:
        """The evaluation's items."""
        path = self.path / "evaluation" / "items.jsonl"
        return read_jsonl(path) if path.exists() else iter(())

    def rejects(self, per_rule: int, characters: int) -> list[dict[str, Any]]:
        """For every rule some rejected documents, with their reason and how they begin."""
        chosen: dict[str, list[dict[str, Any]]] = {}
        for folder in ("documents", "corpus"):
            for shard in sorted((self.path / folder / "rejects").glob("*.parquet")):
                choose(shard, chosen, per_rule, characters)
            if chosen:
                break
        return [row for rule in sorted(chosen) for row in chosen[rule]]


def choose(shard: Path, chosen: dict[str, list[dict[str, Any]]], per_rule: int, characters: int) -> None:
    """Adds rejects of a shard to ``chosen`` until every rule has ``per_rule`` of them."""
    for batch in batches(shard, ["rule", "reason", "url", "text"]):
        for row in batch.to_pylist():
            kept = chosen.setdefault(row["rule"], [])
            if len(kept) < per_rule:
                kept.append({**row, "text": row["text"][:characters]})


def batches(shard: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a shard, some hundred at a time; one that is no Parquet is a ``HerdError``."""
    try:
        with pq.ParquetFile(shard) as source:
            yield from source.iter_batches(_ROWS, columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise HerdError(f"{shard}: not readable as Parquet ({error})") from None


def open_run(path: Path) -> Run:
    """The run in ``path``; a directory without a finished stage is a ``HerdError``."""
    if not path.exists():
        raise HerdError(f"{path}: there is no such directory")
    run = Run(path)
    if not run.stages:
        raise HerdError(f"{path}: is neither a corpus nor a run with a finished stage")
    return run
