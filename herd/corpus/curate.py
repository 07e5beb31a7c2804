"""The stage that turns pages into a corpus: every filter in order, every reject kept with its reason, every sum checked.

    curate(CurateConfig(), Path("runs/pocket/pages"), Path("runs/pocket/corpus"), Progress())

Reads the artifact ``pages``; writes ``documents/`` (training), ``heldout/``, ``rejects/``, ``passages.parquet``,
``quality.bin`` and ``stats.json``.  Pages are prepared in portions, in several processes where there is enough to do;
texts are on the disk between steps, and what stays in memory is a few numbers a document.
"""

import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from herd.corpus.decontaminate import DecontaminateConfig, Detector, load_items
from herd.corpus.dedup import families, newest_by_address, open_signatures, survivors
from herd.corpus.divergence import WordCounts, divergence, outliers
from herd.corpus.documents import REASONS, DocumentWriter, Row, document_schema, read_documents, read_shard
from herd.corpus.funnel import Funnel
from herd.corpus.heuristics import build_rules
from herd.corpus.lines import LineCounts, LinesConfig, cut_lines, frequent_lines
from herd.corpus.mix import MixConfig, plan_mix
from herd.corpus.passages import write_passages
from herd.corpus.prepare import EXTRA_FIELDS, STEPS, Portion, PrepareConfig, Tally, prepare_portion
from herd.corpus.quality import Example, QualityModel, train_quality, worst
from herd.corpus.split import SplitConfig, held_out
from herd.corpus.words import hash_text, split_words
from herd.foundation.errors import HerdError
from herd.foundation.files import write_json
from herd.foundation.progress import Progress

_PORTION_CHARACTERS = 8_000_000
_CHARACTERS_WORTH_PROCESSES = 12_000_000


class CurateConfig(PrepareConfig):
    """All of curation; ``workers`` 0 takes as many processes as the machine has processors, at most four."""

    lines: LinesConfig = LinesConfig()
    split: SplitConfig = SplitConfig()
    mix: MixConfig = MixConfig()
    decontaminate: DecontaminateConfig = DecontaminateConfig()
    workers: int = Field(default=0, ge=0)


@dataclass
class Ledger:
    """What is known of every document that came through preparation, one entry a document, in order."""

    ids: list[str]
    domains: list[str]
    languages: list[str]
    characters: np.ndarray
    words: np.ndarray
    alive: np.ndarray
    verdicts: dict[int, tuple[str, str]]

    def reject(self, gone: np.ndarray, step: str, reason: str) -> Counter[str]:
        """Marks the living documents of ``gone`` as rejected; returns how many there were by reason."""
        rows = np.flatnonzero(self.alive & gone)
        self.alive[rows] = False
        self.verdicts |= dict.fromkeys(rows.tolist(), (step, reason))
        return Counter({reason: len(rows)}) if len(rows) else Counter()

    def close(self, funnel: Funnel, step: str, removed: Counter[str], **figures: Any) -> None:
        """Closes a step of the funnel with the living documents."""
        funnel.step(step, int(self.alive.sum()), int(self.characters[self.alive].sum()), removed, **figures)


def curate(
    config: CurateConfig, pages: Path, out: Path, progress: Progress, evaluation_texts: Path | None = None
) -> None:
    """Curates the artifact ``pages`` into ``out``; ``evaluation_texts`` (JSONL) are kept out of the training documents.

    Raises:
        HerdError: there are no pages, a shard cannot be read, or no document is left.
    """
    items = load_items(evaluation_texts, config.decontaminate) if evaluation_texts is not None else []
    work = out / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    rules = [rule.name for rule in build_rules(config.heuristics)]
    funnel, tally = _prepare(config, pages, work, rules, progress)
    ledger = _ledger(work, pages)

    with progress.task("curate: compare documents", total=3, unit="steps") as task:
        divergences = _diverge(config, work, ledger, funnel)
        task.advance()
        family = _families(config, work, ledger)
        task.advance()
        quality, scores = _score(config, work, ledger, family)
        quality.save(out / "quality.bin")
        copies = ledger.alive & ~survivors_among(family, scores, ledger)
        ledger.close(
            funnel, "near_duplicates", ledger.reject(copies, "near_duplicates", "a better near-duplicate stays")
        )
        low = _worst(config, work, ledger, scores)
        reason = f"lowest {config.quality.drop:.0%} of its domain"
        ledger.close(funnel, "quality", ledger.reject(low, "quality", reason), auc=quality.report["auc"])
        task.advance()

    heldout = held_out(((ledger.ids[row], ledger.domains[row]) for row in np.flatnonzero(ledger.alive)), config.split)
    figures = {"divergence": divergences, "quality": scores}
    _cut(config, work, ledger, figures, heldout, rules, funnel, progress)
    detector = Detector(items, config.decontaminate)
    mix = _finish(config, work, out, detector, heldout, rules, funnel)
    passages = write_passages(read_documents(work / "clean"), out)
    shutil.rmtree(work)
    write_json(out / "stats.json", _stats(funnel, tally, quality, detector, mix, passages))


