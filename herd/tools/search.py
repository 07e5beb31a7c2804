"""Search over the corpus' passages: an SQLite FTS5 index, built once, opened read-only, the same answer every time.

A documented name is found by that name: ``json.dumps`` brings its own page first and, when no such name exists,
nothing at all, so that a model can learn to say that it does not know.  Anything else is a full-text query over names
(whole and cut into words), first sentences and texts, ranked by BM25 with weights for the columns.  Any string is a
valid query.  What a model reads is short: one line of signature, then the first sentence and what follows it.

Use: ``build_index(SearchConfig(), corpus, out, progress)``, then ``SearchIndex(out / "search.sqlite").answer(query)``.
"""

import json
import re
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import atomic_path, write_json
from herd.foundation.progress import Progress
from herd.tools.passages import Passage, read_passages

INDEX_NAME = "search.sqlite"
NO_RESULTS = "No results."

_VERSION = "1"
_QUERY_CHARACTERS = 300
_QUERY_WORDS = 24
# BM25 weights of the columns name, words, summary, text: a word of the name counts most.
_WEIGHTS = (10.0, 6.0, 3.0, 1.0)
_DEPTH_PENALTY = 0.5
# How many more matches are weighed than are wanted.
_SPARE = 30
_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_WORD = re.compile(r"\w+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|_+|(?<=[A-Z])(?=[A-Z][a-z])")
# "Parameters ----------": where a docstring in NumPy's style turns from sentences to tables.
_SECTION = re.compile(r"\s[A-Z][\w ]{2,20} -{3,}")
_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a about an and are can do does for from how i in is it me my of on or please python tell that the this to use "
        "what when which with you",
    )
)
_COLUMNS = "name, signature, summary, text, url, package, document_id"


class SearchConfig(Config):
    """How much of a passage a model reads, in characters; kept inside the index, so that it is the same everywhere."""

    result_characters: int = Field(default=240, ge=40, le=4000)
    signature_characters: int = Field(default=64, ge=0, le=1000)


@dataclass(frozen=True)
class Hit:
    """A passage that answers a query."""

    name: str
    signature: str
    summary: str
    text: str
    url: str
    package: str
    document_id: str

    @property
    def title(self) -> str:
        """The dotted name, which is what a page calls its title."""
        return self.name

    def wire(self, config: SearchConfig) -> str:
        """What a model reads: the signature's line, then the first sentence and as much of the rest as fits."""
        head = shorten(signature_line(self.name, self.signature), config.signature_characters) or self.name
        body = _SECTION.split(" ".join(self.text.split()), maxsplit=1)[0]
        start = body.find(self.summary) if self.summary else len(" ".join(self.signature.split()))
        body = body[start:].lstrip() if start >= 0 else self.summary
        room = max(config.result_characters - len(head) - 1, len(self.summary))
        return f"{head}\n{_whole_sentences(body, room, len(self.summary))}".rstrip()


def signature_line(name: str, signature: str) -> str:
    """The dotted name followed by the signature's parameters: ``json.dumps(obj, *, skipkeys=False)``."""
    start = signature.find("(")
    return name if start < 0 else name + " ".join(signature[start:].split())


def shorten(text: str, limit: int) -> str:
    """``text`` in at most ``limit`` characters, cut at a parameter's or word's end and closed by an ellipsis."""
    if len(text) <= limit:
        return text
    cut = max(text.rfind(", ", 0, limit - 4), text.rfind(" ", 0, limit - 4), text.rfind("(", 0, limit - 4))
    return text[: cut + 1].rstrip(" ") + "..." if cut > 0 else text[: max(limit - 3, 0)] + "..."


def _whole_sentences(body: str, room: int, least: int) -> str:
    if len(body) <= room:
        return body
    cut = max(body.rfind(". ", 0, room) + 1, least)
    return body[:cut].rstrip() if cut else shorten(body, room)


def _printable(query: str) -> str:
    # Half a surrogate pair cannot be written as UTF-8, and SQLite would refuse it.
    return query[:_QUERY_CHARACTERS].encode("utf-8", "ignore").decode()


def split_words(name: str) -> str:
    """A dotted name's words: ``os.path.getSize`` gives ``os path get Size``."""
    return " ".join(word for part in name.split(".") for word in _HUMP.split(part) if word)


def build_index(config: SearchConfig, corpus: Path, out: Path, progress: Progress) -> None:
    """Stage: indexes ``passages.parquet`` of ``corpus`` into ``out/search.sqlite``; figures go to ``stats.json``."""
    began = time.monotonic()
    with atomic_path(out / INDEX_NAME) as temporary:
        temporary.unlink(missing_ok=True)
        count = _fill(config, progress.track(read_passages(corpus), "indexing passages", unit="passages"), temporary)
        if not count:
            raise HerdError(f"{corpus}: there are no passages to index")
    size = (out / INDEX_NAME).stat().st_size
    write_json(out / "stats.json", {"passages": count, "bytes": size, "seconds": time.monotonic() - began})


