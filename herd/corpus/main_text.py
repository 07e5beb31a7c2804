"""Tells the main text of a page from what surrounds it: menus, teasers, comments, notices.

Three steps, each with its own evidence.  Elements whose tag, role or name says that they are no main text are left out
while the page is read, unless they hold most of it.  Every block of prose lends its weight to the containers around it,
and the main container is the innermost one that still holds nearly all of that weight.  Last, blocks inside it that
are mostly links, or that only lead elsewhere, go.
"""

import re

from selectolax.lexbor import LexborNode

from herd.corpus.layout import Attributes, Block, Layout, label_of, read_blocks

_UNWANTED_TAGS = {"nav", "aside", "footer", "form", "dialog", "menu", "header"}
_UNWANTED_ROLES = {
    "navigation",
    "banner",
    "contentinfo",
    "complementary",
    "search",
    "dialog",
    "menu",
    "menubar",
    "alert",
}
_PROTECTED_TAGS = {"body", "html", "article", "main", "p", "pre", "code", "h1", "h2", "math"}
_NAME_PARTS = (
    r"comments?", r"commentlist", r"disqus", r"respond", r"replies", r"side-?bar\w*", r"share\w*", r"sharing", r"social\w*",
    r"related\w*", r"recommend\w*", r"recirc\w*", r"promo\w*", r"newsletter\w*", r"subscri\w+", r"sign-?up", r"cookie\w*",
    r"consent", r"gdpr", r"breadcrumbs?", r"paginat\w+", r"pager", r"nav", r"navbar", r"navigation", r"menu\w*",
    r"byline\w*", r"author-?\w*", r"tags?", r"tag-?list", r"ad", r"ads", r"advert\w*", r"adsense", r"banner\w*",
    r"sponsor\w*", r"footer\w*", r"foot", r"masthead", r"popup\w*", r"modal\w*", r"overlay", r"widget\w*", r"toolbar",
    r"trending", r"popular", r"most-?\w*read", r"latest", r"more-?\w*", r"outbrain", r"taboola", r"teaser\w*", r"toc",
    r"read-?more\w*", r"readmore", r"also", r"skip\w*", r"login", r"search\w*", r"copyright", r"disclaimer", r"print\w*",
    r"caption\w*", r"credits?", r"gallery\w*", r"slideshow", r"carousel\w*", r"timestamp", r"dateline", r"meta", r"post-?meta",
    r"entry-?meta", r"rating\w*", r"vote\w*", r"hidden", r"visually-?hidden", r"sr-?only", r"screen-?reader-?text",
    r"noprint", r"editsection", r"mw-editsection", r"catlinks", r"navbox", r"infobox", r"reflist", r"metadata",
)  # fmt: skip
_UNWANTED_NAME = re.compile(rf"(?:^|[\s_-])(?:{'|'.join(_NAME_PARTS)})(?=$|[\s_-])")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden")
_MOST = 0.5
_NEARLY_ALL = 0.75
_ENDING = re.compile(
    r"^(?:related|more from|more on|read more|read next|see also|also read|recommended|comments?|leave a (?:reply|comment)"
    r"|share this|follow us|subscribe|sign up|advertisement|you may also|most popular|trending|popular|tags)\b",
    re.IGNORECASE,
)


def main_blocks(body: LexborNode) -> list[Block]:
    """The blocks of main text below ``body``, in order."""
    most = _MOST * max(_paragraph_length(body), 1)

    def skip(node: LexborNode, tag: str, attributes: Attributes) -> bool:
        return _is_unwanted(tag, attributes) and _paragraph_length(node) < most

    layout = read_blocks(body, skip)
    root = _main_container(layout)
    inside = _descendants(layout, root)
    return _without_boilerplate([block for block in layout.blocks if block.container in inside])


def _is_unwanted(tag: str, attributes: Attributes) -> bool:
    """Whether tag, role, name or style say that an element is no main text."""
    if tag in _UNWANTED_TAGS:
        return True
    if not attributes:
        return False
    if "hidden" in attributes or attributes.get("aria-hidden") == "true":
        return True
    if (attributes.get("role") or "") in _UNWANTED_ROLES:
        return True
    style = attributes.get("style")
    if style and _HIDDEN_STYLE.search(style):
        return True
    if tag in _PROTECTED_TAGS:
        return False
    name = f"{attributes.get('class') or ''} {attributes.get('id') or ''}"
    return len(name) > 1 and bool(_UNWANTED_NAME.search(_CAMEL.sub("-", name).lower()))


def _paragraph_length(node: LexborNode) -> int:
    return sum(len(paragraph.text()) for paragraph in node.css("p"))


def _weight(block: Block) -> float:
    """How much a block speaks for its containers: long prose with sentences and few links speaks most."""
    if block.kind == "code":
        return min(len(block.text), 500) * 0.5
    own = len(block.text) - block.links
    if own < 40 or block.links > 0.5 * len(block.text):
        return 0.0
    sentences = sum(block.text.count(sign) for sign in (". ", ", ", "? ", "! ", "。", "，", "।")) + block.text.endswith(
        "."
    )
    return own * (1.0 if sentences else 0.3)


def _main_container(layout: Layout) -> int:
    """The innermost container that holds nearly all the weight of the page."""
    for block in layout.blocks:
        weight = _weight(block)
        at = block.container
        while weight and at >= 0:
            layout.containers[at].score += weight
            at = layout.containers[at].parent
    best, enough = 0, _NEARLY_ALL * layout.containers[0].score
    for number, container in enumerate(layout.containers):
        if container.parent == best and container.score >= enough and container.score > 0:
            best = number
            enough = _NEARLY_ALL * container.score
    return best


def _descendants(layout: Layout, root: int) -> set[int]:
    inside = {root}
    for number, container in enumerate(layout.containers):
        if container.parent in inside:
            inside.add(number)
    return inside


def _without_boilerplate(blocks: list[Block]) -> list[Block]:
    kept = [block for block in blocks if not (block.links > 0.6 * len(block.text) and block.kind != "code")]
    return kept
