"""Curates a seeded sample of pages, to try rules quickly and to say what the whole would take before it starts.

    herd curate pages --sample 1% --out tried

Pages are drawn by a digest of their ids, so that the same seed gives the same pages whatever lies beside them.
``stats.json`` gets ``whole``: documents, characters, tokens, hours and disk of all pages, each by proportion.  Steps
that compare documents find fewer twins and frequent lines in a sample than in the whole: what is said to be kept is an
upper bound, and the more so the smaller the sample.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from herd.corpus.curate import CurateConfig, curate
from herd.corpus.split import draw
from herd.foundation.errors import HerdError
from herd.foundation.files import atomic_path, read_json, write_json
from herd.foundation.progress import Progress
from herd.foundation.seeds import derive

_CHARACTERS_A_TOKEN = 4.0
"""English through a large vocabulary; a tokenizer of one's own is not there yet when a corpus is planned."""


def parse_share(text: str) -> float:
    """``1%`` or ``0.01`` as a share above 0 and below 1."""
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(%?)\s*", text)
    share = float(found[1]) / (100 if found[2] else 1) if found else 0.0
    if not 0 < share < 1:
        raise HerdError(f"--sample {text}: write a share above 0 and below 1, as 1% or 0.01")
    return share


def curate_sample(
    config: CurateConfig,
    share: float,
    pages: Path,
    out: Path,
    progress: Progress,
    evaluation_texts: Path | None = None,
    against: Sequence[Path] = (),
) -> None:
    """Curates that share of ``pages`` into ``out``; a sample without a page or a document is a ``HerdError``."""
    sample = out / "sample"
    shutil.rmtree(sample, ignore_errors=True)
    taken, there = _draw(pages, sample, share, derive(config.split.seed, "sample"), progress)
    if not taken:
        raise HerdError(f"{pages}: a sample of {share:g} holds none of its {there:,} pages; take more")
    curate(config, sample, out, progress, evaluation_texts, against)
    shutil.rmtree(sample)
    stats = read_json(out / "stats.json")
    write_json(out / "stats.json", stats | {"whole": forecast(stats["funnel"], taken, there, _bytes(out))})


def _draw(pages: Path, out: Path, share: float, seed: int, progress: Progress) -> tuple[int, int]:
    """Writes the drawn rows shard by shard; returns how many there are, and of how many."""
    shards = sorted((pages / "pages").glob("*.parquet"))
    if not shards:
        raise HerdError(f"{pages}: holds no pages (expected rows in pages/*.parquet)")
    taken = there = 0
    for shard in progress.track(shards, "sample", len(shards), "shards"):
        try:
            file = pq.ParquetFile(shard)
            with (
                atomic_path(out / "pages" / shard.name) as temporary,
                pq.ParquetWriter(temporary, file.schema_arrow, compression="zstd") as writer,
            ):
                for part in _drawn(file, share, seed):
                    taken += len(part)
                    writer.write_batch(part)
            there += file.metadata.num_rows
        except (OSError, pa.ArrowInvalid) as error:
            raise HerdError(f"{shard}: not readable as pages ({error})") from None
    return taken, there


def _drawn(file: pq.ParquetFile, share: float, seed: int) -> Iterator[pa.RecordBatch]:
    for batch in file.iter_batches(batch_size=256):
        yield batch.filter(pa.array([draw(name, seed) < share for name in batch["id"].to_pylist()], pa.bool_()))


def _bytes(out: Path) -> int:
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def forecast(funnel: list[dict[str, Any]], taken: int, there: int, size: int) -> dict[str, Any]:
    """What all pages would give and take, in proportion to what the sample did."""
    times, last = there / taken, funnel[-1]
    return {
        "sampled pages": taken,
        "pages": there,
        "documents": round(last["documents"] * times),
        "characters": round(last["characters"] * times),
        "tokens": round(last["characters"] * times / _CHARACTERS_A_TOKEN),
        "core_hours": sum(step.get("seconds", 0.0) for step in funnel) * times / 3600,
        "bytes": round(size * times),
    }


def describe(whole: dict[str, Any], price: float | None) -> str:
    """The forecast as a sentence or two; ``price`` is what a core costs an hour."""
    cost = f", {price * whole['core_hours']:,.2f} at {price:g} a core hour" if price is not None else ""
    return (
        f"all {whole['pages']:,} pages, by {whole['sampled pages']:,}: at most {whole['documents']:,} documents, "
        f"{whole['characters'] / 1e6:,.1f}M characters, about {whole['tokens'] / 1e6:,.1f}M tokens;\n"
        f"  {whole['core_hours']:,.2f} core hours{cost}; {whole['bytes'] / 1e6:,.0f} MB on the disk"
    )
