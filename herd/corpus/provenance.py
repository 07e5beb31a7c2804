"""What a page says about its use: directives to robots, and the licence that it stands under.

read_use('<meta name="robots" content="noindex, noai">').robots   # "noai, noindex"

Both are only what the page claims.  ``license`` comes from a link with ``rel="license"``, Creative Commons by its name
("CC BY-SA 4.0"), any other by its address; a source's own licence, where one is configured, counts for more.
"""

import re
from dataclasses import dataclass
from html import unescape

_HEAD = 100_000
_META = re.compile(r"<meta\b[^<>]{0,500}>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([\w:-]+)\s*=\s*(?:"([^"<>]*)"|'([^'<>]*)'|([^\s"'<>]+))""")
_SAID_TO_ALL = {"robots", "otherbots", "googlebot", "gptbot", "ccbot"}
_COMMONS = re.compile(r"creativecommons\.org/(licenses|publicdomain)/([a-z+-]+)/(\d\.\d)", re.IGNORECASE)
_LONGEST_TAG = 1000
_MOST_LINKS = 50
# What a directive may say after a colon is its value (max-snippet:20); what stands before one is a robot's name.
_VALUED = ("max-snippet", "max-image-preview", "max-video-preview", "unavailable_after")


@dataclass(frozen=True)
class Use:
    """``robots``: the directives in small letters, sorted, with commas; None where nothing is said."""

    robots: str | None = None
    license: str | None = None


def read_use(html: str, header: str | None = None) -> Use:
    """What the page and its ``X-Robots-Tag`` header say."""
    said = directives(header or "")
    head = html[:_HEAD]
    for found in _META.finditer(head) if "bot" in head or "BOT" in head else ():
        attributes = _attributes(found[0])
        if attributes.get("name", "").lower() in _SAID_TO_ALL:
            said |= directives(attributes.get("content", ""))
    return Use(", ".join(sorted(said)) or None, _license(html))


def reject_robots(use: Use, refused: tuple[str, ...]) -> str | None:
    """The reason to leave a page out, where it says one of the ``refused`` directives."""
    said = [name for name in refused if name.lower() in (use.robots or "").split(", ")]
    return f"robots {said[0]}" if said else None


def directives(text: str) -> set[str]:
    """The directives of a header or a meta element; a robot's name before one is left out."""
    found = set()
    for part in text.lower().split(","):
        name, colon, rest = (piece.strip() for piece in part.partition(":"))
        found.add(rest if colon and name not in _VALUED else part.strip())
    return found - {""}


def _attributes(tag: str) -> dict[str, str]:
    return {name.lower(): unescape(double or single or bare) for name, double, single, bare in _ATTRIBUTE.findall(tag)}


def _license(html: str) -> str | None:
    """The first licence that the page links to as its own."""
    place = -1
    for _ in range(_MOST_LINKS):
        place = html.find("license", place + 1)
        if place < 0:
            return None
        start = html.rfind("<", max(place - _LONGEST_TAG, 0), place)
        end = html.find(">", place, place + _LONGEST_TAG)
        tag = html[start : end + 1] if 0 <= start < end else ""
        attributes = _attributes(tag) if tag[1:3].lower() in ("a ", "li") else {}
        if "license" in attributes.get("rel", "").lower().split() and attributes.get("href"):
            return license_name(attributes["href"])
    return None


def license_name(address: str) -> str:
    """A Creative Commons licence by its usual name; any other address as it is."""
    found = _COMMONS.search(address)
    if found is None:
        return address
    kind, code, version = found[1].lower(), found[2].lower(), found[3]
    if kind == "publicdomain":
        return f"CC0 {version}" if code == "zero" else f"Public Domain Mark {version}"
    return f"CC {code.upper()} {version}"
