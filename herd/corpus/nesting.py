"""Whether a page's mark-up can be built into a tree in bounded time and memory, told before anything is built.

    is_bounded("<div>" * 100_000)   # False

An HTML parser looks up through all open elements at many a tag, and opens every unclosed ``<b>`` anew in each block
that follows, so that 40 KB of hostile mark-up can cost a gigabyte.  Both are estimated from the tags alone, rather too
high than too low: the end tag of a block counts only where that block is the innermost one.  Pages with few tags, which
are nearly all, pass at once.
"""

import re
from collections import Counter

_OPENING = re.compile(r"<([a-zA-Z][a-zA-Z0-9]*)")
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
# Elements that the parser opens again in the next block when they were left open; of "a" and "nobr" there is only one.
FORMATTING = frozenset(("b", "big", "code", "em", "font", "i", "s", "small", "strike", "strong", "tt", "u"))
# Elements that hold nothing, or that end by themselves where the next of their kind begins.
_FLAT = frozenset((
    "a", "area", "base", "body", "br", "col", "colgroup", "dd", "dt", "embed", "head", "hr", "html", "img", "input",
    "li", "link", "meta", "nobr", "optgroup", "option", "p", "param", "rp", "rt", "script", "source", "style", "tbody",
    "td", "tfoot", "th", "thead", "tr", "track", "wbr",
))  # fmt: skip
_MOST_TAGS = 500_000
_FEW_TAGS = 4_000
_FEW_FORMATTING = 200
_DEEPEST = 400
_MOST_REOPENED = 1_000_000


def is_bounded(html: str) -> bool:
    """False where building the tree may cost more than a few seconds or some hundreds of megabytes."""
    counts = Counter(_OPENING.findall(html))
    if counts.total() > _MOST_TAGS:
        return False
    formatting = sum(count for name, count in counts.items() if name.lower() in FORMATTING)
    if counts.total() <= _FEW_TAGS and formatting <= _FEW_FORMATTING:
        return True
    return _is_bounded_by_order(html)


def _is_bounded_by_order(html: str) -> bool:
    """The same by reading the tags in their order, as far as their open elements can be known without a parser."""
    blocks: list[str] = []
    unclosed: Counter[str] = Counter()
    active = reopened = 0
    for match in _TAG.finditer(html):
        closing, name = match[1], match[2].lower()
        if name in FORMATTING:
            if not closing:
                unclosed[name] += 1
                active += 1
            elif unclosed[name]:
                unclosed[name] -= 1
                active -= 1
            continue
        reopened += active
        if closing:
            if blocks and blocks[-1] == name:
                blocks.pop()
        elif name not in _FLAT:
            blocks.append(name)
        if len(blocks) + active > _DEEPEST or reopened > _MOST_REOPENED:
            return False
    return True
