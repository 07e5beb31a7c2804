"""Main text and metadata of a page: what stays of raw HTML, Markdown or code before anything is judged.

    page = extract(Path("page.html").read_bytes(), "https://example.org/a")
    page.text, page.title, page.author, page.date, page.language, page.links, page.markdown

``herd extract`` says the same on the command line; ``extract_page`` is what curation calls.  A page whose mark-up would
cost too much (``nesting``), or that is longer than any text, gives an empty text, and says so in ``refused``.
"""

from dataclasses import dataclass, replace

from selectolax.lexbor import LexborHTMLParser

from herd.corpus.as_markdown import to_markdown
from herd.corpus.charset import decode_html
from herd.corpus.layout import Block
from herd.corpus.main_text import main_blocks
from herd.corpus.markdown import plain_text
from herd.corpus.metadata import Metadata, read_links, read_metadata
from herd.corpus.nesting import FORMATTING, is_bounded
from herd.corpus.pages import Page
from herd.corpus.pydoc_pages import is_pydoc, pydoc_text, pydoc_title

_MOST_CHARACTERS = 20_000_000
MOST_BYTES = 4 * _MOST_CHARACTERS  # in any charset these are enough; whoever reads a file needs no byte more than this
_TOO_LONG = f"longer than {_MOST_CHARACTERS:,} characters"
_TOO_COSTLY = "its mark-up is too deep or too long to be read"
_BINARY = "binary data, no HTML"


@dataclass(frozen=True)
class Extracted:
    """The main text of a page and what the page says of itself.

    ``text`` is empty where there is no main text; ``refused`` says why a page was not read at all.
    """

    text: str
    title: str | None = None
    date: str | None = None
    author: str | None = None
    language: str | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Article(Extracted):
    """What ``extract`` finds beside: the main text as Markdown, and every address that the page links to."""

    markdown: str = ""
    links: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Content:
    """A page that was read; ``blocks`` is None where the text was not made of blocks."""

    tree: LexborHTMLParser
    text: str
    said: Metadata
    blocks: list[Block] | None = None


def extract(html: bytes | str, url: str | None = None) -> Article:
    """Main text and metadata of an HTML page; ``url`` is where it was found, and makes its links whole.

    Bytes are decoded as a browser would.  Whatever they are, this does not fail: see ``Extracted.refused``.
    """
    if len(html) > MOST_BYTES:
        return Article("", refused=_TOO_LONG)
    decoded = decode_html(html) if isinstance(html, bytes) else html
    found = _content(decoded, url or "", "") if decoded is not None else _BINARY
    if isinstance(found, str):
        return Article("", refused=found)
    said, text = found.said, found.text
    markdown = to_markdown(found.blocks, said.title) if found.blocks is not None else text
    links = tuple(read_links(found.tree, url or ""))
    return Article(text, said.title, said.date, said.author, said.language, markdown=markdown, links=links)


def extract_page(page: Page) -> Extracted:
    """Extracts by the page's kind; what the source knew of title and date wins over what the page says."""
    if page.kind == "html":
        found = extract_html(page.content, page.url, page.title or "")
    elif page.kind == "text" and page.url.startswith("readme:"):
        found = Extracted(plain_text(page.content))
    else:
        found = Extracted(page.content)
    return replace(found, title=page.title or found.title, date=page.date or found.date)


def extract_html(html: str, url: str = "", title: str = "") -> Extracted:
    """The main text of an HTML page, with headings, lists, tables, code and formulas as plain text.

    The heading that repeats the title is left out of the text.  Whatever the characters are, this does not fail: a page
    without main text gives an empty text.  ``url`` and ``title`` are what the source knows of it.
    """
    found = _content(html, url, title)
    if isinstance(found, str):
        return Extracted("", refused=found)
    return Extracted(found.text, found.said.title, found.said.date, found.said.author, found.said.language)


def _content(html: str, url: str, title: str) -> _Content | str:
    """The page's content, or the reason why it is not read."""
    if len(html) > _MOST_CHARACTERS:
        return _TOO_LONG
    if not is_bounded(html):
        return _TOO_COSTLY
    tree = LexborHTMLParser(html)
    try:
        return _read(tree, url, title)
    except RecursionError:
        # Pages written by hand may leave hundreds of <font> open; without these they are as flat as they look.
        tree.unwrap_tags(sorted(FORMATTING))
    try:
        return _read(tree, url, title)
    except RecursionError:
        return _TOO_COSTLY


def _read(tree: LexborHTMLParser, url: str, title: str) -> _Content:
    if is_pydoc(tree):
        return _Content(tree, pydoc_text(tree, title), Metadata(title or pydoc_title(tree), language="en"))
    said = read_metadata(tree, url)
    for node in tree.css("style, noscript, script:not([type^=math])"):
        node.decompose()
    blocks = main_blocks(tree.body, _titles(tree, said.title)) if tree.body is not None else []
    return _Content(tree, _join(blocks), said, blocks)


def _titles(tree: LexborHTMLParser, title: str | None) -> str:
    node = tree.css_first("title")
    return " ".join(filter(None, (title, node.text() if node is not None else "")))


def _join(blocks: list[Block]) -> str:
    """Blocks as text: an empty line between them, except within a list or a table."""
    pieces: list[str] = []
    before: Block | None = None
    for block in blocks:
        if before is not None:
            together = before.kind == block.kind and block.kind in ("item", "row")
            pieces.append("\n" if together else "\n\n")
        pieces.append(block.text)
        before = block
    return "".join(pieces)
