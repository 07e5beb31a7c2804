"""The main text of a page that ``pydoc`` rendered, laid out so that every documented object can be found again.

    json.dumps(obj, *, skipkeys=False, ensure_ascii=True, ...)
        Serialize ``obj`` to a JSON formatted ``str``.

An entry is a line that begins with the object's dotted name, with its docstring indented by four spaces below it;
``passages`` cuts the text at such lines.  Left out is what the page repeats: navigation, inheritance trees, special
methods with a stock sentence, and members inherited from a public class, which its own entry documents; these are named
in one line.
"""

import html
import re
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

_INDENT = "    "
_CALL_OF_CLASS = re.compile(r"^(\w+)(\(.*\)(?: ->.*)?)$")
_INHERITED = " inherited from "
_RULED = re.compile(r"^#\s*[-=*#~]{3,}")
_ORIGIN = re.compile(r" from [\w.]+$| method of [\w.]+ instance$")
_OPENED_EARLY = re.compile(r"\(\s*\n\s*")
_CLOSED_LATE = re.compile(r",?\s*\n\s*\)")
_NAME = re.compile(r"^[A-Za-z_]\w*")
_LEFT_OUT_DATA = {"__all__", "__annotations__", "__path__", "__builtins__", "__file__", "__cached__", "__dict__"}


def is_pydoc(tree: LexborHTMLParser) -> bool:
    """Whether ``pydoc`` made this page."""
    return tree.css_first("table.heading td.title strong.title") is not None


def pydoc_title(tree: LexborHTMLParser) -> str:
    """The dotted name of the module that the page documents."""
    heading = tree.css_first("table.heading strong.title")
    return _plain(heading).strip() if heading is not None else ""


def pydoc_text(tree: LexborHTMLParser, module: str = "") -> str:
    """The page as plain text: the module's own words, then one entry for each class, function and value.

    ``module`` is the name that entries begin with where it is not the page's title: ``os.path``, say, whose page calls
    it ``posixpath``.
    """
    module = module or pydoc_title(tree)
    body = tree.body
    if body is None:
        return ""
    writer = _Writer(module, {anchor.attributes.get("name") or "" for anchor in body.css("td.section-title a[name]")})
    for node in _children(body):
        if node.tag == "p" and (words := node.css_first("span.code")) is not None:
            writer.prose(_plain(words))
    for section in body.css("table.section"):
        writer.section(section)
    return writer.text()


def _children(node: LexborNode) -> list[LexborNode]:
    found, child = [], node.first_child
    while child is not None:
        found.append(child)
        child = child.next
    return found


def _plain(node: LexborNode) -> str:
    return (node.text(deep=True) or "").replace("\xa0", " ").replace("\r", "")


def _lines(text: str) -> list[str]:
    """The lines of ``text`` without trailing spaces and without empty lines at its ends."""
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n").split("\n")


