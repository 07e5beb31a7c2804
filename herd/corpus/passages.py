"""Cuts documents into passages: what a search tool returns and what a question can be about.

A pydoc page is cut at every documented object (see ``pydoc_pages``); any other document is cut into stretches of
paragraphs.  ``write_passages`` puts the passages of the kept documents beside them, so that tools and tasks read a
table and need to know nothing of pages.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from herd.foundation.files import atomic_path

PASSAGE_COLUMNS = ("document_id", "name", "signature", "text", "url", "package", "summary")
_SCHEMA = pa.schema([pa.field(name, pa.string()) for name in PASSAGE_COLUMNS])
_ROWS_PER_GROUP = 10_000
_PROSE_CHARACTERS = 1_500
_ABBREVIATIONS = "".join(rf"(?<!\b{word}\.)" for word in (r"e\.g", r"i\.e", "etc", "cf", "vs", "approx", "resp"))
_SENTENCE_END = re.compile(rf"(?<=[.!?]){_ABBREVIATIONS}[\"')\]`]*\s+(?=[A-Z`'\"*(\[]|$)")
_CALL = re.compile(r"^[\w.]+\(.*\)(?: ?-> ?.+)?$")
_RULE = re.compile(r"^[=\-~^*#_+.]{3,}$")


@dataclass(frozen=True)
class Passage:
    """A piece of a document: ``name`` is a dotted name (or the title), ``signature`` its heading line or empty.

    ``text`` is the whole piece, heading included; ``summary`` is the first sentence of what is said about it.
    """

    name: str
    signature: str
    text: str
    summary: str


def passages(text: str, title: str, *, pydoc: bool = True) -> list[Passage]:
    """The passages of a document, in order: for a pydoc page one for each entry, and first the module's own words.

    ``title`` is the module's dotted name, with which every heading begins.  With ``pydoc`` false, or where no heading
    is found, the text is cut between paragraphs into stretches of some 1,500 characters.
    """
    if not pydoc:
        return _prose(text, title)
    heading = re.compile(rf"^(?:class )?({re.escape(title)}(?:\.[A-Za-z_]\w*)+)(?=\(| = |$)[^\n]*", flags=re.MULTILINE)
    candidates = heading.finditer(text)
    starts = [match for match in candidates if text[max(match.start() - 2, 0) : match.start()] in ("", "\n\n")]
    ends = [*(match.start() for match in starts[1:]), len(text)][: len(starts)]
    found = _prose(text[: starts[0].start()] if starts else text, title)
    for match, end in zip(starts, ends, strict=True):
        body = _own_lines(text[match.end() : end])
        found.append(Passage(match[1], match[0], f"{match[0]}\n{body}".rstrip(), first_sentence(body)))
    return found


def first_sentence(text: str) -> str:
    """The first sentence of a docstring or paragraph on one line; an empty string where there is none.

    Titles' rules, a call that a docstring begins with and the bases of a class are no sentences.
    """
    paragraph: list[str] = []
    for line in text.strip().splitlines():
        stripped = line.strip()
        if _RULE.match(stripped) or (not paragraph and _CALL.match(stripped)):
            continue
        if not stripped and paragraph:
            break
        if stripped:
            paragraph.append(stripped)
    if paragraph[:1] and paragraph[0].startswith("Bases: "):
        return ""
    return _SENTENCE_END.split(" ".join(" ".join(paragraph).split()), maxsplit=1)[0].strip()


def write_passages(documents: Iterable[Mapping[str, Any]], out: Path) -> int:
    """Writes ``out/passages.parquet`` for ``documents`` and returns the number of passages.

    A document needs ``id``, ``text``, ``title``, ``url`` and ``package``; documents whose address is a source file are
    passed over, as code is run and not looked up.  A name that several documents document is kept from the first.
    """
    total = 0
    seen: set[str] = set()
    rows: list[dict[str, Any]] = []
    with (
        atomic_path(out / "passages.parquet") as temporary,
        pq.ParquetWriter(temporary, _SCHEMA, compression="zstd") as writer,
    ):
        for document in documents:
            url = document["url"] or ""
            if url.startswith("source:"):
                continue
            for passage in passages(document["text"], document["title"] or "", pydoc=url.startswith("pydoc:")):
                if passage.signature and passage.name in seen:
                    continue
                seen.add(passage.name)
                rows.append(
                    asdict(passage) | {"document_id": document["id"], "url": url, "package": document["package"]}
                )
            if len(rows) >= _ROWS_PER_GROUP:
                total += _flush(rows, writer)
        total += _flush(rows, writer)
    return total


def _flush(rows: list[dict[str, Any]], writer: pq.ParquetWriter) -> int:
    writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
    count = len(rows)
    rows.clear()
    return count


def _own_lines(text: str) -> str:
    """The indented lines after a heading; what follows them without indentation belongs to no entry."""
    own: list[str] = []
    for line in text.strip("\n").split("\n"):
        if line and not line.startswith(" "):
            break
        own.append(line)
    return "\n".join(own).rstrip()


def _prose(text: str, title: str) -> list[Passage]:
    """Paragraphs gathered into stretches; one paragraph is never cut."""
    found: list[Passage] = []
    gathered: list[str] = []
    for paragraph in [*text.strip("\n").split("\n\n"), ""]:
        if gathered and (not paragraph or sum(map(len, gathered)) + len(paragraph) > _PROSE_CHARACTERS):
            stretch = "\n\n".join(gathered)
            found.append(Passage(title, "", stretch, first_sentence(stretch)))
            gathered = []
        if paragraph.strip():
            gathered.append(paragraph)
    return found
