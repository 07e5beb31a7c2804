"""Reads the HTML pages of a web archive: WARC, plain or compressed, as Common Crawl and wget write them.

    for page in read_warc(Path("crawl.warc.gz"), "crawl", None, 8_000_000, skip): ...

Responses with status 200 and an HTML type become pages, with chunks and content encodings undone and the charset of the
header or the page.  Requests, metadata and revisits (which hold no page of their own) are passed over.  A record that
is cut short is left out, as the paper uses documents that are not truncated (section 3.1.1).  An archive that breaks
off gives what stands before the break; one that holds no sound record at all is a ``HerdError``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastwarc.warc import ArchiveIterator, WarcRecordType

from herd.corpus.charset import decode_html
from herd.corpus.pages import Page
from herd.corpus.python_docs import Skip
from herd.foundation.errors import HerdError

_HTML_TYPES = {"text/html", "application/xhtml+xml"}
_HTTP_OK = 200


def read_warc(path: Path, source: str, licence: str | None, max_bytes: int, skip: Skip) -> Iterator[Page]:
    """Yields the HTML pages of the archive at ``path``; ``skip`` hears of broken records and of a broken tail."""
    records = 0
    try:
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, parse_http=False):
                if record.record_type != WarcRecordType.response:
                    records += 1
                    continue
                page = _page(record, f"{path}#{records}", source, licence, max_bytes, skip)
                records += 1
                if page is not None:
                    yield page
    except OSError as error:
        reason = error.strerror or str(error)
        if records == 0:
            raise HerdError(f"{path}: not readable as WARC ({reason})") from None
        skip(f"{path}#{records}", f"the archive breaks off after {records:,} records ({reason})")
    if records == 0:
        raise HerdError(f"{path}: holds no WARC record")


def _page(record: Any, place: str, source: str, licence: str | None, max_bytes: int, skip: Skip) -> Page | None:
    """The page in a response; None, and a word to ``skip``, where it is cut short, too long, or not a page."""
    declared = record.content_length
    url = (record.headers.get("WARC-Target-URI") or "").strip("<> ")
    name = url or place
    if declared > max_bytes:
        skip(name, f"longer than {max_bytes:,} bytes")
        return None
    record.freeze()
    if record.content_length < declared or record.headers.get("WARC-Truncated"):
        skip(name, "the record is truncated")
        return None
    try:
        record.parse_http(auto_decode="all")
        data = record.reader.read()
    except OSError as error:
        skip(name, f"broken HTTP response ({error})")
        return None
    if record.http_headers is None or record.http_headers.status_code != _HTTP_OK:
        return None
    if (record.http_content_type or "").lower() not in _HTML_TYPES:
        return None
    text = decode_html(data, record.http_charset)
    if text is None or not text.strip():
        skip(name, "binary data" if text is None else "empty page")
        return None
    day = record.record_date.date().isoformat() if record.record_date else None
    return Page(name, source, "html", text, date=day, license=licence)
