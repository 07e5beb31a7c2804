"""Facts that a question can be asked about: documented names with one clean first sentence.

Only a part of the passages serves.  The sentence must be whole, short, plain and the name's own: a question whose
reference answer is a fragment of markup would measure nothing.  What does not serve stays in the search index.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from herd.foundation.errors import HerdError

_COLUMNS = ("name", "summary", "text", "url", "package", "document_id")
_PLAIN = re.compile(r"[A-Z][ -~]*[A-Za-z0-9)'`\]]\.")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|cf|vs|al|approx|resp|Fig|Eq|No|St|Mr|Dr)\.$")
_INNER_END = re.compile(r"[.!?]\s+\S")
_MARKUP = re.compile(r">>>|://|:\w+:|--|\*\*|\|$|[\\\"<>{}]|^\w+\(|\bself\b")
_MODULE_PART = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Fact:
    """A documented name and the first sentence about it; ``text`` is the whole passage."""

    name: str
    sentence: str
    text: str
    url: str
    package: str
    document_id: str


@dataclass(frozen=True)
class Facts:
    """The usable facts in the order of their names, and every name that the index knows, usable or not."""

    usable: list[Fact]
    names: frozenset[str]
    dropped: dict[str, int]


def read_facts(passages: Path, longest: int, sharing: int = 3) -> Facts:
    """Reads ``passages.parquet`` (or the directory that holds it) and keeps the facts that questions can be about.

    ``longest`` bounds the sentence in characters; a sentence that more than ``sharing`` names share belongs to none.
    """
    rows = _read_rows(passages)
    reasons: dict[str, int] = defaultdict(int)
    by_name: dict[str, list[Fact]] = defaultdict(list)
    for row in rows:
        sentence = row.pop("summary")
        if reason := why_unusable(row["name"], sentence, longest):
            reasons[reason] += 1
        else:
            by_name[row["name"]].append(Fact(sentence=sentence, **row))
    counted = defaultdict(set)
    for row in rows:
        counted[row["name"]].add(row["text"])
    usable = []
    owners: dict[str, int] = defaultdict(int)
    for name in sorted(by_name):
        if len(counted[name]) > 1:
            reasons["the name has several passages"] += len(by_name[name])
        else:
            usable.append(by_name[name][0])
            owners[sentence_key(by_name[name][0].sentence)] += 1
    own = [fact for fact in usable if owners[sentence_key(fact.sentence)] <= sharing]
    reasons["many names share the sentence"] += len(usable) - len(own)
    return Facts(own, frozenset(counted), dict(sorted(reasons.items())))


def why_unusable(name: str, sentence: str, longest: int) -> str | None:
    """The reason why no question is asked about this name, or None where it serves."""
    parts = name.split(".")
    if len(parts) < 2 or not all(_MODULE_PART.fullmatch(part) for part in parts):
        return "the name is private, special or not dotted"
    if len(name) > 40:
        return "the name is long"
    if len(sentence) > longest:
        return "the first sentence is long"
    if len(sentence.split()) < 4:
        return "the first sentence is short"
    whole = _PLAIN.fullmatch(sentence) and not _ABBREVIATION.search(sentence) and not _INNER_END.search(sentence)
    if not whole or not _balanced(sentence):
        return "the first sentence is not one whole sentence"
    if _MARKUP.search(sentence):
        return "the first sentence holds markup"
    return None


def sentence_key(sentence: str) -> str:
    """The sentence without case, punctuation and spacing: equal keys say the same."""
    return " ".join(re.findall(r"\w+", sentence.lower()))


def _balanced(sentence: str) -> bool:
    pairs = sentence.count("(") == sentence.count(")") and sentence.count("[") == sentence.count("]")
    return pairs and sentence.count("`") % 2 == 0 and "  " not in sentence


def _read_rows(passages: Path) -> list[dict[str, str]]:
    file = passages / "passages.parquet" if passages.is_dir() else passages
    try:
        table = pq.read_table(file, columns=list(_COLUMNS))
    except FileNotFoundError:
        raise HerdError(f"{file}: there is no such file of passages") from None
    except (OSError, pa.ArrowException) as error:
        raise HerdError(f"{file}: not readable as passages ({error})") from None
    return [{name: row[name] or "" for name in _COLUMNS} for row in table.to_pylist()]


def group_by_sentence(facts: Iterable[Fact]) -> list[list[Fact]]:
    """Facts that say the same (aliases such as ``os.path.join`` and ``posixpath.join``) in one group, in order."""
    groups: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        groups[sentence_key(fact.sentence)].append(fact)
    return list(groups.values())
