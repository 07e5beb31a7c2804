"""The whole road beside datatrove: WARC to extracted, filtered, deduplicated Parquet, one process each, in turns.

Run: ``python bench/corpus/road.py PAGES TEXTS --records 20000 --rounds 2`` where PAGES holds real pages
(``*.html.gz``) and TEXTS paragraphs (``*.jsonl.gz`` with a field ``text``).  Needs ``datatrove[processing,io]``, spacy
and lxml_html_clean.

Records are written first: each is a real page whose long paragraphs are replaced by others, so that mark-up is real and
twins are few.  Both then read the archive, extract, judge by Gopher's rules, remove near-duplicates (14 bands of 8 rows
of 5-word shingles) and write Parquet; Herd does what it always does beside that (privacy, language, divergence,
quality, lines).  datatrove's language filter needs a model that must be downloaded, and is left out.
Times are processor seconds, child processes included (datatrove extracts in one).
"""

import argparse
import gzip
import itertools
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from herd.corpus.collect import PagesConfig, collect
from herd.corpus.curate import CurateConfig, curate
from herd.corpus.dedup import DedupConfig
from herd.corpus.heuristics import HeuristicsConfig
from herd.foundation.files import read_json
from herd.foundation.progress import Progress

_PARAGRAPH = re.compile(r"(<p\b[^>]*>)(.{80,}?)(</p>)", re.DOTALL | re.IGNORECASE)
_DEDUP = DedupConfig(shingle_words=5, bands=14, rows=8)


def write_archive(path: Path, pages: Path, texts: Path, records: int) -> None:
    """Writes ``records`` responses to a WARC file, each a gzip member of its own."""
    real = [gzip.decompress(file.read_bytes()).decode("utf-8", "replace") for file in sorted(pages.glob("*.html.gz"))]
    paragraphs = _paragraphs(texts)
    with path.open("wb") as out:
        for number, page in enumerate(itertools.islice(itertools.cycle(real), records)):
            html = _PARAGRAPH.sub(lambda found: found[1] + next(paragraphs) + found[3], page).encode()
            out.write(gzip.compress(_record(f"http://site{number % 997}.example/{number}", html), 1))


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


def through_herd(archive: Path, out: Path) -> dict[str, float]:
    """Processor seconds by step, and how many documents were left."""
    started = _clock()
    sources = [{"kind": "warc", "paths": [str(archive)]}]
    (out / "corpus").mkdir(parents=True)
    collect(PagesConfig.model_validate({"sources": sources}), out / "pages", Progress.silent())
    read = _clock() - started
    heuristics = HeuristicsConfig.model_validate({"published": {"gopher": "reject"}})
    config = CurateConfig(workers=1, dedup=_DEDUP, heuristics=heuristics)
    curate(config, out / "pages", out / "corpus", Progress.silent())
    total = _clock() - started
    steps = read_json(out / "corpus" / "stats.json")["funnel"]
    return {
        "read": read,
        **{step["step"]: step["seconds"] for step in steps},
        "all": total,
        "kept": steps[-1]["documents"],
    }


def through_datatrove(archive: Path, out: Path) -> dict[str, float]:
    """The same of datatrove's pipelines, which run one after the other in this process."""
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
    pipelines = [
        [WarcReader(str(archive.parent), glob_pattern=archive.name), Trafilatura(timeout=30), GopherRepetitionFilter(),
         GopherQualityFilter(), ParquetWriter(places["clean"])],
        [ParquetReader(places["clean"]), MinhashDedupSignature(places["signatures"], config)],
        [MinhashDedupBuckets(places["signatures"], places["buckets"], config=config)],
        [MinhashDedupCluster(places["buckets"], places["remove"], config=config)],
        [ParquetReader(places["clean"]), MinhashDedupFilter(places["remove"]), ParquetWriter(places["kept"])],
    ]  # fmt: skip
    started, children = _clock(), _clock(children=True)
    for number, pipeline in enumerate(pipelines):
        tasks = config.num_buckets if number == 2 else 1
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=str(out / f"log{number}")).run()
    all_of_it, extraction = _clock() - started, _clock(children=True) - children
    kept = sum(pq.read_metadata(file).num_rows for file in Path(places["kept"]).rglob("*.parquet"))
    return {"extract": extraction, "all": all_of_it, "kept": kept}


def _clock(children: bool = False) -> float:
    """Processor seconds of this process and the children that ended, or of the children alone."""
    times = os.times()
    own = 0.0 if children else times.user + times.system
    return own + times.children_user + times.children_system


def main() -> None:
    """Prints every round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "crawl.warc.gz"
        write_archive(archive, arguments.pages, arguments.texts, arguments.records)
        print(f"{arguments.records:,} records, {archive.stat().st_size / 1e6:.0f} MB")
        for number in range(arguments.rounds):
            for name, through in (("herd", through_herd), ("datatrove", through_datatrove)):
                steps = through(archive, Path(folder) / f"{name}-{number}")
                print(name, {step: round(value, 2) for step, value in steps.items()}, flush=True)
                speeds = [arguments.records / seconds for seconds in (steps["all"], steps["all"] - steps["extract"])]
                print("  {:.1f} records a processor second, without extraction {:.1f}".format(*speeds), flush=True)


if __name__ == "__main__":
    main()
