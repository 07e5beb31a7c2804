"""What a page says of itself: title, author, date and language, from JSON-LD, meta elements and its markup.

read_metadata(tree).date   # "2019-11-19"
"""

import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from urllib.parse import urljoin

from selectolax.lexbor import LexborHTMLParser

_DATE_NAMES = (
    "article:published_time", "og:article:published_time", "datepublished", "date", "dc.date", "dc.date.issued",
    "dcterms.created", "dcterms.issued", "pubdate", "publishdate", "publish-date", "publish_date", "sailthru.date",
    "parsely-pub-date", "citation_publication_date", "citation_date", "article.published", "article:modified_time",
)  # fmt: skip
_AUTHOR_NAMES = ("author", "article:author", "dc.creator", "dcterms.creator", "parsely-author", "sailthru.author",
                 "citation_author", "byl")  # fmt: skip
_TITLE_NAMES = ("og:title", "twitter:title", "dc.title", "citation_title")
_MONTHS = {name: number for number, names in enumerate((
    "january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul", "august aug",
    "september sep sept", "october oct", "november nov", "december dec",
), start=1) for name in names.split()}  # fmt: skip
_ISO = re.compile(r"(?<!\d)(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)")
_COMPACT = re.compile(r"(?<!\d)((?:19|20)\d{2})([01]\d)([0-3]\d)(?!\d)")
_DAY_FIRST = re.compile(r"(?<!\d)(\d{1,2})(?:st|nd|rd|th)?\.?\s+([A-Za-z]{3,9})\.?,?\s+(\d{4})(?!\d)")
_MONTH_FIRST = re.compile(r"\b([A-Za-z]{3,9})\.?\s+(\d{1,2})(?:st|nd|rd|th)?,?\s+(\d{4})(?!\d)")
_IN_ADDRESS = re.compile(r"/((?:19|20)\d{2})/([01]?\d)/([0-3]?\d)(?:/|$)")
_SEPARATED_SITE = re.compile(r"\s+[|»·•–—]\s+|\s+-\s+|\s+::\s+")
_FIRST_YEAR = 1990


@dataclass(frozen=True)
class Metadata:
    """What a page says of itself; ``date`` is an ISO day, ``language`` a code as the page writes it."""

    title: str | None = None
    author: str | None = None
    date: str | None = None
    language: str | None = None


def read_metadata(tree: LexborHTMLParser, url: str = "") -> Metadata:
    """The metadata of a page; read it before anything is taken out of ``tree``."""
    names = _meta_elements(tree)
    things = list(_linked_data(tree))
    return Metadata(
        title=_first(*(names.get(name) for name in _TITLE_NAMES), _title_element(tree), *_values(things, "headline")),
        author=_author(tree, names, things),
        date=_date(tree, names, things, url),
        language=_language(tree, names),
    )


def read_links(tree: LexborHTMLParser, url: str = "") -> Iterator[str]:
    """Every web address that the page links to, once and in order, made whole by ``url`` or by the page's own base."""
    base = tree.css_first("base[href]")
    root = _joined(url, base.attributes.get("href") or "") if base is not None else url
    seen: set[str] = set()
    for node in tree.css("a[href]"):
        address = _joined(root, (node.attributes.get("href") or "").strip()).partition("#")[0]
        if address.startswith(("http://", "https://")) and address not in seen:
            seen.add(address)
            yield address


def _joined(base: str, address: str) -> str:
    try:
        return urljoin(base, address)
    except ValueError:
        return ""


def parse_day(text: str) -> str | None:
    """The first plausible day in ``text`` as YYYY-MM-DD: years from 1990 to the next one; None if there is none."""
    candidates: list[tuple[int, int, int]] = []
    for pattern in (_ISO, _COMPACT):
        if found := pattern.search(text):
            candidates.append((int(found[1]), int(found[2]), int(found[3])))
    if (found := _DAY_FIRST.search(text)) and found[2].lower() in _MONTHS:
        candidates.append((int(found[3]), _MONTHS[found[2].lower()], int(found[1])))
    if (found := _MONTH_FIRST.search(text)) and found[1].lower() in _MONTHS:
        candidates.append((int(found[3]), _MONTHS[found[1].lower()], int(found[2])))
    for year, month, day in candidates:
        try:
            plausible = date(year, month, day)
        except ValueError:
            continue
        if _FIRST_YEAR <= year <= datetime.now().year + 1:
            return plausible.isoformat()
    return None