def _without_comment(docstring: str) -> str:
    """``docstring``, unless it is the comment above the source, which ``pydoc`` takes when there is nothing else.

    A comment with ruled lines is the heading of a whole part of the file and says nothing about this object.
    """
    lines = docstring.split("\n")
    if not all(line.startswith("#") for line in lines):
        return docstring
    return "" if any(_RULED.match(line) for line in lines) else "\n".join(line.lstrip("#").strip() for line in lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _one_call(text: str) -> str:
    """A heading on one line; long signatures come with a line for each parameter since Python 3.13."""
    return _one_line(_CLOSED_LATE.sub(")", _OPENED_EARLY.sub("(", text)))


def _folded(lines: list[str]) -> list[str]:
    """``lines``, of which the first is a whole call where the call is spread over several of them."""
    if not lines[0].endswith("("):
        return lines
    end = next((number for number, line in enumerate(lines) if line.startswith(")")), 0)
    return [_one_call("\n".join(lines[: end + 1])), *lines[end + 1 :]]


@dataclass
class _Writer:
    """Collects the blocks of a page; a block is a list of lines, and blocks stand apart by an empty line."""

    module: str
    classes: set[str]
    blocks: list[list[str]] = field(default_factory=list)

    def text(self) -> str:
        return "\n\n".join("\n".join(block) for block in self.blocks)

    def prose(self, text: str) -> None:
        lines = _lines(_without_comment(text.strip("\n")))
        if lines != [""]:
            self.blocks.append(lines)

    def entry(self, heading: str, docstring: str) -> None:
        body = [_INDENT + line if line else "" for line in _lines(docstring)] if docstring.strip() else []
        self.blocks.append([heading, *body])

    def section(self, table: LexborNode) -> None:
        """One ``table.section``: a class, or the page's list of functions, values or authors."""
        title = table.css_first("td.section-title")
        if title is None:
            return
        contents = table.css_first("td.singlecolumn")
        if title.css_first("strong.bigsection") is None:
            self._class(title, table, contents)
        elif contents is not None:
            self._big_section(_plain(title).strip(), contents)

    def _big_section(self, name: str, contents: LexborNode) -> None:
        if name == "Functions":
            for item in _children(contents):
                self._routine(item, self.module)
        elif name == "Data":
            for line in _plain(contents).split("\n"):
                value_name = _NAME.match(line)
                if value_name and value_name[0] not in _LEFT_OUT_DATA and " = " in line:
                    self.blocks.append([f"{self.module}.{_one_line(line)}"])

    def _class(self, title: LexborNode, table: LexborNode, contents: LexborNode | None) -> None:
        anchor = title.css_first("a[name]")
        if anchor is None:
            return
        name = anchor.attributes.get("name") or ""
        qualified = f"{self.module}.{name}"
        prelude = table.css_first("td[rowspan] + td[colspan] span.code")
        words = _folded(_lines(_plain(prelude))) if prelude is not None else []
        call = _CALL_OF_CLASS.match(html.unescape(words[0])) if words else None  # pydoc escapes it twice
        signature = call[2] if call and call[1] == name else ""
        body = words[1:] if signature else words
        bases = _plain(title).partition("(")[2].rpartition(")")[0]
        self.entry(f"class {qualified}{signature}", "\n".join(body))
        if bases and bases not in ("object", "builtins.object"):
            self.blocks[-1] += ["", f"{_INDENT}Bases: {_one_line(bases)}"]
        if contents is not None:
            self._members(contents, qualified)

    def _members(self, contents: LexborNode, owner: str) -> None:
        """The members of a class: own ones in full, those of a public base as one line of names."""
        heading = ""
        named: list[str] = []
        for node in [*_children(contents), None]:
            if node is None or node.tag == "hr":
                self._named(owner, heading, named)
                heading, named = "", []
            elif node.tag == "dl" and _INHERITED in heading and self._is_public(heading):
                named.append(_member_name(node))
            elif node.tag == "dl":
                self._routine(node, owner)
            elif node.tag != "dl":
                heading = f"{heading} {_one_line(_plain(node))}".strip()

    def _is_public(self, heading: str) -> bool:
        base = heading.partition(_INHERITED)[2].rstrip(" :")
        return base in self.classes or not base.rpartition(".")[2].startswith("_")

    def _named(self, owner: str, heading: str, names: list[str]) -> None:
        wanted = [name for name in names if name and not name.startswith("__")]
        base = heading.partition(_INHERITED)[2].rstrip(" :")
        if wanted and self.blocks:
            kind = heading.partition(_INHERITED)[0]
            self.blocks.append([f"{kind} that {owner} inherits from {base}: {', '.join(wanted)}"])

    def _routine(self, item: LexborNode, owner: str) -> None:
        """One ``dl``: a function, method, property or value, with its docstring if it has one."""
        term = item.css_first("dt") if item.tag == "dl" else None
        if term is None:
            return
        heading = _ORIGIN.sub("", _one_call(_plain(term)))
        name = _NAME.match(heading)
        words = item.css_first("dd")
        docstring = _without_comment(_plain(words).strip("\n")) if words is not None else ""
        if name is None or heading.endswith("order:") or (name[0].startswith("__") and "\n" not in docstring.strip()):
            return
        self.entry(f"{owner}.{heading}", docstring)


def _member_name(item: LexborNode) -> str:
    name = item.css_first("dt strong")
    return _plain(name).strip() if name is not None else ""