def _prepare(
    config: CurateConfig, pages: Path, work: Path, rules: list[str], progress: Progress
) -> tuple[Funnel, Tally]:
    """Runs everything that looks at one page at a time, and opens the funnel."""
    portions, documents, characters, kept_characters = _portions(pages)
    funnel, total = Funnel(documents, characters), Tally()
    copies = sum(not keep for portion in portions for keep in portion.keep)
    reasons = Counter({"a newer page has this address": copies}) if copies else Counter[str]()
    funnel.step("url", documents - copies, kept_characters, reasons)
    schema = document_schema(rules, EXTRA_FIELDS)
    rejects = document_schema(rules, REASONS)
    step_config = PrepareConfig(**{name: getattr(config, name) for name in PrepareConfig.model_fields})
    arguments = [(portion, step_config, work, schema, rejects) for portion in portions]
    with progress.task("curate: pages", total=documents, unit="pages") as task:
        workers = config.workers or min(os.cpu_count() or 1, 4)
        parallel = workers > 1 and len(portions) > 1 and characters >= _CHARACTERS_WORTH_PROCESSES
        results = _in_processes(arguments, workers) if parallel else (prepare_portion(*row) for row in arguments)
        for portion, tally in zip(portions, results, strict=True):
            total.add(tally)
            task.advance(portion.stop - portion.start)
    for step in STEPS:
        funnel.step(step, total.kept[step], total.characters[step], total.removed[step])
    return funnel, total


def _in_processes(arguments: list[tuple[Any, ...]], workers: int) -> Iterator[Tally]:
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(prepare_portion, *zip(*arguments, strict=True))


def _portions(pages: Path) -> tuple[list[Portion], int, int, int]:
    """Portions of some eight million characters with the rows that URL dedup keeps; documents and characters in all."""
    shards = sorted((pages / "pages").glob("*.parquet"))
    if not shards:
        raise HerdError(f"{pages}: holds no pages (expected pages/*.parquet)")
    sizes: list[np.ndarray] = []
    addresses: list[tuple[str, str | None, str]] = []
    for shard in shards:
        try:
            table = pq.read_table(shard, columns=["id", "url", "date", "content"])
        except (OSError, pa.ArrowInvalid, KeyError) as error:
            raise HerdError(f"{shard}: not readable as pages ({error})") from None
        sizes.append(pc.utf8_length(table["content"]).to_numpy().astype(np.int64))
        rows = zip(*(table[name].to_pylist() for name in ("url", "date", "id")), strict=True)
        addresses += [(url or "", date, identifier) for url, date, identifier in rows]
    keep = newest_by_address(addresses)
    total = sum(int(size.sum()) for size in sizes)
    if not addresses:
        raise HerdError(f"{pages}: holds no pages (all shards are empty)")
    portions: list[Portion] = []
    base = kept = 0
    for shard, size in zip(shards, sizes, strict=True):
        parts = (np.cumsum(size) - size) // _PORTION_CHARACTERS
        for part in np.unique(parts):
            rows_of = np.flatnonzero(parts == part)
            start, stop = int(rows_of[0]), int(rows_of[-1]) + 1
            marks = tuple(keep[base + start : base + stop].tolist())
            portions.append(Portion(shard, start, stop, len(portions), marks))
        kept += int(size[keep[base : base + len(size)]].sum())
        base += len(size)
    return portions, len(addresses), total, kept


def _shards(work: Path) -> list[Path]:
    return sorted(work.glob("documents-*.parquet"))


def _ledger(work: Path, pages: Path) -> Ledger:
    columns = ["id", "domain", "language", "text", "words"]
    ids, domains, languages, characters, words = [], [], [], [], []
    for shard in _shards(work):
        for row in read_shard(shard, columns):
            ids.append(row["id"])
            domains.append(row["domain"])
            languages.append(row["language"] or "")
            characters.append(len(row["text"]))
            words.append(int(row["words"]))
    if not ids:
        raise HerdError(
            f"{pages}: no document is left after the rules that look at one page; see the reasons in rejects"
        )
    alive = np.ones(len(ids), dtype=np.bool_)
    return Ledger(ids, domains, languages, np.array(characters), np.array(words), alive, {})