def _meta_elements(tree: LexborHTMLParser) -> dict[str, str]:
    """Contents of the ``meta`` elements by name, property or itemprop in lower case; the first of a name counts."""
    found: dict[str, str] = {}
    for node in tree.css("meta[content]"):
        attributes = node.attributes
        name = attributes.get("property") or attributes.get("name") or attributes.get("itemprop")
        content = " ".join((attributes.get("content") or "").split())
        if name and content:
            found.setdefault(name.lower(), content)
    return found


def _linked_data(tree: LexborHTMLParser) -> Iterator[dict[str, Any]]:
    """All objects of the page's JSON-LD that speak of a work; what is not JSON is passed over."""
    for node in tree.css('script[type="application/ld+json"]'):
        try:
            waiting = deque([json.loads(node.text(), strict=False)])
        except (ValueError, RecursionError):
            continue
        while waiting:
            thing = waiting.popleft()
            if isinstance(thing, list):
                waiting.extendleft(reversed(thing))
            elif isinstance(thing, dict):
                if "headline" in thing or "datePublished" in thing or "author" in thing:
                    yield thing
                waiting.extend(thing[key] for key in thing if key in ("@graph", "mainEntity", "itemListElement"))


def _values(things: list[dict[str, Any]], key: str) -> list[str]:
    return [thing[key] for thing in things if isinstance(thing.get(key), str)]


def _author(tree: LexborHTMLParser, names: dict[str, str], things: list[dict[str, Any]]) -> str | None:
    for thing in things:
        people = thing.get("author")
        people = people if isinstance(people, list) else [people]
        called = [person.get("name") if isinstance(person, dict) else person for person in people]
        known = [name.strip() for name in called if isinstance(name, str) and name.strip()]
        if known:
            return ", ".join(dict.fromkeys(known))
    named = _first(*(value for name in _AUTHOR_NAMES if not (value := names.get(name, "")).startswith("http")))
    if named is None:
        node = tree.css_first(
            '[itemprop="author"] [itemprop="name"], [itemprop="author"], [rel="author"], .byline, .author'
        )
        named = " ".join(node.text().split()) if node is not None else None
    if named is None or len(named) > 100:
        return None
    return re.sub(r"^(?:by|von|par|por)[:\s]+", "", named, flags=re.IGNORECASE).strip() or None


def _date(tree: LexborHTMLParser, names: dict[str, str], things: list[dict[str, Any]], url: str) -> str | None:
    times = [node.attributes.get("datetime") or node.attributes.get("content") or node.text() for node in
             tree.css('[itemprop="datePublished"], time[pubdate], time[datetime]')[:3]]  # fmt: skip
    in_address = _IN_ADDRESS.search(url)
    said = [*_values(things, "datePublished"), *(names.get(name) for name in _DATE_NAMES), *times,
            "-".join(in_address.groups()) if in_address else None]  # fmt: skip
    for text in said:
        day = parse_day(text) if text else None
        if day is not None:
            return day
    return None


def _language(tree: LexborHTMLParser, names: dict[str, str]) -> str | None:
    root = tree.css_first("html")
    attributes = root.attributes if root is not None else {}
    said = attributes.get("lang") or attributes.get("xml:lang") or names.get("og:locale") or names.get("dc.language")
    code = re.match(r"\s*([A-Za-z]{2,3})(?:[-_][A-Za-z]{2,4})?\b", said or "")
    return code[1].lower() if code else None


def _title_element(tree: LexborHTMLParser) -> str | None:
    """The title of the page without the name of the site, where the heading confirms that it is the longer part."""
    node = tree.css_first("title")
    title = " ".join(node.text().split()) if node is not None else ""
    heading = tree.css_first("h1")
    said = " ".join(heading.text().split()) if heading is not None else ""
    parts = [part for part in _SEPARATED_SITE.split(title) if part]
    if said and said in title:
        return said
    return max(parts, key=len) if len(parts) > 1 else title or said or None


def _first(*values: str | None) -> str | None:
    return next((value.strip() for value in values if value and value.strip()), None)
