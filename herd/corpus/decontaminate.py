"""Keeps evaluation texts out of training: every run of eight words that a document shares with one is found and cut.

Texts are compared as streams of case-folded alphanumeric words, mark-up removed, so that re-wrapping, other case, tags
or Markdown do not hide a leak (paper, section 5.1.4, for the 8-gram overlap).  The default cuts the lines of the block
around a match and keeps the rest of the page; a page that loses more than ``maximum_cut`` of its characters goes whole.

``decontaminate`` is the stage on a finished corpus, for evaluation texts that were made from it, and first cuts out
whole what is held out (``withhold``); ``Detector`` is what both use.
"""

import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from herd.corpus.benchmarks import read_benchmarks
from herd.corpus.documents import REASONS, DocumentWriter, read_documents, read_schema
from herd.corpus.rewrite import BESIDE, copy_beside
from herd.corpus.tables import table_text
from herd.corpus.withhold import Withholder
from herd.corpus.words import Hashes, hash_ngrams, hash_words, split_words, strip_markup
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, read_jsonl, write_json, write_jsonl
from herd.foundation.progress import Progress

_WITHHOLD, _DECONTAMINATE = "withhold", "decontaminate"
_STEPS = {_WITHHOLD: "withhold held-out passages", _DECONTAMINATE: "decontaminate evaluation texts"}


class DecontaminateConfig(Config):
    """``contaminated`` is the share of an item's words in shared n-grams from which it is reported as contaminated."""

    ngram: int = Field(default=8, ge=2)
    action: Literal["lines", "document"] = "lines"
    maximum_cut: float = Field(default=0.5, gt=0, le=1)
    contaminated: float = Field(default=0.5, gt=0, le=1)


@dataclass(frozen=True)
class Item:
    """One text of an evaluation set as the n-grams of its words."""

    benchmark: str
    name: str
    grams: Hashes
    words: int


def load_items(paths: Path | Sequence[Path], config: DecontaminateConfig) -> list[Item]:
    """The texts of files and folders of evaluation sets, read by ``benchmarks``, as n-grams.

    Raises:
        HerdError: nothing there, or a row without a text.
    """
    items = []
    for found in read_benchmarks([paths] if isinstance(paths, Path) else paths):
        hashes = _hash(found.text)
        items.append(Item(found.benchmark, found.item, hash_ngrams(hashes, config.ngram), len(hashes)))
    return items


def _hash(text: str) -> Hashes:
    return hash_words(split_words(strip_markup(text)))


class Detector:
    """Finds and cuts what documents share with evaluation items, and keeps the account for the report."""

    def __init__(self, items: list[Item], config: DecontaminateConfig) -> None:
        self._config, self._items = config, items
        grams = [item.grams for item in items]
        owners = np.repeat(np.arange(len(items)), [len(gram) for gram in grams])
        flat = np.concatenate(grams) if grams else np.empty(0, dtype=np.uint64)
        order = np.argsort(flat, kind="stable")
        self._flat, self._owners = flat[order], owners[order]
        self._index = np.unique(flat)
        self._seen = np.zeros(len(self._index), dtype=np.bool_)
        self._documents: Counter[str] = Counter()
        self._characters: Counter[str] = Counter()

    def matches(self, text: str) -> set[str]:
        """The benchmarks that ``text`` shares an n-gram with; the n-grams are remembered for the report."""
        if not len(self._index):
            return set()
        grams = hash_ngrams(_hash(text), self._config.ngram)
        found = np.unique(grams[self._is_known(grams)])
        if not len(found):
            return set()
        self._seen[np.searchsorted(self._index, found)] = True
        low, high = np.searchsorted(self._flat, found, "left"), np.searchsorted(self._flat, found, "right")
        return {self._items[self._owners[at]].benchmark for a, b in zip(low, high, strict=True) for at in range(a, b)}

    def _is_known(self, grams: Hashes) -> np.ndarray:
        places = np.minimum(np.searchsorted(self._index, grams), len(self._index) - 1)
        return self._index[places] == grams

    def clean(self, text: str) -> tuple[str | None, str | None]:
        """(text without what it shares, None), or (None, reason) where the whole document has to go."""
        benchmarks = self.matches(text)
        if not benchmarks:
            return text, None
        reason = f"shares {self._config.ngram} words with {', '.join(sorted(benchmarks))}"
        cut = self._cut(text) if self._config.action == "lines" else None
        gone = len(text) if cut is None else len(text) - len(cut)
        whole = cut is None or gone > self._config.maximum_cut * len(text)
        for benchmark in benchmarks:
            self._documents[benchmark] += 1
            self._characters[benchmark] += len(text) if whole else gone
        return (None, reason) if whole else (cut, None)

    def _cut(self, text: str) -> str | None:
        """The text without the blocks that hold matches; None where a match cannot be placed on lines."""
        lines = text.split("\n")
        words = [split_words(strip_markup(line)) for line in lines]
        ends = np.cumsum([len(row) for row in words]).tolist()
        grams = hash_ngrams(hash_words([word for row in words for word in row]), self._config.ngram)
        hits = np.flatnonzero(self._is_known(grams)) if len(grams) else np.empty(0, dtype=np.int64)
        gone: set[int] = set()
        for hit in hits.tolist():
            first = bisect.bisect_right(ends, hit)
            last = bisect.bisect_right(ends, hit + self._config.ngram - 1)
            gone.update(range(first, last + 1))
        for line in sorted(gone):
            gone.update(_block(lines, line))
        kept = "\n".join(line for number, line in enumerate(lines) if number not in gone).strip("\n")
        known = hash_ngrams(_hash(kept), self._config.ngram)
        return kept if kept.strip() and not self._is_known(known).any() else None

    def report(self) -> dict[str, dict[str, Any]]:
        """Per benchmark: items, too short ones, those found and contaminated, documents and characters cut."""
        table: dict[str, dict[str, Any]] = {}
        for item in self._items:
            row = table.setdefault(item.benchmark, dict.fromkeys(("items", "too_short", "found", "contaminated"), 0))
            row["items"] += 1
            row["too_short"] += not len(item.grams)
            share = self._share(item)
            row["found"] += share > 0
            row["contaminated"] += share >= self._config.contaminated
        for benchmark, row in table.items():
            row |= {"documents": self._documents[benchmark], "characters": self._characters[benchmark]}
        return table

    def shares(self) -> Iterator[dict[str, Any]]:
        """Every text that was found, with the share of its words that lie in shared n-grams."""
        for item in self._items:
            share = self._share(item)
            if share > 0:
                contaminated = share >= self._config.contaminated
                yield {"benchmark": item.benchmark, "item": item.name, "share": share, "contaminated": contaminated}

    def _share(self, item: Item) -> float:
        if not len(item.grams):
            return 0.0
        covered = np.zeros(item.words, dtype=np.bool_)
        for start in np.flatnonzero(self._seen[np.searchsorted(self._index, item.grams)]):
            covered[start : start + self._config.ngram] = True
        return float(covered.mean())


