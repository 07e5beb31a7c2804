"""The whole road beside datatrove: WARC to extracted, filtered, deduplicated Parquet, time by step, in turns.

Run: ``python bench/corpus/road.py PAGES TEXTS --records 20000 --rounds 2 --workers 2`` where PAGES holds real pages
(``*.html.gz``) and TEXTS paragraphs (``*.jsonl.gz`` with a field ``text``).  Needs ``datatrove[processing,io]``, spacy
and lxml_html_clean; 20,000 records take some 3 GB of disk, and a process half a gigabyte of memory.

Records are written first: each is a real page whose long paragraphs are replaced by others, so that mark-up is real and
twins are few.  Both then read the archive, extract, judge by Gopher's rules, remove near-duplicates (14 bands of 8 rows
of 5-word shingles) and write Parquet.  Herd does what it always does beside that (privacy, language, divergence,
quality, lines, passages), and a second ratio leaves these steps out.  datatrove's language filter needs a model that
must be downloaded, and is left out.

Each road has a process of its own; times are processor seconds of it and its children, and wall seconds, from the start
of the process on.  What Herd's steps for one page take is their share of these steps' processor seconds, datatrove's
extraction the share of its first pipeline that its own clocks give.
"""

import argparse
import gzip
import itertools
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

_PARAGRAPH = re.compile(r"(<p\b[^>]*>)(.{80,}?)(</p>)", re.DOTALL | re.IGNORECASE)
_Pair = NDArray[np.float64]  # Seconds of processors and of the wall.
_Seconds = dict[str, _Pair]

# What curation is made of beside the steps that look at one page, which its funnel has timed: function and step.
_STEPS = {
    "_portions": "addresses", "_prepare": "pages", "find_outliers": "divergence", "find_families": "near-duplicates",
    "score": "quality", "_cut_lines": "lines", "_separate": "write", "_weigh": "write", "write_passages": "passages",
}  # fmt: skip
# Herd's steps that datatrove's pipelines have no counterpart of here.
_MORE = ("privacy", "language", "divergence", "quality", "lines", "passages")


def write_archives(folder: Path, pages: Path, texts: Path, records: int, parts: int) -> None:
    """Writes ``records`` responses to ``parts`` WARC files, each a gzip member of its own."""
    real = [gzip.decompress(file.read_bytes()).decode("utf-8", "replace") for file in sorted(pages.glob("*.html.gz"))]
    paragraphs = _paragraphs(texts)
    files = [(folder / f"{part}.warc.gz").open("wb") for part in range(parts)]
    for number, page in enumerate(itertools.islice(itertools.cycle(real), records)):
        html = _PARAGRAPH.sub(lambda found: found[1] + next(paragraphs) + found[3], page).encode()
        files[number % parts].write(gzip.compress(_record(f"http://site{number % 997}.example/{number}", html), 1))
    for file in files:
        file.close()


def _record(url: str, html: bytes) -> bytes:
    body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:x:{url}>\r\nContent-Type: application/http; msgtype=response\r\n"
        f"WARC-Identified-Payload-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


def _paragraphs(texts: Path) -> Iterator[str]:
    """Paragraphs of 100 to 800 characters, shuffled, again and again in another order."""
    lines: list[str] = []
    for name in sorted(texts.rglob("*.jsonl.gz")):
        with gzip.open(name, "rt", encoding="utf-8") as file:
            found = (line for row in file for line in json.loads(row)["text"].split("\n"))
            lines += [line for line in found if 100 <= len(line) <= 800]
    for turn in itertools.count():
        for place in np.random.default_rng(turn).permutation(len(lines)).tolist():
            yield lines[place].replace("&", "&amp;").replace("<", "&lt;")


class _Meter:
    """What each step takes of this process and the children that ended, since ``began`` on the system's clock."""

    def __init__(self, began: float) -> None:
        self._began = began
        self.spent: _Seconds = {"start": self.now()}

    def now(self) -> _Pair:
        times = os.times()
        processor = times.user + times.system + times.children_user + times.children_system
        return np.array([processor, time.monotonic() - self._began])

    def over(self, function: Callable[..., Any], step: str) -> Callable[..., Any]:
        """The function, of which every call is counted to ``step``."""

        def timed(*arguments: Any, **options: Any) -> Any:
            started = self.now()
            try:
                return function(*arguments, **options)
            finally:
                self.spent[step] = self.spent.get(step, 0.0) + self.now() - started

        return timed


def through_herd(archives: Path, out: Path, workers: int, began: float) -> tuple[_Seconds, int]:
    """Seconds by step, and how many documents were left."""
    from herd.corpus import collect, curate
    from herd.corpus.dedup import DedupConfig
    from herd.corpus.heuristics import HeuristicsConfig
    from herd.foundation.files import read_json
    from herd.foundation.progress import Progress

    meter = _Meter(began)
    for name, step in _STEPS.items():
        setattr(curate, name, meter.over(getattr(curate, name), step))
    sources = collect.PagesConfig.model_validate({"sources": [{"kind": "warc", "paths": [str(archives)]}]})
    (out / "corpus").mkdir(parents=True)
    meter.over(collect.collect, "read")(sources, out / "pages", Progress.silent())
    heuristics = HeuristicsConfig.model_validate({"published": {"gopher": "reject"}})
    dedup = DedupConfig(shingle_words=5, bands=14, rows=8)
    config = curate.CurateConfig(workers=workers, dedup=dedup, heuristics=heuristics)
    curate.curate(config, out / "pages", out / "corpus", Progress.silent())
    funnel = {row["step"]: row for row in read_json(out / "corpus" / "stats.json")["funnel"]}
    both = meter.spent.pop("pages")
    shares = {step: funnel[step]["seconds"] / both[0] for step in ("extract", "privacy", "language", "heuristics")}
    pages = {step: both * share for step, share in shares.items()}
    signed = {"signatures": both - sum(pages.values())}
    return meter.spent | pages | signed | {"all": meter.now()}, funnel["decontaminate"]["documents"]


