"""The first stage: gathers the pages of all sources into the artifact ``pages``.

    collect(PagesConfig(), Path("runs/pocket/pages"), Progress())

``pages_fingerprint`` says what the result depends on (versions, files and times) without reading any page.
"""

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import Field

from herd.corpus.pages import Cursor, Page, PageWriter
from herd.corpus.python_docs import PythonDocs
from herd.corpus.sources import Damage, SourceConfig, fingerprint, read_pages
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import digest_value, read_json, write_json, write_jsonl
from herd.foundation.progress import Progress

_CHECKPOINT = ".checkpoint.json"


class PagesConfig(Config):
    """What the stage ``pages`` reads."""

    sources: tuple[SourceConfig, ...] = Field(
        default=(PythonDocs(),), min_length=1, description="read one after the other"
    )


def pages_fingerprint(config: PagesConfig) -> list[dict[str, Any]]:
    """What the artifact depends on, one entry a source; missing packages and paths are a ``HerdError``."""
    return [fingerprint(source) for source in config.sources]


def collect(config: PagesConfig, out: Path, progress: Progress) -> None:
    """Writes ``pages/*.parquet``, ``skipped.jsonl`` and ``stats.json`` to ``out``.

    What was damaged in the files is listed in ``quarantine.jsonl``, which is there only if anything was.  A call that
    was killed is gone on with from the last whole shard that ended in a source of files, within an archive too, as long
    as nothing changed.  Raises ``HerdError`` for a source that cannot be read and where all sources give no page.
    """
    started = time.monotonic()
    state = _State.open(config, out)
    writer = PageWriter(out / "pages", state.shards)
    with progress.task("pages", unit="pages") as task:
        task.advance(len(state.seen))
        for number, source in enumerate(config.sources):
            if number < state.source:
                continue
            if number > state.source:
                state.source, state.cursor = number, Cursor()
            broken = None if isinstance(source, PythonDocs) or source.damaged == "stop" else state.damages.append
            for page in read_pages(source, state.skip, broken, state.cursor):
                if page.id in state.seen:
                    state.skip(page.url, "the same page twice")
                    continue
                state.count(page)
                if writer.add(page) and not isinstance(source, PythonDocs):
                    state.save(writer.shards)
                task.note(page.source)
                task.advance()
    writer.close()
    state.finish(progress, time.monotonic() - started)


@dataclass
class _State:
    """What is known of the pages so far, and where reading stands; on the disk in ``.checkpoint.json``."""

    out: Path
    key: str
    source: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    shards: int = 0
    seen: set[str] = field(default_factory=set)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    characters: Counter[tuple[str, str]] = field(default_factory=Counter)
    skipped: list[dict[str, str]] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)

    @classmethod
    def open(cls, config: PagesConfig, out: Path) -> "_State":
        """The state that a killed call left, if it read the same sources; else a fresh one."""
        path = out / _CHECKPOINT
        state = cls(out, digest_value(pages_fingerprint(config)))
        if not path.exists():
            return state
        saved = read_json(path)
        shards = sorted((out / "pages").glob("*.parquet"))[: saved["shards"]]
        if saved["key"] != state.key or len(shards) < saved["shards"]:
            return state
        state.source, state.cursor, state.shards = saved["source"], Cursor(**saved["cursor"]), saved["shards"]
        state.skipped = saved["skipped"]
        state.damages = [Damage(**damage) for damage in saved["damages"]]
        for source, kind, pages, characters in saved["counts"]:
            state.counts[source, kind], state.characters[source, kind] = pages, characters
        for shard in shards:
            state.seen.update(pq.read_table(shard, columns=["id"])["id"].to_pylist())
        return state

    def save(self, shards: int) -> None:
        """Writes the state, of which all pages are in the first ``shards``."""
        self.shards = shards
        write_json(self.out / _CHECKPOINT, {
            "key": self.key,
            "source": self.source,
            "cursor": asdict(self.cursor),
            "shards": shards,
            "skipped": self.skipped,
            "damages": list(map(asdict, self.damages)),
            "counts": [(*name, self.counts[name], self.characters[name]) for name in self.counts],
        })  # fmt: skip

    def skip(self, name: str, reason: str) -> None:
        """Notes a page that was left out."""
        self.skipped.append({"name": name, "reason": reason})

    def count(self, page: Page) -> None:
        """Notes a page that is kept."""
        self.seen.add(page.id)
        self.counts[page.source, page.kind] += 1
        self.characters[page.source, page.kind] += len(page.content)

    def finish(self, progress: Progress, seconds: float) -> None:
        """Writes what lies beside the pages."""
        if not self.seen:
            first = f"{self.damages[0]}; " if self.damages else "sources: "
            raise HerdError(f"{first}gave no page at all ({len(self.skipped):,} were skipped)")
        if self.damages:
            write_jsonl(self.out / "quarantine.jsonl", map(asdict, self.damages))
            count = f"damaged places that were left out: {len(self.damages):,}"
            progress.say(f"{count}, the first {self.damages[0]}; see quarantine.jsonl")
        write_jsonl(self.out / "skipped.jsonl", self.skipped)
        write_json(self.out / "stats.json", {
            "pages": len(self.seen),
            "characters": sum(self.characters.values()),
            "skipped": len(self.skipped),
            "damaged": len(self.damages),
            "skipped_reasons": Counter(row["reason"].partition(":")[0] for row in self.skipped),
            "sources": [
                {"source": name, "kind": kind, "pages": pages, "characters": self.characters[name, kind]}
                for (name, kind), pages in sorted(self.counts.items())
            ],
            "seconds": round(seconds, 3),
        })  # fmt: skip
        (self.out / _CHECKPOINT).unlink(missing_ok=True)