def _diverge(config: CurateConfig, work: Path, ledger: Ledger, funnel: Funnel) -> np.ndarray:
    """KL divergence of each document from the rest of its domain and language; the outliers go."""
    groups = [
        f"{domain}/{language}" if domain == "multilingual" else domain
        for domain, language in zip(ledger.domains, ledger.languages, strict=True)
    ]
    totals = {group: np.zeros(config.divergence.buckets, dtype=np.int64) for group in sorted(set(groups))}
    for row, own in enumerate(_word_counts(work)):
        totals[groups[row]][own.buckets] += own.counts
    values = np.array(
        [divergence(own, totals[groups[row]], config.divergence) for row, own in enumerate(_word_counts(work))]
    )
    gone = np.zeros(len(values), dtype=np.bool_)
    for group in totals:
        rows = np.flatnonzero(np.array(groups) == group)
        if group not in config.divergence.exempt_domains:
            gone[rows] = outliers(values[rows].tolist(), ledger.words[rows].tolist(), config.divergence)
    removed = ledger.reject(gone, "divergence", "words unlike those of its domain")
    ledger.close(funnel, "divergence", removed)
    return values


def _word_counts(work: Path) -> Iterator[WordCounts]:
    for shard in _shards(work):
        for row in read_shard(shard, ["words_used", "words_counted"]):
            yield WordCounts(
                np.array(row["words_used"], dtype=np.int32), np.array(row["words_counted"], dtype=np.int32)
            )


def _families(config: CurateConfig, work: Path, ledger: Ledger) -> np.ndarray:
    """Near-duplicate families of the living documents; the others are alone in theirs."""
    path = work / "signatures.npy"
    parts = [np.load(part, mmap_mode="r") for part in sorted(work.glob("signatures-*.npy"))]
    with path.open("wb") as file:
        shape = (sum(len(part) for part in parts), config.dedup.permutations)
        np.lib.format.write_array_header_1_0(file, {"descr": "<u4", "fortran_order": False, "shape": shape})
        for part in parts:
            np.ascontiguousarray(part, dtype="<u4").tofile(file)
    family = np.arange(len(ledger.ids))
    living = np.flatnonzero(ledger.alive)
    family[living] = living[families(open_signatures(path)[living], config.dedup)]
    return family


def survivors_among(family: np.ndarray, scores: np.ndarray, ledger: Ledger) -> np.ndarray:
    """True for the best living document of each family."""
    living = np.flatnonzero(ledger.alive)
    keep = np.zeros(len(family), dtype=np.bool_)
    keep[living] = survivors(family[living], scores[living].tolist(), [ledger.ids[row] for row in living])
    return keep


def _score(config: CurateConfig, work: Path, ledger: Ledger, family: np.ndarray) -> tuple[QualityModel, np.ndarray]:
    """Trains the classifier on one document of each family and scores all."""
    living = ledger.alive
    chosen = survivors_among(family, np.zeros(len(family)), ledger)
    examples = [
        Example(ledger.ids[row], document["sample"], document["reference"])
        for row, document in enumerate(_documents(work, ["sample", "reference"]))
        if living[row] and chosen[row]
    ]
    quality = train_quality(examples, config.quality)
    scores: list[float] = []
    for shard in _shards(work):
        scores += quality.score([row["sample"] for row in read_shard(shard, ["sample"])])
    return quality, np.array(scores)


def _documents(work: Path, columns: list[str] | None = None) -> Iterator[Row]:
    for shard in _shards(work):
        yield from read_shard(shard, columns)


def _worst(config: CurateConfig, work: Path, ledger: Ledger, scores: np.ndarray) -> np.ndarray:
    living = np.flatnonzero(ledger.alive)
    protected = np.array([row["reference"] for row in _documents(work, ["reference"])])
    gone = np.zeros(len(scores), dtype=np.bool_)
    gone[living] = worst(
        scores[living], [ledger.domains[row] for row in living], protected[living].tolist(), config.quality
    )
    return gone


