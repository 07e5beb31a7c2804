"""The texts that the sites are made of: Markdown files with a head, and what of them is true text.

    for text in read_texts(Path("bench/corpus/sites/texts")): print(text.key, text.truth)

A head names title, language, kind and part (``look`` to improve an extractor by, ``report`` to measure it).  The body
uses a small part of Markdown.  In a forum's thread a line ``@@ author | day`` begins each post.  The truth is the body
in order without any markers; title, authors and days do not belong to it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

_POST = re.compile(r"^@@ (?P<author>.+?) \| (?P<day>\S+)$", re.MULTILINE)
_RULE_OF_TABLE = re.compile(r"^\|(?: -+ \|)+$")
_LINE_MARKER = re.compile(r"^(?:#+|-|\d+\.|>) ")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
_INLINE_MARKER = re.compile(r"\*\*|`")


@dataclass(frozen=True)
class Post:
    """One contribution; a page that is no thread has a single one, of the site's own author."""

    author: str
    day: str
    body: str


@dataclass(frozen=True)
class Text:
    """One page's content; ``key`` names it, ``posts`` are in order."""

    key: str
    title: str
    language: str
    kind: str
    part: str
    posts: tuple[Post, ...]

    @property
    def body(self) -> str:
        """The Markdown of all posts."""
        return "\n\n".join(post.body for post in self.posts)

    @property
    def truth(self) -> str:
        """What an extractor should give: the body without markers."""
        return "\n\n".join(plain(post.body) for post in self.posts)


def read_texts(folder: Path) -> list[Text]:
    """All texts of a folder, by name."""
    return [_read(path) for path in sorted(folder.glob("*.md"))]


def _read(path: Path) -> Text:
    _, head, body = path.read_text(encoding="utf-8").split("---\n", 2)
    said = dict(line.split(": ", 1) for line in head.splitlines())
    pieces = _POST.split(body)
    authors, days, bodies = pieces[1::3], pieces[2::3], pieces[3::3]
    posts = tuple(map(Post, authors, days, map(str.strip, bodies))) or (Post("Robin Ash", "2024-05-17", body.strip()),)
    return Text(path.stem, said["title"], said["language"], said["kind"], said["part"], posts)


def plain(body: str) -> str:
    """Markdown without its markers; code stays as it is, cells of a table are apart by tabs."""
    lines: list[str] = []
    in_code = False
    for line in body.splitlines():
        if line.startswith("```"):
            in_code = not in_code
        elif in_code:
            lines.append(line)
        elif not _RULE_OF_TABLE.match(line):
            lines.append(_plain_line(line))
    return "\n".join(lines)


def _plain_line(line: str) -> str:
    if line.startswith("| "):
        line = "\t".join(cell.strip() for cell in line.strip("|").split("|"))
    return _INLINE_MARKER.sub("", _LINK.sub(r"\1", _LINE_MARKER.sub("", line)))
