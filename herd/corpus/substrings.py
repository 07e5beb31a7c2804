"""Passages that stand word for word in several places: one copy stays, the others are cut out of their documents.

    herd exact-dedup corpus --out unique --set minimum_tokens=50 --set partitions=8

Near-duplicate dedup sees whole documents and line dedup whole lines; a licence, a quotation or a spun article repeats
stretches that are neither.  As in Lee et al. 2022 every stretch of ``minimum_tokens`` tokens (what stands between white
space) that occurs again goes.  They sort all suffixes; that two suffixes share their first n tokens is the same as that
two windows of n tokens are equal, so here the windows are sorted by digest, a partition at a time: the same stretches
are found, and memory is bounded by a partition.  The copy of the best document stays, then that of the smallest id.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from herd.corpus.documents import read_documents
from herd.corpus.repeats import covered
from herd.corpus.rewrite import Rewrite
from herd.corpus.words import Hashes, hash_ngrams, hash_words, split_words
from herd.foundation.config import Config
from herd.foundation.progress import Progress

_TOKEN = re.compile(r"\S+")
_AGAIN, _FIRST = np.uint8(1), np.uint8(2)
_COMPARED_AT_A_TIME = 1 << 15
_WINDOW = np.dtype([("key", "<u8"), ("rank", "<u4"), ("place", "<u8")])
"""Digest of a window, rank of its document (0: the best), place of its first token among all tokens."""


class SubstringConfig(Config):
    """Stretches of ``minimum_tokens`` are looked for; documents of ``exempt_domains`` are neither searched nor cut.

    A document of which fewer than ``minimum_words`` words are left goes.
    """

    minimum_tokens: int = Field(default=50, ge=2)
    partitions: int = Field(default=1, ge=1)
    exempt_domains: tuple[str, ...] = ()
    minimum_words: int = Field(default=30, ge=0)


def drop_substrings(config: SubstringConfig, corpus: Path, out: Path, progress: Progress) -> None:
    """Writes the corpus to ``out`` without repeated stretches in its training documents.

    Raises:
        HerdError: the corpus cannot be read, or no document is left.
    """
    work = out / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    offsets = _spool(config, corpus, work, progress)
    marks = np.memmap(work / "marks.bin", dtype=np.uint8, mode="w+", shape=(max(int(offsets[-1]), 1),))
    tokens = np.memmap(work / "tokens.bin", dtype=np.uint64, mode="r") if offsets[-1] else np.empty(0, np.uint64)
    for partition in progress.track(range(config.partitions), "exact: compare", config.partitions, "partitions"):
        mark_repeats(np.fromfile(_file(work, partition), dtype=_WINDOW), tokens, config.minimum_tokens, marks)
    cut_documents = cut_tokens = 0
    with Rewrite(corpus, out) as rewrite:
        rows = progress.track(read_documents(corpus / "documents"), "exact: cut", len(offsets) - 1, "documents")
        for number, row in enumerate(rows):
            goes = cut_mask(marks[offsets[number] : offsets[number + 1]], config.minimum_tokens)
            text = without_tokens(row["text"], goes) if goes.any() else row["text"]
            cut_documents += bool(goes.any())
            cut_tokens += int(goes.sum())
            if text is not row["text"] and len(split_words(text)) < config.minimum_words:
                rewrite.reject(row, "exact", "too few words left without repeated passages")
            else:
                rewrite.keep(row | {"text": text}, len(row["text"]) - len(text))
    del marks, tokens
    rewrite.finish("exact", {"documents_cut": cut_documents, "tokens_cut": cut_tokens})
    shutil.rmtree(work)


def _file(work: Path, partition: int) -> Path:
    return work / f"windows-{partition:05d}.bin"


def _ranks(corpus: Path) -> NDArray[np.uint32]:
    """The place of every document among all, best quality first, then by id."""
    rows = [(-(row["quality"] or 0.0), row["id"]) for row in read_documents(corpus / "documents", ["quality", "id"])]
    ranks = np.empty(len(rows), dtype=np.uint32)
    ranks[sorted(range(len(rows)), key=rows.__getitem__)] = np.arange(len(rows), dtype=np.uint32)
    return ranks


def _spool(config: SubstringConfig, corpus: Path, work: Path, progress: Progress) -> NDArray[np.int64]:
    """Writes every token's digest and every window to the disk; returns where each document's tokens begin."""
    ranks, offsets = _ranks(corpus), [0]
    files: list[BinaryIO] = [_file(work, partition).open("wb") for partition in range(config.partitions)]
    try:
        with (work / "tokens.bin").open("wb") as out:
            rows = read_documents(corpus / "documents", ["text", "domain"])
            for number, row in enumerate(progress.track(rows, "exact: read", len(ranks), "documents")):
                exempt = row["domain"] in config.exempt_domains
                hashes = hash_words([] if exempt else _TOKEN.findall(row["text"]))
                hashes.tofile(out)
                for partition, part in _windows(hashes, int(ranks[number]), offsets[-1], config):
                    part.tofile(files[partition])
                offsets.append(offsets[-1] + len(hashes))
    finally:
        for file in files:
            file.close()
    return np.array(offsets, dtype=np.int64)


def _windows(hashes: Hashes, rank: int, start: int, config: SubstringConfig) -> Iterator[tuple[int, NDArray[np.void]]]:
    keys = hash_ngrams(hashes, config.minimum_tokens)
    windows = np.empty(len(keys), dtype=_WINDOW)
    windows["key"], windows["rank"], windows["place"] = keys, rank, np.arange(start, start + len(keys))
    places = keys % np.uint64(config.partitions)
    for partition in range(config.partitions):
        part = windows[places == partition] if config.partitions > 1 else windows
        if len(part):
            yield partition, part


def mark_repeats(windows: NDArray[np.void], tokens: Hashes, length: int, marks: NDArray[np.uint8]) -> None:
    """Marks in ``marks`` where a window begins that stands elsewhere too: the copy that stays, and the others.

    Windows of one key are compared token by token with the first of them, so that a clash of digests cuts nothing.
    """
    windows = windows[np.lexsort((windows["place"], windows["rank"], windows["key"]))]
    new = np.ones(len(windows), dtype=np.bool_)
    new[1:] = windows["key"][1:] != windows["key"][:-1]
    leaders = np.flatnonzero(new)[np.cumsum(new) - 1] if len(windows) else np.empty(0, dtype=np.int64)
    others = np.flatnonzero(~new)
    steps = np.arange(length)
    for begin in range(0, len(others), _COMPARED_AT_A_TIME):
        some = others[begin : begin + _COMPARED_AT_A_TIME]
        mine = windows["place"][some].astype(np.int64)
        kept = windows["place"][leaders[some]].astype(np.int64)
        same = (tokens[mine[:, None] + steps] == tokens[kept[:, None] + steps]).all(axis=1)
        marks[mine[same]] |= _AGAIN
        marks[kept[same]] |= _FIRST


def cut_mask(marks: NDArray[np.uint8], length: int) -> NDArray[np.bool_]:
    """Which tokens of a document go: those in a repeated window, but for those in a window whose copy stays here."""
    if len(marks) < length or not (marks & _AGAIN).any():
        return np.zeros(len(marks), dtype=np.bool_)
    starts = np.asarray(marks[: len(marks) - length + 1])
    again, first = (covered((starts & sign > 0).astype(np.int64), length) for sign in (_AGAIN, _FIRST))
    goes: NDArray[np.bool_] = again & ~first
    return goes


def without_tokens(text: str, goes: NDArray[np.bool_]) -> str:
    """The text without those of its tokens and the white space after them."""
    starts = [match.start() for match in _TOKEN.finditer(text)]
    ends = [*starts[1:], len(text)]
    kept = (text[start:end] for start, end, gone in zip(starts, ends, goes.tolist(), strict=True) if not gone)
    return (text[: starts[0]] + "".join(kept)).rstrip()
