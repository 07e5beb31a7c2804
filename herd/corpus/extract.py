"""Main text and metadata of a page: what stays of raw HTML, Markdown or code before anything is judged.

extracted = extract_page(page)
extracted.text, extracted.title, extracted.date, extracted.author, extracted.language
"""

from dataclasses import dataclass

from selectolax.lexbor import LexborHTMLParser

from herd.corpus.layout import Block
from herd.corpus.main_text import main_blocks
from herd.corpus.markdown import plain_text
from herd.corpus.metadata import read_metadata
from herd.corpus.pages import Page
from herd.corpus.pydoc_pages import is_pydoc, pydoc_text, pydoc_title


@dataclass(frozen=True)
class Extracted:
    """The main text of a page and what the page says of itself; ``text`` is empty where there is no main text."""

    text: str
    title: str | None = None
    date: str | None = None
    author: str | None = None
    language: str | None = None


def extract_page(page: Page) -> Extracted:
    """Extracts by the page's kind; what the source knew of title and date wins over what the page says."""
    if page.kind == "html":
        found = extract_html(page.content, page.url, page.title or "")
    elif page.kind == "text" and page.url.startswith("readme:"):
        found = Extracted(plain_text(page.content))
    else:
        found = Extracted(page.content)
    return Extracted(found.text, page.title or found.title, page.date or found.date, found.author, found.language)


def extract_html(html: str, url: str = "", title: str = "") -> Extracted:
    """The main text of an HTML page, with headings, lists, tables, code and formulas as plain text.

    The heading that repeats the title is left out of the text.  Whatever the bytes are, this does not fail: a page
    without main text gives an empty text.  ``url`` and ``title`` are what the source knows of it.
    """
    tree = LexborHTMLParser(html)
    if is_pydoc(tree):
        return Extracted(pydoc_text(tree, title), title or pydoc_title(tree), language="en")
    said = read_metadata(tree, url)
    for node in tree.css("style, noscript, script:not([type^=math])"):
        node.decompose()
    text = _join(main_blocks(tree.body, _titles(tree, said.title))) if tree.body is not None else ""
    return Extracted(text, said.title, said.date, said.author, said.language)


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
