"""What another threshold would keep: told from the values that a finished corpus stores, without a new run.

    table = what_if(Path("corpus"), ["words>=50", "gopher_short_lines<=0.5"], HeuristicsConfig())

Every document carries the value of every rule, and every reject its reason.  A kept document goes where its value
breaks the new limit.  A reject comes back where the rule that rejected it was moved, its value obeys the new limit, and
no other rule of its step rejects it; the steps after were never run on it, so what comes back is an upper bound.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from herd.corpus.documents import Row, read_documents, read_schema
from herd.corpus.heuristics import build_rules
from herd.corpus.rules import HeuristicsConfig, Rule, View
from herd.corpus.tables import table_text
from herd.foundation.errors import HerdError

GROUPS = ("source", "language", "domain", "year")
_LIMIT = re.compile(r"^\s*(\w+)\s*(>=|<=)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*$")
_COUNTED = ("kept", "leave", "come back", "kept then")


@dataclass(frozen=True)
class Limit:
    """A new limit: the value in ``column`` must be at least (``low``) or at most ``bound``."""

    column: str
    low: bool
    bound: float

    def allows(self, row: Row) -> bool:
        """Whether the row obeys it; a document that the rule never measured does."""
        value = row.get(self.column)
        return value is None or (value >= self.bound if self.low else value <= self.bound)


def parse_limit(text: str) -> Limit:
    """Reads ``COLUMN>=NUMBER`` or ``COLUMN<=NUMBER``."""
    found = _LIMIT.match(text)
    try:
        return Limit(found[1], found[2] == ">=", float(found[3])) if found else _wrong(text)
    except ValueError:
        return _wrong(text)


def _wrong(text: str) -> Limit:
    raise HerdError(f"{text}: not a limit; write COLUMN>=NUMBER or COLUMN<=NUMBER, as in words>=50")


def what_if(corpus: Path, limits: Sequence[str], config: HeuristicsConfig) -> list[dict[str, Any]]:
    """One row for each value of source, language, domain and year, and one for all: documents and characters.

    ``config`` is the one the corpus was made with: its other limits still hold.

    Raises:
        HerdError: no corpus, no such column, or no limit.
    """
    wanted = [parse_limit(text) for text in limits]
    _check_columns(corpus, wanted)
    rules = [rule for rule in build_rules(config) if rule.name not in {limit.column for limit in wanted}]
    table: dict[tuple[str, str], dict[str, Any]] = {}
    for row, now in _documents(corpus):
        allowed = all(limit.allows(row) for limit in wanted)
        then = allowed if now else allowed and _comes_back(row, wanted, rules, config)
        if not (now or then):
            continue
        for group in [("all", ""), *((name, _group(row, name)) for name in GROUPS)]:
            entry = table.setdefault(group, dict.fromkeys((*_COUNTED, "characters", "characters then"), 0))
            entry["kept"] += now
            entry["leave"] += now and not then
            entry["come back"] += then and not now
            entry["kept then"] += then
            entry["characters"] += len(row["text"]) * now
            entry["characters then"] += len(row["text"]) * then
    order = {name: place for place, name in enumerate(("all", *GROUPS))}
    ranked = sorted(table.items(), key=lambda item: (order[item[0][0]], -item[1]["kept"], item[0][1]))
    return [{"by": by, "group": group} | entry for (by, group), entry in ranked]


def _check_columns(corpus: Path, limits: Sequence[Limit]) -> None:
    if not limits:
        raise HerdError("no limit is given; write one as in words>=50")
    schema = read_schema(corpus / "documents")
    numbers = [field.name for field in schema if str(field.type) in ("float", "double", "int32", "int64")]
    for limit in limits:
        if limit.column not in numbers:
            raise HerdError(f"{corpus}: holds no value {limit.column!r} (it has {', '.join(sorted(numbers))})")


def _documents(corpus: Path) -> Iterator[tuple[Row, bool]]:
    """Every document of the corpus, and whether it was kept."""
    for name in ("documents", "heldout", "rejects"):
        if name == "documents" or (corpus / name).is_dir():
            for row in read_documents(corpus / name):
                yield row, name != "rejects"


def _comes_back(row: Row, limits: Sequence[Limit], rules: list[Rule], config: HeuristicsConfig) -> bool:
    """Whether a reject that obeys the new limits had gone for a rule that they replace, and for no other."""
    culprit = str(row["reason"]).partition(" ")[0] if row["rule"] == "heuristics" else row["rule"]
    if culprit not in {limit.column for limit in limits}:
        return False
    if row["rule"] != "heuristics":
        return True
    view = View(row["text"], row["domain"], config)
    return not any(rule.reject(row[rule.name], view) for rule in rules if row.get(rule.name) is not None)


def _group(row: Row, name: str) -> str:
    value = (row["date"] or "")[:4] if name == "year" else row[name]
    return value or "unknown"


def as_text(table: list[dict[str, Any]]) -> str:
    """The table for a terminal."""
    columns = (*_COUNTED, "characters", "characters then")
    head = ("", *_COUNTED, "characters", "then")
    names = (f"{row['by']} {row['group']}".strip() for row in table)
    return table_text(
        [head, *((name, *(f"{row[key]:,}" for key in columns)) for name, row in zip(names, table, strict=True))]
    )
