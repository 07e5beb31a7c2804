"""Which characters the bytes of a page stand for: mark, header, declaration, UTF-8, and at last the Western default.

decode_html(b"<p>caf\\xe9", "iso-8859-1")
"""

import codecs
import re

_DECLARED = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.\-]+)", re.IGNORECASE)
_DECLARED_XML = re.compile(rb"^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_:.\-]+)")
_SEARCHED_BYTES = 4096
_FITS_ANYTHING = {"cp1252", "cp1254", "iso8859-15"}
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
# Python's own, which no browser knows; some of them take quadratic time.
_NO_CHARSETS = {"punycode", "idna", "unicode_escape", "raw_unicode_escape", "utf-7", "undefined", "mbcs", "oem"}
# Browsers read these labels as a larger set that contains them (WHATWG Encoding).
_LARGER = {
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949", "big5": "big5hkscs",
}  # fmt: skip


def decode_html(data: bytes, declared: str | None = None) -> str | None:
    """The text of a page; ``declared`` is the charset of its HTTP header.  None if it is binary, no text at all."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data.decode(name, "replace")
    head = data[:_SEARCHED_BYTES]
    if b"\x00" in head:
        return None
    found = _DECLARED.search(head) or _DECLARED_XML.search(head)
    labels = (declared, found[1].decode("ascii") if found else None)
    codecs_named = [codec for codec in map(_codec, labels) if codec is not None]
    texts = []
    for codec in codecs_named:
        texts.append(_lenient(data, codec))
        if _fits(texts[-1]):
            return texts[-1]
    if texts and codecs_named[0] != "utf-8":
        return texts[0]
    text = data.decode("utf-8", "replace")
    return text if _fits(text) else _lenient(data, "cp1252")


def _fits(text: str) -> bool:
    """Whether most of what is not ASCII could be decoded; a few broken characters are no proof of a wrong label."""
    broken = text.count("\ufffd")
    return not broken or 2 * broken <= len(text) - len(text.encode("ascii", "ignore"))


def _codec(label: str | None) -> str | None:
    """Python's name for a charset label; None if it is none, or if it could not hold the tags that were just read."""
    if not label:
        return None
    try:
        name = codecs.lookup(label.strip().lower()).name
        b"<a>".decode(name)
    except (LookupError, UnicodeError):
        return None
    if name in _NO_CHARSETS or name.replace("-", "_") in _NO_CHARSETS or name.startswith(("utf-16", "utf-32")):
        return None
    return _LARGER.get(name, name)


def _lenient(data: bytes, codec: str) -> str:
    """Decodes by ``codec``; where that fits badly, or would fit anything, sound UTF-8 says that the label is wrong."""
    text = data.decode(codec, "replace")
    if "\ufffd" not in text and codec not in _FITS_ANYTHING:
        return text
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return text
