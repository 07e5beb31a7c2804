"""Documents to token shards: the stage ``tokenize``.

    tokenize(TokenizeConfig(), corpus, tokenizer, out, progress)

For each split and domain ``out`` then holds one flat little-endian file of ids, ``train/general.bin`` (``uint16`` where
the vocabulary allows, ``uint32`` else), with ``general.index.npy``, the place of every document's first token and of
the end of the last, ``general.quality.npy`` and ``general.ids.txt``, one row a document. Every document stands between
a begin and an end token. ``meta.json`` holds the type, the tokenizer's digest and the sizes of every split and domain.

The work is done in parts of some thousand documents, each written whole or not at all: a run that was killed keeps its
finished parts, and repeats at most the one that each worker had begun.
"""

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import (
    atomic_directory,
    atomic_path,
    digest_file,
    digest_value,
    read_json,
    write_json,
)
from herd.foundation.progress import Progress
from herd.foundation.workers import workers
from herd.tokenizer.documents import count_rows, parquet_files, read_document_file
from herd.tokenizer.files import file_of
from herd.tokenizer.tokenizer import Tokenizer

SPLITS = {"train": "documents", "heldout": "heldout"}
"""Split to the corpus' folder of it."""
META_FILE = "meta.json"

_DEFAULT_DOMAIN = "general"
_PLAN_FILE = "plan.json"
_SIZES_FILE = "sizes.json"
_LARGEST_UINT16 = 1 << 16
_DOCUMENTS_AT_ONCE = 100


class TokenizeConfig(Config):
    """How the work is cut up; the tokens do not depend on it."""

    part_documents: int = Field(default=2_000, gt=0)
    """Documents of one part: what an interrupted worker has to repeat at most."""
    workers: int = Field(default=0, ge=0)
    """Processes; 0: one for each core."""


@dataclass
class Sizes:
    """Of one domain: documents, their characters and UTF-8 bytes, and their tokens with begin and end tokens."""

    documents: int = 0
    characters: int = 0
    bytes: int = 0
    tokens: int = 0

    def add(self, other: "Sizes") -> None:
        """Adds another part's sizes."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True)
class Part:
    """Consecutive rows of one Parquet file, tokenised and written together."""

    split: str
    path: Path
    first: int
    count: int

    @property
    def name(self) -> str:
        """The folder of the part's output."""
        return f"{self.split}-{self.path.stem}-{self.first:012d}"


@dataclass
class _Column:
    """What one domain has collected within a part."""

    tokens: list[np.ndarray] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    quality: list[float] = field(default_factory=list)
    sizes: Sizes = field(default_factory=Sizes)


def tokenize(config: TokenizeConfig, corpus: Path, tokenizer: Path, out: Path, progress: Progress) -> None:
    """The stage: every document of ``corpus`` into ``out``, resumed where an earlier call was interrupted."""
    began = time.monotonic()
    parts = _plan(config, corpus)
    total = sum(part.count for part in parts)
    if not any(part.split == "train" for part in parts):
        raise HerdError(f"{corpus / SPLITS['train']}: the corpus is empty, there is nothing to tokenise")
    parts_directory = out / "parts"
    _prepare(parts_directory, config, parts, tokenizer)
    missing = [part for part in parts if not (parts_directory / part.name).is_dir()]
    with progress.task("tokenising", total, "documents") as task:
        task.advance(total - sum(part.count for part in missing))
        written = 0
        for part in _write_parts(config, missing, tokenizer, parts_directory):
            written += sum(sizes["tokens"] for sizes in read_json(parts_directory / part.name / _SIZES_FILE).values())
            speed = written / (time.monotonic() - began)
            task.note(f"{speed:,.0f} tokens/s")
            task.advance(part.count)
    meta = _merge(parts, parts_directory, tokenizer, out)
    seconds = time.monotonic() - began
    redone = {"parts": len(parts), "parts_written_now": len(missing), "tokens_written_now": written, "seconds": seconds}
    write_json(out / "stats.json", {"splits": meta["splits"], "vocab_size": meta["vocab_size"], **redone})
    write_json(out / META_FILE, meta)
    shutil.rmtree(parts_directory)


def _plan(config: TokenizeConfig, corpus: Path) -> list[Part]:
    """All parts in the order in which their documents stand in the shards."""
    parts: list[Part] = []
    for split, folder in SPLITS.items():
        directory = corpus / folder
        if split != "train" and not any(directory.glob("*.parquet")):
            continue
        for path in parquet_files(directory):
            rows = count_rows(path)
            for first in range(0, rows, config.part_documents):
                parts.append(Part(split, path, first, min(config.part_documents, rows - first)))
    return parts


def _prepare(directory: Path, config: TokenizeConfig, parts: Sequence[Part], tokenizer: Path) -> None:
    """Keeps the parts of an interrupted run on the same input, removes those of any other."""
    files = {f"{part.split}/{part.path.name}": part.path for part in parts}
    digests = {name: digest_file(path) for name, path in sorted(files.items())}
    plan = digest_value([config.part_documents, digest_file(file_of(tokenizer)), digests])
    plan_file = directory / _PLAN_FILE
    if not (plan_file.is_file() and read_json(plan_file) == plan):
        shutil.rmtree(directory, ignore_errors=True)
        write_json(plan_file, plan)
    for torn in directory.glob(".*"):
        shutil.rmtree(torn)