def through_datatrove(archives: Path, out: Path, workers: int, began: float) -> tuple[_Seconds, int]:
    """The same of datatrove's pipelines, which run one after the other; ``workers`` processes share each."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.extractors import Trafilatura
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.readers import ParquetReader, WarcReader
    from datatrove.pipeline.writers import ParquetWriter

    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    places = {name: str(out / name) for name in ("clean", "signatures", "buckets", "remove", "kept")}
    pipelines = {
        "pages": [WarcReader(str(archives), glob_pattern="*.warc.gz"), Trafilatura(timeout=30),
                  GopherRepetitionFilter(), GopherQualityFilter(), ParquetWriter(places["clean"])],
        "signatures": [ParquetReader(places["clean"]), MinhashDedupSignature(places["signatures"], config)],
        "buckets": [MinhashDedupBuckets(places["signatures"], places["buckets"], config=config)],
        "cluster": [MinhashDedupCluster(places["buckets"], places["remove"], config=config)],
        "write": [ParquetReader(places["clean"]), MinhashDedupFilter(places["remove"]), ParquetWriter(places["kept"])],
    }  # fmt: skip
    tasks = {"pages": workers, "signatures": workers, "buckets": config.num_buckets, "cluster": 1, "write": workers}
    meter = _Meter(began)
    for name, pipeline in pipelines.items():
        # By fork, since what its usual processes take cannot be asked for; they would import everything once more.
        executor = LocalPipelineExecutor(
            pipeline,
            tasks=tasks[name],
            workers=min(workers, tasks[name]),
            logging_dir=str(out / f"log-{name}"),
            start_method="fork",
        )
        meter.over(executor.run, name)()
    blocks = json.loads((out / "log-pages" / "stats.json").read_text())
    seconds = [block.get("time_stats", {}).get("total", 0.0) for block in blocks]
    share = sum(value for block, value in zip(blocks, seconds, strict=True) if "Trafilatura" in block["name"])
    meter.spent["extract"] = meter.spent["pages"] * share / sum(seconds)
    meter.spent["pages"] -= meter.spent["extract"]
    kept = sum(pq.read_metadata(file).num_rows for file in Path(places["kept"]).rglob("*.parquet"))
    return meter.spent | {"all": meter.now()}, kept


def main() -> None:
    """Prints every round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="processes of each; the archive has as many files")
    arguments = parser.parse_args()
    roads = {"herd": through_herd, "datatrove": through_datatrove}
    with tempfile.TemporaryDirectory() as folder:
        archives = Path(folder) / "crawl"
        archives.mkdir()
        write_archives(archives, arguments.pages, arguments.texts, arguments.records, arguments.workers)
        size = sum(file.stat().st_size for file in archives.iterdir())
        print(f"{arguments.records:,} records, {size / 1e6:.0f} MB, {arguments.workers} processes of each", flush=True)
        for number in range(arguments.rounds):
            rates: dict[str, NDArray[np.float64]] = {}
            for name, through in roads.items():
                # In a process of its own, which each of the two then has to start.
                with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                    place = Path(folder) / f"{name}-{number}"
                    asked = archives, place, arguments.workers, time.monotonic()
                    spent, kept = pool.submit(through, *asked).result()
                shutil.rmtree(place)
                rates[name] = np.array([arguments.records / (spent["all"] - less) for less in _left_out(spent)])
                print(f"{name}, {kept:,} kept", flush=True)
                for clock, row in (("processor", 0), ("wall", 1)):
                    print(f"  {clock} seconds", {step: round(float(pair[row]), 2) for step, pair in spent.items()})
                    _tell("records a second:", rates[name][:, row])
            for clock, row in (("processor", 0), ("wall", 1)):
                _tell(f"{clock} ratios:", rates["herd"][:, row] / rates["datatrove"][:, row])


def _left_out(spent: _Seconds) -> list[_Pair]:
    """Nothing, extraction, the steps that only Herd has, and both of these."""
    extraction, more = spent["extract"], sum((spent[step] for step in _MORE if step in spent), np.zeros(2))
    return [np.zeros(2), extraction, more, extraction + more]


def _tell(what: str, values: NDArray[np.float64]) -> None:
    cases = ("in all", "without extraction", "the same steps only", "these without extraction")
    told = (f"{case} {value:.2f}" for case, value in zip(cases, values.tolist(), strict=True))
    print(f"  {what}", *told, sep=" ; ", flush=True)


if __name__ == "__main__":
    main()
