"""Takes the markers out of Markdown, since they harm a model that reads mostly plain text (paper, section 3.1.1).

    plain_text("# Title\\n\\nSome *words* and a [link](https://example.org).")

Code keeps every space; badges, images without words, comments and raw HTML tags go; formulas stay as they are.
"""

import html
import re

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)(?:\s+#+)?\s*$")
_UNDERLINE = re.compile(r"^ {0,3}(?:=+|-+)\s*$")
_RULE = re.compile(r"^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$")
_ITEM = re.compile(r"^(\s*)(?:[-*+]|\d{1,3}[.)])\s+(?:\[[ xX]\]\s+)?")
_QUOTE = re.compile(r"^ {0,3}(?:>\s?)+")
_TABLE_RULE = re.compile(r"^\s*\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)*\|?\s*$")
_DEFINITION = re.compile(r"^ {0,3}\[[^\]]+\]:\s+\S+.*$")
_TAG = re.compile(r"</?(?:[a-z][a-z0-9-]*)(?:\s[^<>]*)?/?>", re.IGNORECASE)
_ADDRESS = re.compile(r"\s*\S.*\)")
_IMAGE = re.compile(r"!\[([^\]]{0,2000})\](?:\([^()\s]*(?:\s+[\"'][^\"']*[\"'])?\)|\[[^\]]*\])")
_LINK = re.compile(r"\[([^\[\]]*)\](?:\([^()]*(?:\([^()]*\)[^()]*)*\)|\[[^\]]*\])")
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)[^<>\s]+)>")
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_STRONG = re.compile(r"(?<![\w*])(\*{1,3}|~~)(?=\S)(.+?)(?<=\S)\1(?![\w*])")
_STRONG_LINE = re.compile(r"(?<![\w_])(_{1,3})(?=\S)(.+?)(?<=\S)\1(?![\w_])")
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+\-.!|<>~])")
_HOLE = re.compile("\x00(\\d+)\x00")


def plain_text(markdown: str) -> str:
    """``markdown`` as plain text; lists keep their lines and indentation, tables become lines with tabs."""
    lines: list[str] = []
    fence = ""
    broken: list[str] = []  # The lines right before this one, each ending within a link.
    given = _without_comments(markdown.replace("\r\n", "\n").replace("\x00", "")).split("\n")
    for line, following in zip(given, [*given[1:], ""], strict=True):
        opened = _FENCE.match(line)
        if fence:
            if opened and line.strip() == opened[1] and opened[1].startswith(fence):
                fence = ""
                lines.append("")
            else:
                lines.append(line)
        elif opened:
            fence = opened[1]
            lines.append("")
        elif not broken and _is_indented_code(line, lines):
            lines.append(line)
        elif _breaks_link(line, following):
            broken.append(line.strip() if broken else line.rstrip())
        else:
            _add(lines, "".join([*broken, line.lstrip() if broken else line]))
            broken = []
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in lines)).strip("\n")


def _is_indented_code(line: str, before: list[str]) -> bool:
    """Whether ``line`` is code by its indentation, after a blank line or more of such code."""
    return line.startswith(("    ", "\t")) and (not before or not before[-1].strip() or before[-1].startswith("    "))


def _breaks_link(line: str, following: str) -> bool:
    """Whether a line of prose ends between a link's words and its address."""
    return line.rstrip().endswith("](") and bool(_ADDRESS.match(following)) and not _FENCE.match(following)


def _without_comments(text: str) -> str:
    """The text without HTML comments; one that is never closed stays."""
    kept: list[str] = []
    at = 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        kept.append(text[at:start])
        at = end + 3
    return "".join([*kept, text[at:]])


def _add(lines: list[str], line: str) -> None:
    """Adds a line of prose without its markers; a line that held nothing else vanishes."""
    if _DEFINITION.match(line) or (_TABLE_RULE.match(line) and "|" in line):
        return
    if _UNDERLINE.match(line) and lines and lines[-1].strip():
        return
    if _RULE.match(line):
        lines.append("")
        return
    heading = _HEADING.match(line)
    text = heading[1] if heading else _ITEM.sub(r"\1", _QUOTE.sub("", line))
    if text.strip().startswith("|") and text.strip().endswith("|"):
        text = "\t".join(cell.strip() for cell in text.strip().strip("|").split("|"))
    plain = _inline(text)
    if plain.strip() or not line.strip():
        lines.append(plain)


def _inline(text: str) -> str:
    """A line without links, emphasis and tags; what stands in a code span is taken as it is."""
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match[2].strip() if match[2].strip() else match[2])
        return f"\x00{len(kept) - 1}\x00"

    text = _CODE_SPAN.sub(keep, text)
    text = _IMAGE.sub("", text)
    text = _LINK.sub(r"\1", _LINK.sub(r"\1", text))
    text = _TAG.sub("", _AUTOLINK.sub(r"\1", text))
    for pattern in (_STRONG, _STRONG, _STRONG_LINE, _STRONG_LINE):
        text = pattern.sub(r"\2", text)
    text = html.unescape(_ESCAPED.sub(r"\1", text))
    return _HOLE.sub(lambda match: kept[int(match[1])], text)
