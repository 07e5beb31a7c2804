"""Runs other extractors over pages; in an environment of their own, which needs nothing of Herd.

    PEERS/bin/pip install trafilatura readability-lxml lxml_html_clean resiliparse
    PEERS/bin/pip install justext boilerpy3 newspaper4k goose3
    PEERS/bin/python bench/corpus/peer_extractors.py < pages.jsonl > texts.jsonl     # names behind it: only these

A line of the input holds ``key`` and ``html``; of the output ``key``, ``peer``, ``text`` and processor ``seconds``.  An
extractor that fails on a page gives an empty text.
"""

import json
import sys
import time
from collections.abc import Callable

import justext
import lxml.html
import trafilatura
from boilerpy3.extractors import ArticleExtractor
from goose3 import Goose
from newspaper import Article
from readability import Document
from resiliparse.extract.html2text import extract_plain_text

_ARTICLES = ArticleExtractor(raise_on_failure=False)
_GOOSE = Goose()
_STOPLIST = frozenset().union(*map(justext.get_stoplist, (
    "English", "German", "French", "Italian", "Portuguese", "Spanish", "Hindi")))  # fmt: skip


def text_of(html: str) -> str:
    """All text of a piece of HTML, its elements apart by spaces."""
    return " ".join(lxml.html.fromstring(html).itertext()) if html.strip() else ""


def by_readability(html: str) -> str:
    """readability-lxml."""
    return text_of(Document(html).summary())


def by_goose(html: str) -> str:
    """goose3."""
    return _GOOSE.extract(raw_html=html).cleaned_text


def by_justext(html: str) -> str:
    """jusText with the stop words of all languages that it has here."""
    found = justext.justext(html.encode(), _STOPLIST, encoding="utf-8")
    return "\n".join(paragraph.text for paragraph in found if not paragraph.is_boilerplate)


def by_newspaper(html: str) -> str:
    """newspaper4k."""
    article = Article("https://notes.example/")
    article.download(input_html=html)
    article.parse()
    return article.text


PEERS: dict[str, Callable[[str], str | None]] = {
    "trafilatura": trafilatura.extract,
    "trafilatura, recall": lambda html: trafilatura.extract(html, favor_recall=True),
    "trafilatura, precision": lambda html: trafilatura.extract(html, favor_precision=True),
    "readability-lxml": by_readability,
    "resiliparse": lambda html: extract_plain_text(html, main_content=True, alt_texts=False),
    "jusText": by_justext,
    "boilerpy3": _ARTICLES.get_content,
    "newspaper4k": by_newspaper,
    "goose3": by_goose,
}


def main() -> None:
    """Every peer, or those that are named, on every page of the standard input."""
    chosen = {name: PEERS[name] for name in sys.argv[1:] or PEERS}
    for line in sys.stdin:
        page = json.loads(line)
        for peer, extract in chosen.items():
            before = time.process_time()
            try:
                text = extract(page["html"]) or ""
            except Exception as error:  # a peer may fail in any way on any page
                print(f"{peer} on {page['key']}: {type(error).__name__}: {error}", file=sys.stderr)
                text = ""
            seconds = time.process_time() - before
            print(json.dumps({"key": page["key"], "peer": peer, "text": text, "seconds": seconds}))


if __name__ == "__main__":
    main()
