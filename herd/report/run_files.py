"""Reads what a run left on the disk; what is not there reads as empty, so that an unfinished run has a report too."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, read_jsonl


@dataclass(frozen=True)
class Run:
    """A run directory."""

    path: Path

    def stages(self) -> dict[str, dict[str, Any]]:
        """The manifests of the finished stages, in the order in which they finished."""
        found = [read_json(path) for path in self.path.glob("*/manifest.json") if not path.parent.is_symlink()]
        return {manifest["stage"]: manifest for manifest in sorted(found, key=lambda one: one["finished"])}

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

    def rejects(self, per_reason: int, characters: int) -> list[dict[str, Any]]:
        """For every rule some rejected documents, with their reason and how they begin."""
        chosen: dict[str, list[dict[str, Any]]] = {}
        for shard in sorted((self.path / "documents" / "rejects").glob("*.parquet")):
            for batch in pq.ParquetFile(shard).iter_batches(256, columns=["rule", "reason", "url", "text"]):
                for row in batch.to_pylist():
                    kept = chosen.setdefault(row["rule"], [])
                    if len(kept) < per_reason:
                        kept.append({**row, "text": row["text"][:characters]})
        return [row for rule in sorted(chosen) for row in chosen[rule]]


def open_run(path: Path) -> Run:
    """The run in ``path``; a directory without a finished stage is a ``HerdError``."""
    if not any(path.glob("*/manifest.json")):
        raise HerdError(f"{path}: holds no finished stage of a run")
    return Run(path)


def as_json(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)
