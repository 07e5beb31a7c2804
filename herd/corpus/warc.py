"""Reads the HTML pages of a web archive: WARC, plain or compressed, as Common Crawl and wget write them.

    for page in read_warc(stream, "crawl.warc.gz", "crawl", None, 8_000_000, skip, damaged, Cursor()): ...

Responses with status 200 and an HTML type become pages, with chunks and content encodings undone and the charset of the
header or the page.  Requests, metadata and revisits (which hold no page of their own) are passed over.  A record that
is cut short is left out, as the paper uses documents that are not truncated (section 3.1.1).  Where an archive is
damaged, reading goes on at the next sound record; one that holds none at all is damaged at byte 0.
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from fastwarc.warc import ArchiveIterator, WarcRecordType

from herd.corpus.charset import decode_html
from herd.corpus.pages import Cursor, Page
from herd.corpus.python_docs import Skip

_HTML_TYPES = {"text/html", "application/xhtml+xml"}
_HTTP_OK = 200
_GZIP_START, _PLAIN_START = b"\x1f\x8b\x08", b"WARC/1."
_CHUNK = 1 << 20
_MOST_DAMAGES = 1000


def read_warc(
    stream: BinaryIO,
    name: str,
    source: str,
    licence: str | None,
    max_bytes: int,
    skip: Skip,
    damaged: Callable[[int, str], None],
    cursor: Cursor,
) -> Iterator[Page]:
    """Yields the HTML pages of an archive.

    ``skip(name, reason)`` hears of records that are no use, ``damaged(offset, reason)`` of bytes that are no record,
    with the offset of the record in which, or after which, the damage begins.  Reading begins at ``cursor``: after the
    record at its offset, if any was read before.
    """
    records, good, start = cursor.count, cursor.offset, cursor.offset
    last = cursor.offset if cursor.count else -1
    for damages in range(_MOST_DAMAGES):
        stream.seek(start)
        before = records
        try:
            for record in ArchiveIterator(stream, parse_http=False):
                good = record.stream_pos
                if good == last:
                    continue
                if record.record_type == WarcRecordType.response:
                    page = _page(record, f"{name}#{records}", source, licence, max_bytes, skip)
                    if page is not None:
                        cursor.offset, cursor.count = good, records + 1
                        yield page
                records += 1
            if not records:
                damaged(0, "holds no WARC record")
            return
        except OSError as error:
            reason = error.strerror or str(error)
        following = _next_record(stream, max(good, start) + 1)
        if not records and following is None:
            damaged(0, f"not readable as WARC ({reason})")
        elif records > before or not damages:
            rest = "nothing sound follows" if following is None else f"goes on at byte {following:,}"
            damaged(max(good, start), f"the archive is damaged after {records:,} records ({reason}); {rest}")
        if following is None:
            return
        start = following
    damaged(start, f"damaged more than {_MOST_DAMAGES:,} times: the rest is left out")


def _next_record(stream: BinaryIO, start: int) -> int | None:
    """The offset of the first bytes from ``start`` on that begin a record, compressed or not; None if none do."""
    stream.seek(start)
    before, at = b"", start
    while data := stream.read(_CHUNK):
        text = before + data
        base, place = at - len(before), -1
        while (place := _first_sign(text, place + 1)) >= 0:
            if _begins_record(stream, base + place):
                return base + place
        at += len(data)
        before = text[-len(_PLAIN_START) + 1 :]
        stream.seek(at)
    return None


def _first_sign(text: bytes, start: int) -> int:
    found = [place for sign in (_GZIP_START, _PLAIN_START) if (place := text.find(sign, start)) >= 0]
    return min(found, default=-1)


def _begins_record(stream: BinaryIO, offset: int) -> bool:
    """Whether a record's header stands at ``offset``; its type must be among its first bytes."""
    stream.seek(offset)
    data = stream.read(1 << 12)
    if data.startswith(_GZIP_START):
        try:
            data = zlib.decompressobj(31).decompress(data, 1 << 12)
        except zlib.error:
            return False
    return data.startswith(_PLAIN_START) and b"WARC-Type:" in data


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
        data = record.reader.read(max_bytes + 1)
    except OSError as error:
        skip(name, f"broken HTTP response ({error})")
        return None
    if len(data) > max_bytes:
        skip(name, f"unpacks to more than {max_bytes:,} bytes")
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
    robots = record.http_headers.get("X-Robots-Tag")
    return Page(name, source, "html", text, date=day, license=licence, robots=robots)
