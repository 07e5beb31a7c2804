"""Reads what a corpus holds for its page: counts by group, a sample of every rule's values, rejects, twins.

Texts are read a batch at a time and only their lengths and the beginnings of a few are kept.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, read_jsonl
from herd.report.run_files import batches, choose

GROUPS = ("domain", "language", "topic", "source", "license", "year")
_SAMPLED = 20_000
_NOT_VALUES = {"weight", "lines_cut", "private", "language_confidence", "topic_confidence"}


@dataclass
class Part:
    """The documents that were kept, or those that were not."""

    documents: int = 0
    characters: int = 0
    groups: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    lengths: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class Corpus:
    """A corpus that Herd made."""

    path: Path

    def stats(self) -> dict[str, Any]:
        """What ``stats.json`` says."""
        found: dict[str, Any] = read_json(self.path / "stats.json")
        return found

    def part(self, *folders: str) -> Part:
        """Counts and values of the documents in ``folders``."""
        shards = [shard for folder in folders for shard in sorted((self.path / folder).glob("*.parquet"))]
        part, step = Part(), max(sum(map(_rows, shards)) // _SAMPLED, 1)
        for shard in shards:
            for batch in batches(shard):
                _count(part, batch, step)
        return part

    def rejects(self, per_rule: int, characters: int) -> list[dict[str, Any]]:
        """For every rule some rejected documents, with their reason and how they begin."""
        chosen: dict[str, list[dict[str, Any]]] = {}
        for shard in sorted((self.path / "rejects").glob("*.parquet")):
            choose(shard, chosen, per_rule, characters)
        return [row for rule in sorted(chosen) for row in chosen[rule]]

    def families(self, most: int, characters: int) -> tuple[Counter[int], list[list[dict[str, Any]]]]:
        """How many families of near-duplicates have which size, and how the documents of the largest ones begin."""
        path = self.path / "families.jsonl"
        rows = list(read_jsonl(path)) if path.exists() else []
        rows.sort(key=lambda row: (-len(row["copies"]), row["kept"]))
        shown = [[row["kept"], *row["copies"][:2]] for row in rows[:most]]
        texts = self._begin({name for names in shown for name in names}, characters)
        sizes = Counter(1 + len(row["copies"]) for row in rows)
        return sizes, [[texts[name] for name in names if name in texts] for names in shown]

    def _begin(self, wanted: set[str], characters: int) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        folders = ("documents", "heldout", "rejects") if wanted else ()
        for shard in (shard for folder in folders for shard in sorted((self.path / folder).glob("*.parquet"))):
            for batch in batches(shard):
                hits = batch.filter(pc.is_in(batch["id"], value_set=pa.array(sorted(wanted), pa.string())))
                for row in hits.select(["id", "url", "text"]).to_pylist():
                    found[row["id"]] = {**row, "text": row["text"][:characters], "characters": len(row["text"])}
        return found


def _rows(shard: Path) -> int:
    try:
        return int(pq.read_metadata(shard).num_rows)
    except (OSError, pa.ArrowInvalid) as error:
        raise HerdError(f"{shard}: not readable as Parquet ({error})") from None


def _count(part: Part, batch: pa.RecordBatch, step: int) -> None:
    sizes = pc.utf8_length(batch["text"]).to_pylist()
    for name in GROUPS:
        column = "date" if name == "year" else name
        if column not in batch.schema.names:
            continue
        for value, size in zip(batch[column].to_pylist(), sizes, strict=True):
            key = (value or "")[:4] if name == "year" else value or ""
            part.groups[name][key or "unknown"] += 1
            part.lengths[name][key or "unknown"] += size
    first = -part.documents % step
    for field_ in batch.schema:
        if pa.types.is_floating(field_.type) and field_.name not in _NOT_VALUES:
            part.values[field_.name] += [
                value for value in batch[field_.name].to_pylist()[first::step] if value is not None
            ]
    part.documents += len(batch)
    part.characters += sum(sizes)


def is_corpus(path: Path) -> bool:
    """Whether a directory is a corpus rather than a run."""
    return any((path / "documents").glob("*.parquet")) and (path / "stats.json").is_file()


def shares(part: Part, name: str, most: int) -> list[Mapping[str, Any]]:
    """The largest groups by characters, the others as one row."""
    lengths, counts = part.lengths[name], part.groups[name]
    whole = max(lengths.total(), 1)
    ranked: list[Mapping[str, Any]] = [
        {"name": key, "documents": counts[key], "share": size / whole} for key, size in lengths.most_common(most)
    ]
    rest = [key for key, _ in lengths.most_common()[most:]]
    if rest:
        documents, size = sum(counts[key] for key in rest), sum(lengths[key] for key in rest)
        ranked.append({"name": f"{len(rest)} others", "documents": documents, "share": size / whole})
    return ranked