def as_text(report: dict[str, dict[str, Any]]) -> str:
    """A detector's report for a terminal: one line a benchmark."""
    columns = ("items", "too_short", "found", "contaminated", "documents", "characters")
    head = ("benchmark", "texts", "too short", "found", "contaminated", "in documents", "characters cut")
    return table_text([head, *((name, *(f"{row[column]:,}" for column in columns)) for name, row in report.items())])


def _block(lines: list[str], line: int) -> range:
    """The lines between two blank ones around ``line``."""
    start = end = line
    while start > 0 and lines[start - 1].strip():
        start -= 1
    while end < len(lines) and lines[end].strip():
        end += 1
    return range(start, end)


def decontaminate(
    config: DecontaminateConfig,
    corpus: Path,
    evaluation_texts: Path | Sequence[Path],
    out: Path,
    progress: Progress,
    held_out: Path | None = None,
    name_items: bool = False,
) -> None:
    """Writes the corpus to ``out`` without what its training documents share with ``evaluation_texts``.

    The passages and sentences of ``held_out`` (JSONL, see ``withhold``) are cut out before.  Held-out documents and
    passages stay as they are, since a test may be answered from a page that is looked up; ``stats.json`` is the
    corpus's with the new steps of the funnel and the new report.  ``name_items`` also writes ``contamination.jsonl``,
    the texts that were found.

    Raises:
        HerdError: no evaluation texts, or no document is left for training.
    """
    detector = Detector(load_items(evaluation_texts, config), config)
    withholder = Withholder(read_jsonl(held_out) if held_out is not None else ())
    account = {step: _Account() for step in _STEPS}
    schema = read_schema(corpus / "documents")
    with (
        DocumentWriter(out / "documents", schema) as documents,
        DocumentWriter(out / "rejects", read_schema(corpus / "rejects", REASONS)) as rejects,
    ):
        for row in read_documents(corpus / "rejects"):
            rejects.add(row)
        for row in progress.track(read_documents(corpus / "documents"), "decontaminate", unit="documents"):
            kept = withholder.clean(row["id"], row["text"])
            reason = None if kept.strip() else "nothing is left beside what is held out"
            step, text = _WITHHOLD, None if reason else kept
            account[step].count(row["text"], text, reason)
            if text is not None:
                step, (text, reason) = _DECONTAMINATE, detector.clean(kept)
                account[step].count(kept, text, reason)
            if text is None:
                rejects.add(row | {"rule": step, "reason": reason})
            else:
                documents.add(row | {"text": text})
    if not documents.documents:
        raise HerdError(f"{corpus}: no document is left for training beside the evaluation texts")
    for name in BESIDE:
        copy_beside(corpus / name, out / name)
    stats = read_json(corpus / "stats.json")
    figures = {_WITHHOLD: {"withheld": asdict(withholder.withheld)}}
    for step in _STEPS if held_out is not None else (_DECONTAMINATE,):
        stats["funnel"].append(account[step].after(step, stats["funnel"][-1], figures.get(step, {})))
    stats["decontamination"] = detector.report()
    if name_items:
        write_jsonl(out / "contamination.jsonl", detector.shares())
    write_json(out / "stats.json", stats)


@dataclass
class _Account:
    """What one step took away: characters, and documents by reason."""

    cut: int = 0
    removed: Counter[str] = field(default_factory=Counter)

    def count(self, before: str, after: str | None, reason: str | None) -> None:
        self.cut += len(before) - len(after or "")
        self.removed.update([reason] if reason else [])

    def after(self, step: str, previous: dict[str, Any], figures: dict[str, Any]) -> dict[str, Any]:
        """The step's row of the funnel; its counts include the held-out documents, as those before do."""
        row = {
            "step": _STEPS[step],
            "documents": previous["documents"] - self.removed.total(),
            "characters": previous["characters"] - self.cut,
            "removed": dict(self.removed),
            "heldout": previous["heldout"],
        }
        return row | figures
