"""Addresses that are kept out: lists of domains and addresses, and a list learnt from what a corpus itself holds.

    herd blocklist corpus --out blocked                          # learns blocked/blocked.txt
    herd curate pages --set "blocklists=[blocked/blocked.txt]" --out cleaner

A list has one entry a line: a domain, which stands for all below it too, or an address with a path, which stands for
all that begin so; ``#`` begins a comment, and a line of a hosts file (``0.0.0.0 example.org``) is read as its domain.
A domain is learnt, as in the paper (section 3.1.1: adult domains, sites with much personal data), where the share of
its pages with hits is high beyond chance: the lower end of Wilson's 95% interval must lie above the limit.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from herd.corpus.documents import Row, read_documents
from herd.corpus.heuristics import DirtyWords
from herd.corpus.intervals import wilson
from herd.corpus.rules import HeuristicsConfig, View
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import digest_file, write_json, write_jsonl, write_text
from herd.foundation.progress import Progress

Kind = Literal["adult", "private"]

_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,61}\w)?\.)+[^\W\d_][\w-]{1,62}$")
_NOWHERE = {"0.0.0.0", "127.0.0.1", "::1", "::"}


def host(address: str) -> str:
    """The host of a whole address in small letters, without ``www.``; empty where it names none."""
    try:
        found = urlsplit(address).hostname or ""
    except ValueError:
        return ""
    return found.rstrip(".").removeprefix("www.")


@dataclass
class Blocklist:
    """Domains, and beginnings of addresses without scheme by their host."""

    domains: set[str] = field(default_factory=set)
    prefixes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def read(cls, paths: Iterable[str]) -> "Blocklist":
        """All lists together; a line that names neither domain nor address is a ``HerdError`` with its number."""
        found = cls()
        for path in paths:
            try:
                lines = Path(path).read_text(encoding="utf-8").splitlines()
            except FileNotFoundError:
                raise HerdError(f"{path}: there is no such file (a block list)") from None
            except (OSError, UnicodeDecodeError) as error:
                raise HerdError(f"{path}: not readable as a block list ({error})") from None
            for number, line in enumerate(lines, start=1):
                entry = line.partition("#")[0].split()
                if entry and not found.add(entry[1] if len(entry) == 2 and entry[0] in _NOWHERE else " ".join(entry)):
                    raise HerdError(f"{path}, line {number}: neither a domain nor an address: {line.strip()[:80]}")
        return found

    def add(self, entry: str) -> bool:
        """Adds an entry; False where it is none."""
        entry = entry if "//" in entry else f"//{entry}"
        name = host(entry)
        if not _DOMAIN.match(name) or " " in entry:
            return False
        rest = _without_scheme(entry)
        if "/" not in rest.rstrip("/"):
            self.domains.add(name)
        else:
            self.prefixes[name].append(rest)
        return True

    def reason(self, address: str | None) -> str | None:
        """Why an address is kept out, None where it is not."""
        if not (self.domains or self.prefixes):
            return None
        name = host(address or "")
        parts = name.split(".")
        if any(".".join(parts[start:]) in self.domains for start in range(len(parts))):
            return "its domain is blocked"
        if any(_without_scheme(address or "").startswith(prefix) for prefix in self.prefixes.get(name, ())):
            return "its address is blocked"
        return None


def _without_scheme(address: str) -> str:
    """``example.org/path`` of ``https://www.Example.org/path``: the host in small letters, the rest as it is."""
    authority, slash, path = address.partition("//")[2].partition("/")
    return host(f"//{authority}") + slash + path


def list_digests(paths: Iterable[str]) -> dict[str, str]:
    """What a curation depends on besides its settings: the content of its lists; a missing one is a ``HerdError``."""
    Blocklist.read(paths)
    return {f"block list {path}": digest_file(Path(path)) for path in paths}


class LearnConfig(Config):
    """A domain with ``minimum_pages`` or more is blocked for a share of pages with hits that is surely above a limit.

    A page has an adult hit where it breaks the rule on dirty words, and a private one with ``private_findings`` pieces
    of personal data or more.
    """

    minimum_pages: int = Field(default=10, ge=1)
    adult_share: float = Field(default=0.2, gt=0, le=1)
    private_share: float = Field(default=0.3, gt=0, le=1)
    private_findings: int = Field(default=3, ge=1)
    dirty_words: int = Field(default=HeuristicsConfig().maximum_dirty_words, ge=1)
    dirty_share: float = Field(default=HeuristicsConfig().maximum_dirty_share, gt=0)

    def limit(self, kind: Kind) -> float:
        """The share from which a domain is blocked."""
        return self.adult_share if kind == "adult" else self.private_share


@dataclass
class _Site:
    pages: int = 0
    hits: dict[Kind, int] = field(default_factory=lambda: {"adult": 0, "private": 0})


def learn(config: LearnConfig, corpora: Sequence[Path], out: Path, progress: Progress) -> None:
    """Writes ``blocked.txt``, ``domains.jsonl`` (every domain with its counts) and ``stats.json`` to ``out``.

    Kept, held-out and rejected documents count alike, since the worst pages of a site are among the rejects.

    Raises:
        HerdError: a corpus cannot be read, or no document has an address.
    """
    rule = DirtyWords(config.dirty_words, config.dirty_share)
    sites: dict[str, _Site] = defaultdict(_Site)
    for row in progress.track(_pages(corpora), "blocklist", unit="documents"):
        if not (name := host(row["url"] or "")) or not row["text"]:
            continue
        sites[name].pages += 1
        view = View(row["text"], row["domain"] or "general", HeuristicsConfig())
        value = row.get("dirty_words")
        sites[name].hits["adult"] += rule.reject(rule.value(view) if value is None else value, view) is not None
        sites[name].hits["private"] += (row["private"] or 0) >= config.private_findings
    if not sites:
        raise HerdError(f"{corpora[0]}: no document has an address with a host, so there are no domains to judge")
    rows = [_judge(config, name, site) for name, site in sites.items()]
    rows.sort(key=lambda row: (not row["blocked"], -row["pages"], row["domain"]))
    blocked = [row for row in rows if row["blocked"]]
    write_jsonl(out / "domains.jsonl", rows)
    lines = (f"{row['domain']}  # {' and '.join(row['blocked'])}, {row['pages']} pages\n" for row in blocked)
    write_text(out / "blocked.txt", "".join(lines))
    write_json(out / "stats.json", {
        "domains": len(rows),
        "judged": sum(row["pages"] >= config.minimum_pages for row in rows),
        "blocked": {kind: sum(kind in row["blocked"] for row in rows) for kind in ("adult", "private")},
        "pages": sum(row["pages"] for row in rows),
        "pages blocked": sum(row["pages"] for row in blocked),
    })  # fmt: skip


def _pages(corpora: Sequence[Path]) -> Iterator[Row]:
    for corpus in corpora:
        for name in ("documents", "heldout", "rejects"):
            if name == "documents" or (corpus / name).is_dir():
                yield from read_documents(corpus / name)


def _judge(config: LearnConfig, name: str, site: _Site) -> dict[str, Any]:
    shares = {kind: wilson(hits, site.pages) for kind, hits in site.hits.items()}
    enough = site.pages >= config.minimum_pages and _DOMAIN.match(name)
    blocked = [kind for kind, share in shares.items() if enough and share and share["low"] > config.limit(kind)]
    return {
        "domain": name,
        "pages": site.pages,
        "blocked": blocked,
        "adult": shares["adult"],
        "private": shares["private"],
    }