def _write_parts(config: TokenizeConfig, parts: Sequence[Part], tokenizer: Path, out: Path) -> Iterator[Part]:
    """Writes the parts, on as many processes as asked, and yields each when it is on the disk."""
    processes = min(config.workers or os.cpu_count() or 1, len(parts))
    if processes <= 1:
        loaded = Tokenizer.load(tokenizer)
        for part in parts:
            write_part(part, loaded, out)
            yield part
        return
    with workers(processes, "tokenising") as pool:
        waiting = {pool.submit(_write_part_in_worker, part, tokenizer, out): part for part in parts}
        for done in as_completed(waiting):
            done.result()
            yield waiting[done]


def _write_part_in_worker(part: Part, tokenizer: Path, out: Path) -> None:
    write_part(part, _loaded_once(tokenizer), out)


@cache
def _loaded_once(tokenizer: Path) -> Tokenizer:
    """A worker's tokenizer, which it keeps from part to part."""
    return Tokenizer.load(tokenizer)


def write_part(part: Part, tokenizer: Tokenizer, out: Path) -> None:
    """Tokenises one part into the folder ``out / part.name``, which appears only when it is complete.

    A line break within a document's id becomes a space, since ids stand a line each.
    """
    dtype = token_type(tokenizer.vocab_size)
    columns: dict[str, _Column] = defaultdict(_Column)
    begin, end = (np.array([token], dtype=dtype) for token in (tokenizer.bos_id, tokenizer.eos_id))
    optional = ("id", "domain", "quality")
    rows = read_document_file(part.path, ("text",), optional=optional, first=part.first, count=part.count)
    while some := list(islice(rows, _DOCUMENTS_AT_ONCE)):
        texts = [row["text"] for row in some]
        for row, text, ids in zip(some, texts, tokenizer.encode_arrays(texts), strict=True):
            column = columns[_domain(row.get("domain"), part.path)]
            column.tokens.append(np.concatenate([begin, ids.astype(dtype), end]))
            column.ids.append(str(row.get("id", "")).replace("\n", " "))
            column.quality.append(float(row.get("quality") or 0.0))
            column.sizes.add(Sizes(1, len(text), len(text.encode()), len(ids) + 2))
    with atomic_directory(out / part.name) as directory:
        for domain, column in columns.items():
            np.concatenate(column.tokens).tofile(directory / f"{domain}.bin")
            np.save(directory / f"{domain}.lengths.npy", np.array([len(ids) for ids in column.tokens], dtype=np.int64))
            np.save(directory / f"{domain}.quality.npy", np.array(column.quality, dtype=np.float32))
            (directory / f"{domain}.ids.txt").write_text("".join(f"{line}\n" for line in column.ids), encoding="utf-8")
        write_json(directory / _SIZES_FILE, {domain: asdict(column.sizes) for domain, column in columns.items()})


def _domain(name: Any, path: Path) -> str:
    """A document's domain, after which its files are named; ``HerdError`` where that cannot be."""
    domain = str(name or _DEFAULT_DOMAIN)
    if domain.startswith(".") or "/" in domain or "\0" in domain:
        raise HerdError(f"{path}: the domain {domain!r} cannot be the name of a file")
    return domain


def token_type(vocab_size: int) -> np.dtype[Any]:
    """The little-endian type of a shard's ids: two bytes where every id fits, else four."""
    return np.dtype("<u2") if vocab_size <= _LARGEST_UINT16 else np.dtype("<u4")


def _merge(parts: Sequence[Part], directory: Path, tokenizer: Path, out: Path) -> dict[str, Any]:
    """Joins the parts' files by split and domain; returns the content of ``meta.json``."""
    sizes: dict[str, dict[str, Sizes]] = {split: defaultdict(Sizes) for split in SPLITS}
    folders: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for part in parts:
        for domain, values in sorted(read_json(directory / part.name / _SIZES_FILE).items()):
            sizes[part.split][domain].add(Sizes(**values))
            folders[part.split, domain].append(directory / part.name)
    for (split, domain), sources in folders.items():
        _join([folder / f"{domain}.bin" for folder in sources], out / split / f"{domain}.bin")
        _join([folder / f"{domain}.ids.txt" for folder in sources], out / split / f"{domain}.ids.txt")
        lengths = np.concatenate([np.load(folder / f"{domain}.lengths.npy") for folder in sources])
        _save_array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), out / split / f"{domain}.index.npy")
        quality = np.concatenate([np.load(folder / f"{domain}.quality.npy") for folder in sources])
        _save_array(quality, out / split / f"{domain}.quality.npy")
    vocab_size = Tokenizer.load(tokenizer).vocab_size
    return {
        "dtype": token_type(vocab_size).name,
        "vocab_size": vocab_size,
        "tokenizer": digest_file(file_of(tokenizer)),
        "splits": {split: {name: asdict(size) for name, size in found.items()} for split, found in sizes.items()},
    }


def _join(sources: Sequence[Path], target: Path) -> None:
    with atomic_path(target) as temporary, temporary.open("wb") as joined:
        for path in sources:
            with path.open("rb") as part:
                shutil.copyfileobj(part, joined)


def _save_array(values: np.ndarray, target: Path) -> None:
    with atomic_path(target) as temporary, temporary.open("wb") as out:
        np.save(out, values)