def _cut(
    config: CurateConfig, work: Path, ledger: Ledger, figures: dict[str, np.ndarray], heldout: set[str],
    rules: list[str], funnel: Funnel, progress: Progress,
) -> None:  # fmt: skip
    """Cuts frequent lines; writes the living documents to ``work/clean`` and all that went to ``work/gone``."""
    counts = LineCounts(config.lines, int(ledger.alive.sum()), work / "lines")
    for row, document in enumerate(_documents(work, ["line_keys"])):
        if ledger.alive[row] and ledger.domains[row] not in config.lines.exempt_domains:
            counts.add(hash_text(ledger.ids[row]), document["line_keys"])
    frequent = frequent_lines(counts)
    removed: Counter[str] = Counter()
    lines = 0
    with (
        DocumentWriter(work / "clean", document_schema(rules)) as clean,
        DocumentWriter(work / "gone", document_schema(rules, REASONS)) as gone,
        progress.task("curate: lines", total=len(ledger.ids), unit="documents") as task,
    ):
        for number, row in enumerate(_documents(work)):
            task.advance()
            row |= {name: float(values[number]) for name, values in figures.items()}
            keys = row.pop("line_keys")
            if not ledger.alive[number]:
                rule, reason = ledger.verdicts[number]
                gone.add(_only(row, rules) | {"rule": rule, "reason": reason})
                continue
            if row["domain"] not in config.lines.exempt_domains:
                key = hash_text(row["id"])
                row["text"], cut = cut_lines(row["text"], keys, key, frequent[counts.bucket(key)], config.lines)
                row["lines_cut"] += cut
                lines += cut
                if cut and len(split_words(row["text"])) < config.heuristics.minimum_words:
                    reason = "too few words left without frequent lines"
                    removed[reason] += 1
                    gone.add(_only(row, rules) | {"rule": "lines", "reason": reason})
                    continue
            clean.add(_only(row, rules))
    funnel.step("lines", clean.documents, clean.characters, removed, lines_cut=lines)
    if not clean.documents:
        raise HerdError("corpus: no document is left after all rules; see the reasons in rejects")


def _only(row: Row, rules: list[str]) -> Row:
    names = document_schema(rules).names
    return {name: row.get(name) for name in names}


def _finish(
    config: CurateConfig, work: Path, out: Path, detector: Detector, heldout: set[str], rules: list[str], funnel: Funnel
) -> dict[str, Any]:
    """Decontaminates, weighs and writes ``documents``, ``heldout`` and ``rejects``; returns the mix."""
    schema, removed = document_schema(rules), Counter[str]()
    sizes: Counter[str] = Counter()
    with (
        DocumentWriter(work / "train", schema) as train,
        DocumentWriter(out / "heldout", schema) as unseen,
        DocumentWriter(out / "rejects", document_schema(rules, REASONS)) as rejects,
    ):
        for path in sorted(work.glob("rejects-*.parquet")):
            for row in read_shard(path):
                rejects.add(row)
        for row in read_documents(work / "gone"):
            rejects.add(row)
        for row in read_documents(work / "clean"):
            if row["id"] in heldout:
                unseen.add(row | {"weight": 1.0})
                continue
            text, reason = detector.clean(row["text"])
            if text is None:
                removed[str(reason)] += 1
                rejects.add(row | {"rule": "decontaminate", "reason": reason})
            else:
                sizes[row["domain"]] += len(text)
                train.add(row | {"text": text})
    kept, characters = train.documents + unseen.documents, train.characters + unseen.characters
    funnel.step("decontaminate", kept, characters, removed, heldout=unseen.documents)
    if kept + rejects.documents != funnel.steps[0]["documents"]:
        raise RuntimeError(
            f"{funnel.steps[0]['documents']} pages became {kept} documents and {rejects.documents} rejects"
        )
    if not train.documents:
        raise HerdError("corpus: no document is left for training")
    mix = plan_mix(sizes, config.mix)
    with DocumentWriter(out / "documents", schema) as documents:
        for row in read_documents(work / "train"):
            documents.add(row | {"weight": mix.weights[row["domain"]]})
    return {
        "shares": mix.shares,
        "weights": mix.weights,
        "natural": mix.natural,
        "notes": mix.notes,
        "characters": sizes,
    }


def _stats(
    funnel: Funnel, tally: Tally, quality: QualityModel, detector: Detector, mix: dict[str, Any], passages: int
) -> dict[str, Any]:
    return {
        "funnel": funnel.steps,
        "private": dict(tally.private.most_common()),
        "repeated_lines_cut": tally.repeated_lines,
        "quality": quality.report,
        "mix": mix,
        "decontamination": detector.report(),
        "passages": passages,
    }
