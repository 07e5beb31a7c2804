"""The first stage: gathers the pages of all sources into the artifact ``pages``.

    collect(PagesConfig(), Path("runs/pocket/pages"), Progress())

``pages_fingerprint`` says what the result depends on (versions, files and times) without reading any page.
"""

import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from herd.corpus.pages import PageWriter
from herd.corpus.python_docs import PythonDocs, Skip
from herd.corpus.sources import Damage, SourceConfig, fingerprint, read_pages
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import write_json, write_jsonl
from herd.foundation.progress import Progress


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

    What was damaged in the files is listed in ``quarantine.jsonl``, which is there only if anything was.  Raises
    ``HerdError`` for a source that cannot be read and where all sources together give no page.
    """
    started = time.monotonic()
    skipped: list[dict[str, str]] = []
    counts: Counter[tuple[str, str]] = Counter()
    characters: Counter[tuple[str, str]] = Counter()
    damages: list[Damage] = []
    seen: set[str] = set()
    writer = PageWriter(out / "pages")
    with progress.task("pages", unit="pages") as task:
        for source in config.sources:
            broken = None if isinstance(source, PythonDocs) or source.damaged == "stop" else damages.append
            skip: Skip = lambda name, reason: skipped.append({"name": name, "reason": reason})  # noqa: E731
            for page in read_pages(source, skip, broken):
                if page.id in seen:
                    skipped.append({"name": page.url, "reason": "the same page twice"})
                    continue
                seen.add(page.id)
                counts[page.source, page.kind] += 1
                characters[page.source, page.kind] += len(page.content)
                writer.add(page)
                task.note(page.source)
                task.advance()
    writer.close()
    if not seen:
        first = f"{damages[0]}; " if damages else "sources: "
        raise HerdError(f"{first}gave no page at all ({len(skipped):,} were skipped)")
    if damages:
        write_jsonl(out / "quarantine.jsonl", map(asdict, damages))
        progress.say(f"{len(damages):,} damaged places were left out, the first {damages[0]}; see quarantine.jsonl")
    write_jsonl(out / "skipped.jsonl", skipped)
    rows = [{"source": s, "kind": k, "pages": counts[s, k], "characters": characters[s, k]} for s, k in sorted(counts)]
    write_json(out / "stats.json", {
        "pages": len(seen),
        "characters": sum(characters.values()),
        "skipped": len(skipped),
        "damaged": len(damages),
        "skipped_reasons": Counter(row["reason"].partition(":")[0] for row in skipped),
        "sources": rows,
        "seconds": round(time.monotonic() - started, 3),
    })  # fmt: skip