def _fill(config: SearchConfig, passages: Iterable[Passage], file: Path) -> int:
    database = sqlite3.connect(file, isolation_level=None)
    try:
        database.executescript(
            """
            PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
            CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
            CREATE TABLE passages (id INTEGER PRIMARY KEY, leaf TEXT, name TEXT, signature TEXT, summary TEXT,
                                   text TEXT, url TEXT, package TEXT, document_id TEXT);
            CREATE VIRTUAL TABLE contents USING fts5 (name, words, summary, text, content = '',
                                                   tokenize = "porter unicode61 remove_diacritics 2 tokenchars '_'");
            """
        )
        database.execute("BEGIN")
        count = 0
        for count, passage in enumerate(passages, start=1):
            row = (
                passage.name,
                passage.signature,
                passage.summary,
                passage.text,
                passage.url,
                passage.package,
                passage.document_id,
            )
            leaf = passage.name.rpartition(".")[2]
            database.execute("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (count, leaf, *row))
            words = (count, passage.name, split_words(passage.name), passage.summary, passage.text)
            database.execute("INSERT INTO contents (rowid, name, words, summary, text) VALUES (?, ?, ?, ?, ?)", words)
        meta = {"version": _VERSION, "config": config.model_dump_json()}
        database.executemany("INSERT INTO meta VALUES (?, ?)", sorted(meta.items()))
        database.execute("COMMIT")
        database.executescript(
            """
            CREATE INDEX passages_name ON passages (name COLLATE NOCASE);
            CREATE INDEX passages_leaf ON passages (leaf COLLATE NOCASE);
            INSERT INTO contents (contents) VALUES ('optimize');
            """
        )
    except sqlite3.OperationalError as error:
        raise HerdError(f"{file}: the index could not be built ({error})") from None
    finally:
        database.close()
    return count


class SearchIndex:
    """An index, opened read-only; safe to share between threads.

    ``hidden`` names are left out of every answer: training searches with the held-out names hidden, so that their
    passages cannot slip into a training dialogue by way of somebody else's query.
    """

    def __init__(self, path: Path, hidden: Collection[str] = ()) -> None:
        file = path / INDEX_NAME if path.is_dir() else path
        self._lock = threading.Lock()
        self._hidden = frozenset(hidden)
        try:
            location = f"{file.resolve().as_uri()}?mode=ro&immutable=1"
            self._database = sqlite3.connect(location, uri=True, check_same_thread=False)
            meta = dict(self._database.execute("SELECT key, value FROM meta"))
        except sqlite3.Error as error:
            raise HerdError(f"{file}: not a search index that can be opened ({error})") from None
        if meta.get("version") != _VERSION:
            raise HerdError(
                f"{file}: the index has version {meta.get('version')}, this Herd reads {_VERSION}: build it again"
            )
        self.config = SearchConfig(**json.loads(meta["config"]))

    def close(self) -> None:
        """Closes the database."""
        self._database.close()

    def __len__(self) -> int:
        return int(self._rows("SELECT count(*) FROM passages")[0][0])

    def search(self, query: str, k: int = 1) -> list[Hit]:
        """The ``k`` best passages for any string, best first; a dotted name that nobody documents has none."""
        hits: dict[str, Hit] = {}
        for hit in self._candidates(_printable(query), k + len(self._hidden)):
            if hit.name not in self._hidden:
                hits.setdefault(hit.name, hit)
            if len(hits) >= k:
                break
        return list(hits.values())

    def answer(self, query: str) -> str:
        """What a model reads for a query: the best passage in short, or that there is none."""
        hits = self.search(query)
        return hits[0].wire(self.config) if hits else NO_RESULTS

    def _candidates(self, query: str, limit: int) -> Iterator[Hit]:
        wanted = query.strip(" \t\r\n'\"`?!.,;:").removesuffix("()")
        if _NAME.fullmatch(wanted):
            yield from self._named(wanted)
            if "." in wanted:
                return
        for name in _NAME.findall(query):
            if "." in name:
                yield from self._named(name)
        words = [word for word in _WORD.findall(query) if word.lower() not in _STOP_WORDS][:_QUERY_WORDS]
        yield from self._matching(words, " AND ", limit)
        if len(words) > 1:
            yield from self._matching(words, " OR ", limit)

    def _named(self, name: str) -> list[Hit]:
        # The name itself, the name in another case, then names that end in it, the shallowest first.
        leaf = name.rpartition(".")[2]
        query = f"""SELECT {_COLUMNS} FROM passages WHERE leaf = ?1 COLLATE NOCASE
            AND (name = ?2 COLLATE NOCASE OR substr(name, -length(?2) - 1) = '.' || ?2 COLLATE NOCASE)
            ORDER BY name <> ?2, name <> ?2 COLLATE NOCASE, length(name) - length(replace(name, '.', '')), name, id
            LIMIT 1000"""
        return [Hit(*row) for row in self._rows(query, leaf, name)]

    def _matching(self, words: list[str], operator: str, limit: int) -> list[Hit]:
        if not words:
            return []
        weights = ", ".join(str(weight) for weight in _WEIGHTS)
        # Bare names come last, and of two passages that match alike the one with the shallower name comes first.
        query = f"""SELECT {_COLUMNS} FROM (
            SELECT rowid, bm25(contents, {weights}) AS score FROM contents WHERE contents MATCH ?
            ORDER BY score, rowid LIMIT ?) AS best JOIN passages ON passages.id = best.rowid
            ORDER BY summary = '', score + {_DEPTH_PENALTY} * (length(name) - length(replace(name, '.', ''))), id"""
        quoted = operator.join(f'"{word}"' for word in words)
        return [Hit(*row) for row in self._rows(query, quoted, limit + _SPARE)]

    def _rows(self, query: str, *values: object) -> list[tuple]:
        with self._lock:
            return self._database.execute(query, values).fetchall()
