"""Lays a page out as blocks: paragraphs, headings, items, table rows and code, as plain text without any markers.

``read_blocks`` walks the tree once.  It decides nothing about what is main text; ``main_text`` does, with what each
block knows: its characters, those within links, and the container that holds it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from selectolax.lexbor import LexborNode

from herd.corpus.formulas import formula

Attributes = dict[str, str | None]

_EMPTY_LINES = re.compile(r"\n{3,}")
_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
_CONTAINERS = {
    "address", "article", "aside", "body", "center", "dd", "details", "div", "dl", "fieldset", "figure", "footer",
    "form", "header", "hgroup", "li", "main", "nav", "ol", "section", "summary", "table", "tbody", "td", "tfoot", "th",
    "thead", "tr", "ul", "blockquote",
}  # fmt: skip
_BLOCKS = _CONTAINERS | _HEADINGS | {"p", "pre", "hr", "dt", "figcaption", "caption", "legend", "textarea", "listing"}
_UNSEEN = {
    "head", "style", "template", "iframe", "object", "embed", "svg", "canvas", "audio", "video", "map", "noscript",
    "select", "button", "input", "option", "datalist", "progress", "meter", "link", "meta", "noframes", "frameset",
}  # fmt: skip
_ANCHOR_SIGNS = {"¶", "#", "§", "🔗", "", "Link", "^", "↩"}
_MATH_TAGS = {"script", "math", "mjx-container", "img"}
_KINDS = {"li": "item", "dt": "item", "dd": "item", "figcaption": "caption", "caption": "caption", "tr": "row"}
_LINE_NUMBERS = re.compile(r"\b(?:linenos?|lineno|line-numbers?|blob-num|gutter|linenumber|code-line-number)\b")
_CODE_TABLE = re.compile(r"highlight|js-file-line-container|code-?table|syntaxhighlighter|rouge-table|\bcode\b")


@dataclass
class Container:
    """An element that holds blocks; ``score`` is for ``main_text``."""

    parent: int
    tag: str
    label: str
    attributes: Attributes
    score: float = 0.0


@dataclass
class Block:
    """A stretch of text that stands by itself; ``links`` of its characters lie in links, ``level`` is a heading's."""

    text: str
    kind: str
    container: int
    links: int = 0
    level: int = 0


@dataclass
class Layout:
    """The blocks of a page in order and the containers that hold them; container 0 is the body."""

    containers: list[Container] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)


Skip = Callable[[LexborNode, str, Attributes], bool]


def read_blocks(body: LexborNode, skip: Skip) -> Layout:
    """The layout of ``body``; ``skip(node, tag, attributes)`` says which elements to leave out with all they hold."""
    reader = _Reader(skip)
    reader.layout.containers.append(Container(-1, "body", "", body.attributes))
    reader.walk(body, 0, "p")
    reader.flush(0, "p")
    return reader.layout


def label_of(attributes: Attributes) -> str:
    """The words by which an element is named: class, id and role, in lower case."""
    words = (attributes.get("class"), attributes.get("id"), attributes.get("role"), attributes.get("itemprop"))
    return " ".join(word for word in words if word).lower()


