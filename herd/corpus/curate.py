"""The stage that turns pages into a corpus: every filter in order, every reject kept with its reason, sums checked.

    curate(CurateConfig(), Path("runs/pocket/pages"), Path("runs/pocket/corpus"), Progress())

Reads the artifact ``pages``; writes ``documents/`` (training), ``heldout/``, ``rejects/``, ``passages.parquet``,
``families.jsonl`` (near-duplicates), ``quality.bin``, ``index/`` (for the next snapshot) and ``stats.json``.  Pages
are prepared in portions, in several processes where there is enough to do; texts are on the disk between steps, and
what stays in memory is a few numbers a document.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

import herd
from herd.corpus.blocklist import Blocklist
from herd.corpus.decontaminate import DecontaminateConfig, Detector, load_items
from herd.corpus.dedup import newest_by_address
from herd.corpus.documents import REASONS, DocumentWriter, Row, document_schema, read_documents, read_shard
from herd.corpus.engine import Engine, EngineConfig, open_engine
from herd.corpus.funnel import Funnel, OddConfig
from herd.corpus.heuristics import build_rules
from herd.corpus.index import Address, IndexWriter
from herd.corpus.ledger import Ledger, find_families, find_outliers, find_worst, open_ledger, prepared, score, twins
from herd.corpus.lines import LineCounts, LinesConfig, cut_lines, frequent_lines
from herd.corpus.mix import Mix, MixConfig, plan_mix
from herd.corpus.passages import write_passages
from herd.corpus.portions import begin, prepare_once
from herd.corpus.prepare import EXTRA_FIELDS, OLDER, STEPS, Portion, PrepareConfig, Tally
from herd.corpus.quality import QualityModel
from herd.corpus.snapshots import KNOWN_ADDRESS, Past
from herd.corpus.split import SplitConfig, held_out
from herd.corpus.words import hash_text, split_words
from herd.foundation.errors import HerdError
from herd.foundation.files import digest_value, write_json, write_jsonl
from herd.foundation.progress import Progress

_PORTION_CHARACTERS = 8_000_000
_CHARACTERS_WORTH_PROCESSES = 12_000_000


class CurateConfig(PrepareConfig):
    """All of curation; ``workers`` 0 takes as many processes as the machine has processors, at most four.

    ``blocklists`` are files of domains and addresses that are kept out (see ``blocklist``); ``index`` keeps what the
    next snapshot is compared with, about a kilobyte a document (see ``index``).
    """

    blocklists: tuple[str, ...] = ()
    lines: LinesConfig = LinesConfig()
    split: SplitConfig = SplitConfig()
    mix: MixConfig = MixConfig()
    decontaminate: DecontaminateConfig = DecontaminateConfig()
    workers: int = Field(default=0, ge=0)
    engine: EngineConfig = EngineConfig()
    index: bool = True
    odd: OddConfig = OddConfig()


@dataclass
class _Run:
    """What the steps of one curation share."""

    config: CurateConfig
    pages: Path
    out: Path
    progress: Progress
    rules: list[str]
    funnel: Funnel
    tally: Tally
    past: Past
    index: IndexWriter | None

    @property
    def work(self) -> Path:
        return self.out / "work"

    def schema(self, extra: tuple[pa.Field, ...] = ()) -> pa.Schema:
        return document_schema(self.rules, extra)


def curate(
    config: CurateConfig,
    pages: Path,
    out: Path,
    progress: Progress,
    evaluation_texts: Path | None = None,
    against: Sequence[Path] = (),
) -> None:
    """Curates the artifact ``pages`` into ``out``; ``evaluation_texts`` (JSONL) are kept out of the training documents.

    ``against`` are corpora of earlier snapshots, the oldest first: what they hold does not come again.

    Raises:
        HerdError: there are no pages, a shard cannot be read, an earlier corpus has no fitting index, or no document is
            left.
    """
    past = Past.open(against, config.dedup)
    items = load_items(evaluation_texts, config.decontaminate) if evaluation_texts is not None else []
    index = IndexWriter(out, config.dedup) if config.index else None
    portions, characters, kept_characters = _portions(pages, Blocklist.read(config.blocklists), past, index)
    begin(out / "work", _plan(config, portions))
    funnel = Funnel(sum(len(portion.verdicts) for portion in portions), int(characters), config.odd)
    rules = [rule.name for rule in build_rules(config.heuristics)]
    run = _Run(config, pages, out, progress, rules, funnel, Tally(), past, index)
    with open_engine(config.engine, _processes(config, characters)) as engine:
        _prepare(run, engine, portions, kept_characters)
        ledger, quality, figures = _compare(run, engine)
    living = np.flatnonzero(ledger.alive)
    heldout = held_out(((ledger.ids[row], ledger.domains[row]) for row in living), config.split)
    _cut_lines(run, ledger, figures)
    detector = Detector(items, config.decontaminate)
    sizes = _separate(run, detector, heldout)
    mix = plan_mix(sizes, config.mix)
    _weigh(run, mix)
    passages = write_passages(read_documents(run.work / "clean"), out)
    shutil.rmtree(run.work)
    if index is not None:
        index.close()
    write_json(out / "stats.json", _stats(run, quality, detector, mix, sizes, passages))


def _portions(
    pages: Path, blocklist: Blocklist, past: Past, index: IndexWriter | None
) -> tuple[list[Portion], int, int]:
    """Portions of some eight million characters with the verdicts on addresses; characters in all, and those kept."""
    shards = sorted((pages / "pages").glob("*.parquet"))
    sizes: list[NDArray[np.int64]] = []
    addresses: list[tuple[str, str | None, str]] = []
    for shard in shards:
        try:
            with pq.ParquetFile(shard) as file:
                table = file.read(["id", "url", "date", "content"], use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:
            raise HerdError(f"{shard}: not readable as pages ({error})") from None
        sizes.append(pc.utf8_length(table["content"]).to_numpy().astype(np.int64))
        rows = zip(*(table[name].to_pylist() for name in ("url", "date", "id")), strict=True)
        addresses += [(url or "", date, identifier) for url, date, identifier in rows]
    if not addresses:
        raise HerdError(f"{pages}: holds no pages (expected rows in pages/*.parquet)")
    verdicts = _judge_addresses(addresses, blocklist, past, index)
    keep = np.array([verdict is None for verdict in verdicts])
    portions: list[Portion] = []
    base = kept = 0
    for shard, size in zip(shards, sizes, strict=True):
        parts = (np.cumsum(size) - size) // _PORTION_CHARACTERS
        for part in np.unique(parts):
            rows_of = np.flatnonzero(parts == part)
            start, stop = int(rows_of[0]), int(rows_of[-1]) + 1
            marks = tuple(verdicts[base + start : base + stop])
            portions.append(Portion(shard.resolve(), start, stop, len(portions), marks))
        kept += int(size[keep[base : base + len(size)]].sum())
        base += len(size)
    return portions, sum(int(size.sum()) for size in sizes), kept


def _judge_addresses(
    pages: list[Address], blocklist: Blocklist, past: Past, index: IndexWriter | None
) -> list[str | None]:
    """Why the address of each page keeps it out, None where it does not."""
    blocked = [blocklist.reason(url) for url, _, _ in pages]
    newest = newest_by_address(pages)
    known = past.addresses(pages, newest & np.array([why is None for why in blocked]))
    if index is not None:
        index.addresses(page for page, first in zip(pages, newest, strict=True) if first)
        index.superseded(past.superseded)
    later = {row: f"{KNOWN_ADDRESS}: {found}" for row, found in known.items()}
    return [why or later.get(row) or (None if newest[row] else OLDER) for row, why in enumerate(blocked)]


def _of_portions(config: CurateConfig) -> PrepareConfig:
    return PrepareConfig(**{name: getattr(config, name) for name in PrepareConfig.model_fields})


def _plan(config: CurateConfig, portions: list[Portion]) -> str:
    """A digest of all that the portions depend on."""
    rows = [
        (str(portion.shard), portion.shard.stat().st_mtime_ns, portion.start, portion.stop, portion.verdicts)
        for portion in portions
    ]
    return digest_value([herd.__version__, _of_portions(config).model_dump(mode="json"), rows])


def _processes(config: CurateConfig, characters: int) -> int:
    if characters < _CHARACTERS_WORTH_PROCESSES:
        return 1
    return config.workers or min(os.cpu_count() or 1, 4)


def _prepare(run: _Run, engine: Engine, portions: list[Portion], kept_characters: int) -> None:
    """Runs everything that looks at one page at a time."""
    verdicts = (verdict for portion in portions for verdict in portion.verdicts if verdict is not None)
    reasons = Counter(verdict.partition(":")[0] for verdict in verdicts)
    run.funnel.step("url", run.funnel.documents - reasons.total(), kept_characters, reasons)
    config = _of_portions(run.config)
    schema, rejects = run.schema(EXTRA_FIELDS), run.schema(REASONS)
    prepare = partial(prepare_once, config=config, out=run.work.resolve(), schema=schema, rejects=rejects)
    with run.progress.task("curate: pages", total=run.funnel.steps[0]["documents"], unit="pages") as task:
        for portion, tally in zip(portions, engine.map(prepare, portions), strict=True):
            run.tally.add(tally)
            run.funnel.early(run.tally.kept, run.tally.removed)
            task.advance(portion.stop - portion.start)
    if len(list(run.work.glob("documents-*.parquet"))) < len(portions):
        raise HerdError(f"{run.work}: not all that was prepared is here; every node must see this place by this path")
    for step in STEPS:
        seconds = run.tally.seconds[step]
        run.funnel.step(step, run.tally.kept[step], run.tally.characters[step], run.tally.removed[step], seconds)


def _compare(run: _Run, engine: Engine) -> tuple[Ledger, QualityModel, dict[str, NDArray[np.float64]]]:
    """Divergence, near-duplicates and quality: what needs all documents at once."""
    ledger = open_ledger(run.work)
    if len(ledger.ids) != run.funnel.documents:
        raise RuntimeError(
            f"{run.funnel.documents} documents came through the rules, {len(ledger.ids)} are on the disk"
        )
    if not ledger.ids:
        why = f"most of its pages went for: {run.funnel.commonest()}"
        raise HerdError(f"{run.pages}: no document is left after the rules that look at one page at a time; {why}")
    with run.progress.task("curate: compare documents", total=3, unit="steps") as task:
        divergences, far = find_outliers(run.config, run.work, ledger)
        removed = ledger.reject(far, "divergence", "words unlike those of its domain")
        ledger.close(run.funnel, "divergence", removed)
        task.advance()
        compared = np.flatnonzero(ledger.alive)
        family, known = find_families(run.config, run.work, ledger, engine, run.past)
        removed = ledger.reject_known(known)
        if not ledger.alive.any():
            raise HerdError(f"{run.pages}: earlier snapshots hold all that is left of it after the rules")
        task.advance()
        quality, scores = score(run.config, run.work, ledger, family)
        quality.save(run.out / "quality.bin")
        copies = ~ledger.best(family, scores)
        kept = ledger.kept(family, copies, known)
        write_jsonl(run.out / "families.jsonl", twins(ledger.ids, kept, known))
        if run.index is not None:
            ids = [ledger.ids[row] for row in kept]
            run.index.documents(ids, list(kept.values()), compared, run.work / "signatures.npy")
        removed += ledger.reject(copies, "near_duplicates", "a better near-duplicate stays")
        ledger.close(run.funnel, "near_duplicates", removed)
        low = find_worst(run.config, ledger, scores)
        removed = ledger.reject(low, "quality", f"lowest {run.config.quality.drop:.0%} of its domain")
        ledger.close(run.funnel, "quality", removed)
        task.advance()
    return ledger, quality, {"divergence": divergences, "quality": scores}


def _cut_lines(run: _Run, ledger: Ledger, figures: dict[str, NDArray[np.float64]]) -> None:
    """Cuts frequent lines; writes the living documents to ``work/clean`` and all that went to ``work/gone``."""
    config, removed, lines = run.config.lines, Counter[str](), 0
    counts = LineCounts(config, int(ledger.alive.sum()), run.work / "lines")
    for number, row in enumerate(prepared(run.work, ["line_keys"])):
        if ledger.alive[number] and ledger.domains[number] not in config.exempt_domains:
            counts.add(hash_text(ledger.ids[number]), row["line_keys"])
    run.past.count_lines(counts)
    frequent = frequent_lines(counts)
    if run.index is not None:
        run.index.lines(counts)
    names = run.schema().names
    with (
        DocumentWriter(run.work / "clean", run.schema()) as clean,
        DocumentWriter(run.work / "gone", run.schema(REASONS)) as gone,
    ):
        for number, row in enumerate(
            run.progress.track(prepared(run.work), "curate: lines", len(ledger.ids), "documents")
        ):
            document: Row = {name: row.get(name) for name in names}
            document |= {name: float(values[number]) for name, values in figures.items()}
            if not ledger.alive[number]:
                rule, reason = ledger.verdicts[number]
                gone.add(document | {"rule": rule, "reason": reason})
                continue
            key = hash_text(row["id"])
            cut = 0
            if row["domain"] not in config.exempt_domains:
                text, cut = cut_lines(row["text"], row["line_keys"], key, frequent[counts.bucket(key)], config)
                document |= {"text": text, "lines_cut": row["lines_cut"] + cut}
            if cut and len(split_words(document["text"])) < run.config.heuristics.minimum_words:
                reason = "too few words left without frequent lines"
                removed[reason] += 1
                gone.add(document | {"rule": "lines", "reason": reason})
            else:
                lines += cut
                clean.add(document)
    run.funnel.step("lines", clean.documents, clean.characters, removed, lines_cut=lines)


def _separate(run: _Run, detector: Detector, heldout: set[str]) -> Counter[str]:
    """Writes ``heldout``, ``rejects`` and, decontaminated, ``work/train``; returns the characters of each domain."""
    removed, sizes = Counter[str](), Counter[str]()
    with (
        DocumentWriter(run.work / "train", run.schema()) as train,
        DocumentWriter(run.out / "heldout", run.schema()) as unseen,
        DocumentWriter(run.out / "rejects", run.schema(REASONS)) as rejects,
    ):
        for row in _rejected(run.work):
            rejects.add(row)
        for row in read_documents(run.work / "clean"):
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
    run.funnel.step("decontaminate", kept, characters, removed, heldout=unseen.documents)
    entered = run.funnel.steps[0]["documents"]
    if kept + rejects.documents != entered:
        raise RuntimeError(f"{entered} pages became {kept} documents and {rejects.documents} rejects")
    if not train.documents:
        raise HerdError(f"{run.pages}: no document is left for training after all rules")
    return sizes


def _rejected(work: Path) -> Iterator[Row]:
    for path in sorted(work.glob("rejects-*.parquet")):
        yield from read_shard(path)
    yield from read_documents(work / "gone")


def _weigh(run: _Run, mix: Mix) -> None:
    """Writes ``documents`` with the weight that the mix gives to each one's domain."""
    with DocumentWriter(run.out / "documents", run.schema()) as documents:
        for row in read_documents(run.work / "train"):
            documents.add(row | {"weight": mix.weights[row["domain"]]})


def _stats(
    run: _Run, quality: QualityModel, detector: Detector, mix: Mix, sizes: Counter[str], passages: int
) -> dict[str, Any]:
    earlier = {"against": run.past.figures()} if run.past else {}
    return {
        "funnel": run.funnel.steps,
        **earlier,
        "private": dict(run.tally.private.most_common()),
        "repeated_lines_cut": run.tally.repeated_lines,
        "quality": quality.report,
        "mix": {
            "shares": mix.shares,
            "weights": mix.weights,
            "natural": mix.natural,
            "notes": mix.notes,
            "characters": dict(sizes),
        },
        "decontamination": detector.report(),
        "passages": passages,
    }
