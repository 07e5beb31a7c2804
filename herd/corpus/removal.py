"""Documents that must go, wherever a corpus or its pages hold them; and the export of those under given licences.

    herd take-down corpus --domain example.org --url https://site.org/page --out without
    herd export corpus --license "CC BY*" --license MIT --out open

Unlike a rule's rejects, what is taken down is nowhere afterwards: not among documents, held-out texts, rejects, pages
or passages.  Shards without any of it are copied as they are; ``removed.jsonl`` names what went (never its text), and
``stats.json`` the shards that changed, which is what holders of copies have to rewrite.  What was trained on a corpus
keeps what it learnt: the quality classifier goes along, and ``herd take-down`` names the artifacts made from it.
"""

import fnmatch
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from herd.corpus.blocklist import Blocklist
from herd.corpus.index import FOLDER, without
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import atomic_path, read_json, read_jsonl, write_json, write_jsonl
from herd.foundation.progress import Progress

FOLDERS = ("documents", "heldout", "rejects", "pages")
_COUNTED = ("documents", "heldout")
_NAMES = ("id", "url", "source", "license")

Row = Mapping[str, Any]
Reason = Callable[[Row], str | None]


class TakeDownConfig(Config):
    """What goes: ids, whole addresses, domains with all below them, sources by name, licences by pattern (``*``)."""

    ids: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    licenses: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _asks_for_something(self) -> "TakeDownConfig":
        if not any((self.ids, self.urls, self.domains, self.sources, self.licenses)):
            raise ValueError("nothing is named that should go: give ids, urls, domains, sources or licenses")
        return self


class ExportConfig(Config):
    """Patterns of licences that stay (``*`` for any text, case does not count), and what becomes of unknown ones."""

    licenses: tuple[str, ...] = Field(min_length=1)
    unknown: Literal["drop", "keep"] = "drop"


def take_down(config: TakeDownConfig, corpus: Path, out: Path, progress: Progress) -> None:
    """Writes the corpus, or an artifact of pages, to ``out`` without what ``config`` names.

    Raises:
        HerdError: nothing of it is there, a domain is none, or no document would be left.
    """
    blocked = Blocklist()
    for domain in config.domains:
        if "/" in domain.partition("//")[2] or not blocked.add(domain):
            raise HerdError(f"{domain}: not a domain; addresses go by --url")
    ids, urls, sources = set(config.ids), set(map(_plain, config.urls)), set(config.sources)

    def reason(row: Row) -> str | None:
        if row["id"] in ids:
            return f"id {row['id']}"
        if row["url"] and _plain(row["url"]) in urls:
            return f"url {_plain(row['url'])}"
        if blocked.reason(row["url"]):
            return "domain"
        if row["source"] in sources:
            return f"source {row['source']}"
        return f"license {row['license']}" if _matches(row["license"], config.licenses) else None

    found = _Removal(corpus, out, reason, progress, "take-down")
    found.run()
    asked = [*(f"id {name}" for name in config.ids), *(f"url {_plain(url)}" for url in config.urls)]
    asked += [f"source {name}" for name in config.sources]
    unmatched = [name for name in asked if name not in found.reasons]
    found.finish({"asked": config.model_dump(mode="json", exclude_defaults=True), "not found": unmatched})


def export(config: ExportConfig, corpus: Path, out: Path, progress: Progress) -> None:
    """Writes to ``out`` what stands under one of the licences; a ``HerdError`` where nothing does."""

    def reason(row: Row) -> str | None:
        if not row["license"]:
            return None if config.unknown == "keep" else "license unknown"
        return None if _matches(row["license"], config.licenses) else f"license {row['license']}"

    found = _Removal(corpus, out, reason, progress, "export")
    found.run()
    found.finish({"licenses": config.model_dump(mode="json")}, named=False)


def _plain(url: str) -> str:
    """An address without scheme, ``www.`` and a slash at its end, in which copies of one address differ."""
    return (url.partition("://")[2] or url).removeprefix("www.").rstrip("/")


def _matches(license_name: str | None, patterns: tuple[str, ...]) -> bool:
    return bool(license_name) and any(
        fnmatch.fnmatchcase(str(license_name).casefold(), pattern.casefold()) for pattern in patterns
    )


