"""Main text and metadata of a page: what stays of raw HTML, Markdown or code before anything is judged.

extracted = extract_page(page)
extracted.text, extracted.title, extracted.date, extracted.author, extracted.language
"""

from dataclasses import dataclass

from selectolax.lexbor import LexborHTMLParser

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
        found = extract_html(page.content)
    else:
        found = Extracted(page.content)
    return Extracted(found.text, page.title or found.title, page.date or found.date, found.author, found.language)


def extract_html(html: str) -> Extracted:
    """The main text of an HTML page."""
    tree = LexborHTMLParser(html)
    if is_pydoc(tree):
        return Extracted(pydoc_text(tree), pydoc_title(tree), language="en")
    for node in tree.css("script, style, nav, footer, aside, form"):
        node.decompose()
    title = tree.css_first("title")
    text = tree.body.text(separator="\n", strip=True) if tree.body is not None else ""
    return Extracted(text, title.text(strip=True) if title is not None else None)