class _Reader:
    """Walks a tree and gathers inline text until a block ends."""

    def __init__(self, skip: Skip) -> None:
        self.layout = Layout()
        self._skip = skip
        self._pieces: list[str] = []
        self._links = 0
        self._in_link = 0

    def flush(self, container: int, kind: str) -> None:
        """Ends the current block, if any text was gathered for it."""
        if not self._pieces:
            return
        text = "".join(self._pieces).replace("\u200b", "")
        text = "\n".join(" ".join(line.split()) for line in text.split("\v")).strip("\n")
        if text:
            text = _EMPTY_LINES.sub("\n\n", text) if "\n\n\n" in text else text
            self.layout.blocks.append(Block(text, kind, container, self._links))
        self._pieces, self._links = [], 0

    def walk(self, node: LexborNode, container: int, kind: str) -> None:
        """Reads everything below ``node``."""
        child = node.first_child
        while child is not None:
            tag = child.tag or ""
            if tag == "-text":
                text = child.text_content or ""
                self._pieces.append(text)
                if self._in_link:
                    self._links += len(text.strip())
            elif tag[0] != "-":
                self._element(child, tag, container, kind)
            child = child.next

    def _element(self, node: LexborNode, tag: str, container: int, kind: str) -> None:
        if tag == "br":
            self._pieces.append("\v")
            return
        if tag in _UNSEEN:
            return
        attributes = node.attributes
        if tag in _MATH_TAGS or attributes:
            found = formula(node, tag, attributes)
            if found is not None:
                self._pieces.append(found)
                return
            if tag in ("script", "img"):
                return
        if tag in _BLOCKS:
            self._block(node, tag, attributes, container, kind)
        elif not self._skip(node, tag, attributes):
            self._inline(node, tag, container, kind)

    def _inline(self, node: LexborNode, tag: str, container: int, kind: str) -> None:
        if tag == "code" and node.css_first("br") is not None:
            self.flush(container, kind)
            self._code(node, container)
        elif tag in ("sup", "sub"):
            self._script(node, tag, container, kind)
        elif tag == "a":
            self._link(node, container, kind)
        else:
            self.walk(node, container, kind)

    def _link(self, node: LexborNode, container: int, kind: str) -> None:
        """A link; one to a place on the same page counts as text, unless it is an item of a table of contents."""
        address = node.attributes.get("href") or ""
        if address.startswith("#") and node.text().strip() in _ANCHOR_SIGNS:
            return
        leads_away = not address.startswith("#") or kind == "item"
        self._in_link += leads_away
        self.walk(node, container, kind)
        self._in_link -= leads_away

    def _script(self, node: LexborNode, tag: str, container: int, kind: str) -> None:
        """An exponent or index is written as in TeX; a mark of a footnote, which is a link, stays as it is."""
        text = " ".join(node.text().split())
        before = self._pieces[-1][-1:] if self._pieces else ""
        mathematical = re.fullmatch(r"[-+−]?[\w.+−-]{1,6}", text) and (before.isalnum() or before in ")]}")
        if not text or node.css_first("a") is not None or self._in_link or not mathematical or _ordinal(text):
            self.walk(node, container, kind)
            return
        sign = "^" if tag == "sup" else "_"
        self._pieces.append(sign + (text if len(text) == 1 else f"{{{text}}}"))

    def _block(self, node: LexborNode, tag: str, attributes: Attributes, container: int, kind: str) -> None:
        self.flush(container, kind)
        if self._skip(node, tag, attributes):
            return
        if tag in ("pre", "textarea", "listing"):
            if tag != "textarea" or "code" in label_of(attributes):
                self._code(node, container)
            return
        if tag == "table" and self._code_table(node, attributes, container):
            return
        if tag == "tr" and _is_row_of_data(node):
            self._row(node, container)
            return
        inside, inner_kind = container, "heading" if tag in _HEADINGS else _KINDS.get(tag, "p")
        if tag in _CONTAINERS:
            self.layout.containers.append(Container(container, tag, label_of(attributes), attributes))
            inside = len(self.layout.containers) - 1
            inner_kind = _KINDS.get(tag, kind if kind == "item" else "p")
        before = len(self.layout.blocks)
        self.walk(node, inside, inner_kind)
        self.flush(inside, inner_kind)
        if inner_kind == "heading":
            for block in self.layout.blocks[before:]:
                block.level = int(tag[1])

    def _row(self, node: LexborNode, container: int) -> None:
        """A row of a table of data becomes one line, its cells apart by tabs."""
        cells: list[str] = []
        links = 0
        child = node.first_child
        while child is not None:
            only = child.first_child if child.tag in ("td", "th") else None
            if only is not None and only.next is None and only.tag == "-text":
                cells.append(" ".join((only.text_content or "").replace("\u200b", "").split()))
            elif child.tag in ("td", "th"):
                inner = _Reader(self._skip)
                inner.layout.containers.append(Container(-1, "td", "", {}))
                inner.walk(child, 0, "p")
                inner.flush(0, "p")
                cells.append(" ".join(block.text.replace("\n", " ") for block in inner.layout.blocks))
                links += sum(block.links for block in inner.layout.blocks)
            child = child.next
        text = "\t".join(cells).strip()
        if text:
            self.layout.blocks.append(Block(text, "row", container, links))

    def _code(self, node: LexborNode, container: int) -> None:
        text = code_text(node)
        if text.strip():
            self.layout.blocks.append(Block(text, "code", container))

    def _code_table(self, node: LexborNode, attributes: Attributes, container: int) -> bool:
        """Code that is laid out as a table, with a column for the numbers of lines; False where it is none."""
        cells = node.css("td")
        numbers = [cell for cell in cells if _LINE_NUMBERS.search(label_of(cell.attributes))]
        if not numbers or not (_CODE_TABLE.search(label_of(attributes)) or node.css_first("pre, code") is not None):
            return False
        kept = [cell for cell in cells if not _LINE_NUMBERS.search(label_of(cell.attributes))]
        text = "\n".join(code_text(cell) for cell in kept).strip("\n")
        if text.strip():
            self.layout.blocks.append(Block(text, "code", container))
        return True


def code_text(node: LexborNode) -> str:
    """The text of a code element with every space of it; elements that are lines end with a line break."""
    pieces: list[str] = []
    _gather_code(node, pieces)
    return "".join(pieces).replace("\xa0", " ").replace("\r\n", "\n").strip("\n").rstrip()


def _gather_code(node: LexborNode, pieces: list[str]) -> None:
    child = node.first_child
    while child is not None:
        tag = child.tag or ""
        if tag == "-text":
            pieces.append(child.text_content or "")
        elif tag == "br":
            pieces.append("\n")
        elif tag in ("div", "p", "li", "tr"):
            _gather_line(child, pieces)
        elif tag[0] != "-" and tag not in ("script", "style", "button") and not _is_line_number(child):
            _gather_code(child, pieces)
        child = child.next


def _gather_line(node: LexborNode, pieces: list[str]) -> None:
    """An element that is a line by itself begins and ends one, without doubling the breaks that are written out."""
    if pieces and not pieces[-1].endswith("\n"):
        pieces.append("\n")
    inner: list[str] = []
    _gather_code(node, inner)
    text = "".join(inner)
    pieces.append(text if text.endswith("\n") else text + "\n")
    after = node.next
    if after is not None and after.tag == "-text" and (after.text_content or "").strip(" \t") == "\n":
        pieces[-1] = pieces[-1][:-1]


def _is_line_number(node: LexborNode) -> bool:
    label = node.attributes.get("class")
    return bool(label and _LINE_NUMBERS.search(label.lower()) and not node.text().strip(" \n0123456789"))


def _is_row_of_data(row: LexborNode) -> bool:
    """Whether a table row holds short cells; a table that arranges a whole page holds blocks in them."""
    cells = row.css("td, th")
    if len(cells) < 2:
        return False
    return row.css_first("p ~ p, div, ul, ol, h1, h2, h3, h4, pre, table, br + br, article") is None


def _ordinal(text: str) -> bool:
    return text.lower() in {"st", "nd", "rd", "th", "tm", "sm", "e", "er", "re", "ème", "o", "a", "r"}
