"""The part of curation that looks at one page at a time, and can therefore run in several processes.

A page is extracted, cleaned of personal data, given a language and a domain, and judged by the rules of ``heuristics``;
what later steps need of its words (a signature, word counts, line keys, the classifier's sample) is computed here
too, so that they can decide without reading the text again.
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from herd.corpus.dedup import DedupConfig, sign
from herd.corpus.divergence import DivergenceConfig, count_words
from herd.corpus.documents import Row
from herd.corpus.domains import DomainConfig, classify
from herd.corpus.extract import extract_page
from herd.corpus.heuristics import build_rules, judge
from herd.corpus.language import Language, LanguageConfig, identify, reject_language
from herd.corpus.lines import line_keys
from herd.corpus.pages import Page, page_columns, stored_page
from herd.corpus.privacy import PrivacyConfig, redact, reject_private
from herd.corpus.provenance import Use, read_use, reject_robots
from herd.corpus.quality import QualityConfig, is_reference, prose, sample
from herd.corpus.repeated_lines import remove_repeated_lines
from herd.corpus.rules import HeuristicsConfig, Rule, View
from herd.corpus.words import Hashes
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import atomic_path

STEPS = ("extract", "privacy", "language", "heuristics")
OLDER = "a newer page has this address"
_CARRIED = ("source", "package", "license", "kind", "url")
EXTRA_FIELDS = (
    pa.field("reference", pa.bool_()),
    pa.field("sample", pa.large_string()),
    pa.field("words_used", pa.list_(pa.int32())),
    pa.field("words_counted", pa.list_(pa.int32())),
    pa.field("line_keys", pa.list_(pa.uint64())),
)


class PrepareConfig(Config):
    """The configurations of all steps that look at one page at a time.

    A page whose robots directives (meta elements and header) hold one of ``refused_robots``, as noai, is left out.
    """

    refused_robots: tuple[str, ...] = ()

    privacy: PrivacyConfig = PrivacyConfig()
    language: LanguageConfig = LanguageConfig()
    domain: DomainConfig = DomainConfig()
    heuristics: HeuristicsConfig = HeuristicsConfig()
    dedup: DedupConfig = DedupConfig()
    divergence: DivergenceConfig = DivergenceConfig()
    quality: QualityConfig = QualityConfig()


@dataclass(frozen=True)
class Portion:
    """Rows ``start`` to ``stop`` of a shard of pages; ``number`` orders results.

    ``verdicts`` say of each page why its address keeps it out, None where it does not.
    """

    shard: Path
    start: int
    stop: int
    number: int
    verdicts: tuple[str | None, ...]


@dataclass
class Tally:
    """Documents and characters after each step, and the reasons of those that left at it."""

    kept: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    removed: dict[str, Counter[str]] = field(default_factory=lambda: {step: Counter() for step in STEPS})
    private: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))
    repeated_lines: int = 0

    def add(self, other: "Tally") -> None:
        """Adds the counts of another portion."""
        self.kept.update(other.kept)
        self.characters.update(other.characters)
        for step, reasons in other.removed.items():
            self.removed[step].update(reasons)
        self.private.update(other.private)
        self.seconds = {step: self.seconds[step] + other.seconds[step] for step in STEPS}
        self.repeated_lines += other.repeated_lines


def prepare_portion(portion: Portion, config: PrepareConfig, out: Path, schema: pa.Schema, rejects: pa.Schema) -> Tally:
    """Prepares a portion; writes ``documents-N.parquet``, ``signatures-N.npy`` and ``rejects-N.parquet``."""
    rules, tally = build_rules(config.heuristics), Tally()
    kept: list[Row] = []
    rejected: list[Row] = []
    hashes: list[Hashes] = []
    for page, verdict in zip(_pages(portion), portion.verdicts, strict=True):
        if verdict is not None:
            rejected.append(_row(page, "") | {"text": "", "rule": "url", "reason": verdict})
            continue
        row, view = prepare_page(page, config, rules, tally)
        if view is None:
            rejected.append(row)
        else:
            kept.append(row)
            hashes.append(view.hashes)
    _write(kept, schema, out / f"documents-{portion.number:05d}.parquet")
    _write(rejected, rejects, out / f"rejects-{portion.number:05d}.parquet")
    with atomic_path(out / f"signatures-{portion.number:05d}.npy") as temporary, temporary.open("wb") as file:
        np.save(file, sign(hashes, config.dedup))
    return tally


def _write(rows: list[Row], schema: pa.Schema, path: Path) -> None:
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, compression="zstd", row_group_size=512)


def _pages(portion: Portion) -> list[Page]:
    try:
        table = _shard(portion.shard, portion.shard.stat().st_mtime_ns)
    except (OSError, pa.ArrowInvalid) as error:
        raise HerdError(f"{portion.shard}: not readable as Parquet ({error})") from None
    return [stored_page(row) for row in table.slice(portion.start, portion.stop - portion.start).to_pylist()]


@lru_cache(maxsize=1)
def _shard(path: Path, _changed: int) -> pa.Table:
    """The pages of a shard, which is held for the portions that follow from it."""
    with pq.ParquetFile(path) as file:
        return file.read(["id", *page_columns(file.schema_arrow)], use_threads=False)


def _row(page: Page, text: str) -> Row:
    return {name: getattr(page, name) for name in _CARRIED} | {
        "id": page.id, "title": page.title, "date": page.date, "text": text, "private": 0, "lines_cut": 0,
    }  # fmt: skip


def prepare_page(page: Page, config: PrepareConfig, rules: list[Rule], tally: Tally) -> tuple[Row, View | None]:
    """The row of one page and the view of its text; a rejected row holds rule and reason, and its view is None."""
    clock = time.process_time()
    found = extract_page(page)
    use = read_use(page.content, page.robots) if page.kind == "html" else Use(page.robots)
    row = _row(page, found.text) | {"title": found.title, "date": found.date, "robots": use.robots}
    row["license"] = page.license or use.license
    if reason := reject_robots(use, config.refused_robots):
        return _rejected(row, "extract", reason, tally), None
    if not found.text.strip():
        return _rejected(row, "extract", found.refused or "no main text", tally), None
    clock = _passed("extract", row, tally, clock)
    row["text"], private = redact(found.text, config.privacy)
    row["private"] = private.total()
    tally.private.update(private)
    if reason := reject_private(private.total(), row["text"], config.privacy):
        return _rejected(row, "privacy", reason, tally), None
    clock = _passed("privacy", row, tally, clock)
    language = None if page.kind == "code" else identify(row["text"], config.language)
    if language is not None:
        row |= {"language": language.code, "language_confidence": language.confidence}
        if reason := reject_language(language, config.language):
            return _rejected(row, "language", reason, tally), None
    clock = _passed("language", row, tally, clock)
    row, view = _judged(row, page.kind, language, config, rules, tally)
    if view is not None:
        _passed("heuristics", row, tally, clock)
    return row, view


def _judged(
    row: Row, kind: str, language: Language | None, config: PrepareConfig, rules: list[Rule], tally: Tally
) -> tuple[Row, View | None]:
    row["domain"] = domain = classify(row["text"], kind, language, config.domain)
    view = View(row["text"], domain, config.heuristics)
    if domain != "code":
        row["text"], row["lines_cut"] = remove_repeated_lines(view)
        tally.repeated_lines += row["lines_cut"]
        view = view if row["text"] == view.text else View(row["text"], domain, config.heuristics)
    values, reason = judge(view, rules)
    row |= values
    if reason:
        return _rejected(row, "heuristics", reason, tally), None
    return row | _for_later(row, view, config), view


def _for_later(row: Row, view: View, config: PrepareConfig) -> dict[str, Any]:
    """What the steps that compare documents need of this one."""
    counted = count_words(view.hashes, config.divergence)
    return {
        "reference": is_reference(row, *prose(view.text, view.kinds), config.quality),
        "sample": sample(view.text, config.quality),
        "words_used": counted.buckets,
        "words_counted": counted.counts,
        "line_keys": [] if view.domain == "code" else line_keys(view.text),
    }


def _passed(step: str, row: Row, tally: Tally, clock: float) -> float:
    """Counts a document that came through a step, and the processor time since ``clock``; returns the new clock."""
    now = time.process_time()
    tally.kept[step] += 1
    tally.characters[step] += len(row["text"])
    tally.seconds[step] += now - clock
    return now


def _rejected(row: Row, step: str, reason: str, tally: Tally) -> Row:
    tally.removed[step][reason] += 1
    return row | {"rule": step, "reason": reason}