@dataclass
class _Removal:
    """One pass over all shards of an artifact."""

    artifact: Path
    out: Path
    reason: Reason
    progress: Progress
    step: str
    shards: list[str] = field(default_factory=list)
    removed: list[dict[str, Any]] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    characters: int = 0
    licenses: Counter[str] = field(default_factory=Counter)

    @property
    def reasons(self) -> Counter[str]:
        """How many documents went for each reason."""
        return Counter(row["reason"] for row in self.removed)

    def run(self) -> None:
        """Copies or rewrites every shard."""
        shards = [path for name in FOLDERS for path in sorted((self.artifact / name).glob("*.parquet"))]
        if not shards:
            raise HerdError(f"{self.artifact}: holds neither documents nor pages (expected *.parquet in their folders)")
        for shard in self.progress.track(shards, self.step, len(shards), "shards"):
            self._pass(shard)

    def _pass(self, shard: Path) -> None:
        folder, target = shard.parent.name, self.out / shard.relative_to(self.artifact)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            names = pq.read_schema(shard).names
            if missing := [name for name in _NAMES if name not in names]:
                raise HerdError(f"{shard}: has no column {missing[0]}, by which documents are found")
            rows = pq.read_table(shard, columns=list(_NAMES)).to_pylist()
            reasons = [self.reason(row) for row in rows]
            self.left[folder] += reasons.count(None)
            for row, reason in zip(rows, reasons, strict=True):
                if reason is None and folder in ("documents", "pages"):
                    self.licenses[row["license"] or "unknown"] += 1
            if not any(reasons):
                shutil.copy2(shard, target)
                return
            table = pq.read_table(shard)
        except (OSError, pa.ArrowInvalid) as error:
            raise HerdError(f"{shard}: not readable as Parquet ({error})") from None
        gone = pa.array([reason is not None for reason in reasons])
        if folder in _COUNTED:
            self.characters += pc.sum(pc.utf8_length(table.filter(gone)["text"])).as_py() or 0
        place = str(shard.relative_to(self.artifact))
        self.shards.append(place)
        self.removed += [
            {**row, "folder": folder, "reason": reason} for row, reason in zip(rows, reasons, strict=True) if reason
        ]
        with atomic_path(target) as temporary:
            pq.write_table(table.filter(pc.invert(gone)), temporary, compression="zstd", row_group_size=2048)

    def finish(self, figures: Mapping[str, Any], named: bool = True) -> None:
        """Writes passages, lists and figures; refuses to leave nothing, or to have changed nothing where asked to."""
        if named and not self.removed:
            raise HerdError(f"{self.artifact}: holds nothing of what should go")
        main = "documents" if (self.artifact / "documents").is_dir() else "pages"
        if not self.left[main]:
            raise HerdError(f"{self.artifact}: nothing is left after {self.step}")
        passages = self._passages()
        self._families()
        for name in ("quality.bin", "skipped.jsonl", "quarantine.jsonl"):
            if (self.artifact / name).exists():
                shutil.copy2(self.artifact / name, self.out / name)
        if named:
            write_jsonl(self.out / "removed.jsonl", self.removed)
            if (self.artifact / FOLDER).is_dir():
                without(self.artifact / FOLDER, {row["id"] for row in self.removed}, self.out / FOLDER)
        stats = read_json(self.artifact / "stats.json")
        counts = Counter(row["folder"] for row in self.removed)
        if stats.get("funnel"):
            self._account(stats, counts)
        stats[self.step] = {
            **figures,
            "removed": dict(counts),
            "reasons": dict(self.reasons.most_common(50)),
            "passages": passages,
            "shards": self.shards,
            "licenses": dict(self.licenses.most_common()),
        }
        write_json(self.out / "stats.json", stats)

    def _account(self, stats: dict[str, Any], counts: Counter[str]) -> None:
        """The step's row of the funnel: rejects that went had been counted out before."""
        before, removed = stats["funnel"][-1], sum(counts[name] for name in _COUNTED)
        stats["funnel"].append({
            "step": self.step,
            "documents": before["documents"] - removed,
            "characters": before["characters"] - self.characters,
            "removed": {"asked for" if self.step == "take-down" else "another licence": removed} if removed else {},
            "heldout": before.get("heldout", 0) - counts["heldout"],
        })  # fmt: skip

    def _passages(self) -> int:
        """Writes the passages of the documents that are left; returns how many went."""
        path = self.artifact / "passages.parquet"
        if not path.exists():
            return 0
        table = pq.read_table(path)
        gone = pc.is_in(table["document_id"], value_set=pa.array([row["id"] for row in self.removed], pa.string()))
        with atomic_path(self.out / path.name) as temporary:
            pq.write_table(table.filter(pc.invert(gone)), temporary, compression="zstd")
        return int(pc.sum(gone).as_py() or 0)

    def _families(self) -> None:
        """Writes the families of near-duplicates without the ids that went."""
        if not (self.artifact / "families.jsonl").exists():
            return
        gone = {row["id"] for row in self.removed}
        rows = []
        for row in read_jsonl(self.artifact / "families.jsonl"):
            copies = [name for name in row["copies"] if name not in gone]
            if row["kept"] not in gone and copies:
                rows.append(row | {"copies": copies})
        write_jsonl(self.out / "families.jsonl", rows)
