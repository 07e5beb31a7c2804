"""Tells the main text of a page from what surrounds it: menus, teasers, comments, notices.

Three steps, each with its own evidence.  Elements whose tag, role or name says that they are no main text are left out
while the page is read, unless they hold most of it.  Every block of prose lends its weight to the containers around it,
and the main container is the innermost one that still holds nearly all of that weight.  Last, blocks inside it that
are mostly links, or that only lead elsewhere, go.
"""

import re
from collections import Counter
from functools import lru_cache
from itertools import zip_longest

from selectolax.lexbor import LexborNode

from herd.corpus.layout import Attributes, Block, Container, Layout, label_of, read_blocks
from herd.corpus.threads import find_posts

_UNWANTED_TAGS = {"nav", "aside", "footer", "form", "dialog", "menu", "header"}
_UNWANTED_ROLES = {"navigation", "banner", "contentinfo", "complementary", "search", "dialog", "menu", "menubar"}
_PROTECTED_TAGS = {"body", "html", "article", "main", "p", "pre", "code", "h1", "h2", "math"}
_NAME_PARTS = r"""
    ad adsense ads advert\w* also author-?\w* banner\w* breadcrumbs? byline\w* caption\w* carousel\w* catlinks
    commentlist comments? consent cookie\w* copyright credits? dateline disclaimer disqus editsection
    entry-?meta foot footer\w* gallery\w* gdpr hidden infobox latest login masthead menu\w* meta metadata
    modal\w* more-?\w* most-?\w*read mw-editsection nav navbar navbox navigation newsletter\w* noprint outbrain
    overlay pager paginat\w+ popular popup\w* post-?meta print\w* promo\w* rating\w* read-?more\w* recirc\w*
    recommend\w* reflist related\w* replies respond screen-?reader-?text search\w* share\w* sharing side-?bar\w*
    sign-?up skip\w* slideshow social\w* sponsor\w* sr-?only subscri\w+ taboola tag-?list tags? teaser\w*
    timestamp toc toolbar trending visually-?hidden vote\w* widget\w*
"""
_UNWANTED_NAME = re.compile(rf"(?:^|[\s_-])(?:{'|'.join(_NAME_PARTS.split())})(?=$|[\s_-])")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden")
_COMMENTS = re.compile(r"\b(?:comments?|disqus|replies|commentlist)\b")
_EMBEDDED = re.compile(r"social|embed|share")
_ARTICLE = re.compile(r"\b(?:article-?body|post-?content|entry-?content|story-?body|post-?body|mw-parser-output)\b")
_NAMED_BY_TEXT = {"h1", "h2", "h3", "h4", "h5", "h6", "dt"}
_WORD = re.compile(r"[^\W_]+")
_NEVER_ALL = {"blockquote", "ul", "ol", "li", "dl", "figure", "details"}
_MOSTLY_LINKS = 0.6
_MOST = 0.5
_ALL_BUT_A_TITLE = 0.9
_MOST_LOOKED = 50_000_000
_SOME_PROSE = 400
_LEVELS_OF_SIBLINGS = 3
_SIBLING = 0.2
_PROSE_AROUND = 2
_TOO_LITTLE = 250
_NEARLY_ALL = 0.65
_ALONE = 0.15
_ARTICLE_BONUS = 2.0
_OPENINGS = r"""related
more (?:from|on|great|stories|news|in)
read (?:more|next|also|on)
(?:see|watch) also|also read|recommended|you (?:may|might) (?:also|like|enjoy)
don't miss|watch:|want (?:more|to (?:read|see))
(?:\d+ )?comments?\W*\d*\W*$|leave a (?:reply|comment)|tell us what|have a tip|write to|email .{3,60}@
share (?:this|on)|follow (?:us|me|him|her)|subscribe|sign up|get the (?:latest|best)
advert(?:s|isements?|orial)?\b|buy now|click here|print this|skip to
most (?:popular|read)|trending|popular|tags?\W*(?::|$)|filed under
image \d+ of \d+|photo(?:graph)?s?(?: by|:)|image(?: credit|:)
published|posted|updated|last (?:updated|modified)|(?-i:[Bb]y [A-Z]\w+ [A-Z]\w+$)
copyright|\(c\)|©|all rights reserved|this (?:article|story) (?:was )?(?:originally )?(?:appeared|published)"""
_LEADS_ELSEWHERE = re.compile(rf"^\W*(?:{'|'.join(_OPENINGS.splitlines())})", re.IGNORECASE)
_SHORT = 250
_OF_TITLE = 0.2


def main_blocks(body: LexborNode, title: str = "") -> list[Block]:
    """The blocks of main text below ``body``, in order; ``title``, the page's, tells which heading is the article's."""
    found = _select(body, title, by_name=True)
    if sum(len(block.text) for block in found) >= _TOO_LITTLE:
        return found
    again = _select(body, title, by_name=False)
    return max(found, again, key=lambda blocks: sum(_weight(block) for block in blocks))


def _select(body: LexborNode, title: str, *, by_name: bool) -> list[Block]:
    prose = _paragraph_length(body)
    text = len(body.text())
    looked = 0

    def skip(node: LexborNode, tag: str, attributes: Attributes) -> bool:
        if not _is_unwanted(tag, attributes, by_name=by_name) or _is_titled_section(node, tag, attributes):
            return False
        label = label_of(attributes)
        if _EMBEDDED.search(label) and not _COMMENTS.search(label) and node.css_first("blockquote") is not None:
            return False
        # Unwanted elements within one another, each with all the text, would be read as often as they are deep.
        nonlocal looked
        own = _paragraph_length(node) if prose >= _SOME_PROSE else len(node.text())
        looked += own
        kept = _ALL_BUT_A_TITLE if _COMMENTS.search(label) else _MOST
        return own < kept * (prose if prose >= _SOME_PROSE else text) or looked > _MOST_LOOKED

    layout = read_blocks(body, skip)
    roots = find_posts(layout, title) or _with_siblings(layout, _main_container(layout, title))
    inside = _descendants(layout, roots)
    return _without_boilerplate([block for block in layout.blocks if block.container in inside], title)


def _is_unwanted(tag: str, attributes: Attributes, *, by_name: bool) -> bool:
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
    if tag in _PROTECTED_TAGS or not by_name:
        return False
    name = attributes.get("class") or ""
    if tag not in _NAMED_BY_TEXT:
        name = f"{name} {attributes.get('id') or ''}"
    return len(name) > 1 and _is_unwanted_name(name)


def _is_titled_section(node: LexborNode, tag: str, attributes: Attributes) -> bool:
    """Whether a section within a section is named by its own heading, as docutils names it: "Search" is a text then."""
    around, heading = node.parent, node.first_child
    if tag not in ("section", "div") or (attributes.get("class") or "section") != "section" or around is None:
        return False
    while heading is not None and heading.tag in ("-text", "span"):
        heading = heading.next
    if heading is None or heading.tag not in _NAMED_BY_TEXT or around.tag != tag or not around.attributes.get("id"):
        return False
    words = _WORD.findall(heading.text().casefold())
    return bool(words) and words == _WORD.findall((attributes.get("id") or "").casefold())


@lru_cache(maxsize=50_000)
def _is_unwanted_name(name: str) -> bool:
    return _UNWANTED_NAME.search(_CAMEL.sub("-", name).lower()) is not None


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


def _main_container(layout: Layout, title: str) -> int:
    """The innermost container that holds nearly all the weight of the page.

    A paragraph with prose beside it in the same container counts in full, one alone like that of a teaser much less.
    """
    weights = [_weight(block) for block in layout.blocks]
    beside = Counter(block.container for block, weight in zip(layout.blocks, weights, strict=True) if weight)
    bonus = _article_bonus(layout, title)
    for block, weight in zip(layout.blocks, weights, strict=True):
        at = block.container
        weight *= (_ALONE if beside[at] == 1 and len(block.text) < 600 else 1.0) * bonus[at]
        while weight and at >= 0:
            layout.containers[at].score += weight
            at = layout.containers[at].parent
    best, enough = 0, _NEARLY_ALL * layout.containers[0].score
    for number, container in enumerate(layout.containers):
        if container.parent == best and container.score >= enough and container.tag not in _NEVER_ALL:
            best = number
            enough = _NEARLY_ALL * container.score
    return _named_around(layout, _undivided(layout, best))


def _undivided(layout: Layout, container: int) -> int:
    """The text of which ``container`` is a section: what holds a heading above the one that ``container`` begins with.

    Generators of documentation put every section, and the whole below its title, into an element of its own.
    """
    opening: dict[int, Block] = {}
    for block in layout.blocks:
        at = block.container
        while at >= 0 and at not in opening:
            opening[at] = block
            at = layout.containers[at].parent
    while (around := layout.containers[container].parent) >= 0:
        above = next((block for block in layout.blocks if block.container == around and block.level), None)
        if above is None or container not in opening or above.level >= opening[container].level:
            break
        container = around
    return container


def _named_around(layout: Layout, container: int) -> int:
    """The container around ``container`` that is named as the body of an article, if one is; else ``container``."""
    at = container
    while at >= 0:
        if _ARTICLE.search(layout.containers[at].label):
            return at
        at = layout.containers[at].parent
    return container


def _article_bonus(layout: Layout, title: str) -> list[float]:
    """A factor for every container: more than one within what is named as the article, or is the only one.

    Of several ``article`` elements, as on a page with teasers, it is the one whose heading is the page's title.
    """
    containers = layout.containers
    articles = [number for number, container in enumerate(containers) if container.tag == "article"]
    if len(articles) > 1:
        articles = []
        for block in layout.blocks:
            if block.level and _is_title(block, title):
                at = block.container
                while at >= 0 and containers[at].tag != "article":
                    at = containers[at].parent
                articles = [at]
                break
    bonus = [1.0] * len(containers)
    for number, container in enumerate(containers):
        own = number in articles or bool(_ARTICLE.search(container.label))
        bonus[number] = _ARTICLE_BONUS if own else bonus[container.parent] if container.parent >= 0 else 1.0
    return bonus


def _is_title(block: Block, title: str) -> bool:
    """Whether a heading says what the page's title says; the title often adds the name of the site."""
    words, said = ("".join(filter(str.isalnum, text.casefold())) for text in (block.text, title))
    return block.level == 1 if not title else len(words) > 5 and words in said and len(words) >= _OF_TITLE * len(said)


def _with_siblings(layout: Layout, root: int) -> set[int]:
    """``root`` and the containers beside it that hold other parts of the same text: alike in name, or rich in prose.

    Where the container around it has prose of its own, as when a script folded the rest of a text away, it is the root.
    """
    containers = layout.containers
    around = containers[root].parent
    if sum(block.container == around and _weight(block) > 0 for block in layout.blocks) >= _PROSE_AROUND:
        root = around
    chosen, at = {root}, root
    for _ in range(_LEVELS_OF_SIBLINGS):
        parent = containers[at].parent
        if parent < 0 or containers[at].tag in ("article", "main") or _is_top_section(containers, at):
            break
        for number, container in enumerate(containers):
            if container.parent != parent or number == at or container.tag in ("li", "td", "tr"):
                continue
            alike = container.score > 0 and container.label == containers[at].label != ""
            if alike or container.score >= _SIBLING * containers[root].score:
                chosen.add(number)
        at = parent
    return chosen


def _is_top_section(containers: list[Container], at: int) -> bool:
    """Whether this is a section of the page and not of an article."""
    if containers[at].tag != "section":
        return False
    while at >= 0 and containers[at].tag != "article":
        at = containers[at].parent
    return at < 0


def _descendants(layout: Layout, roots: set[int]) -> set[int]:
    inside = set(roots)
    for number, container in enumerate(layout.containers):
        if container.parent in inside:
            inside.add(number)
    return inside


def _without_boilerplate(blocks: list[Block], title: str) -> list[Block]:
    """Drops what is mostly links, and short blocks that lead elsewhere together with the lists that they announce."""
    kept: list[Block] = []
    leads = False
    for block, after in zip_longest(blocks, blocks[1:]):
        if block.kind == "code":
            kept.append(block)
            continue
        if block.level and (block.level == 1 or _is_title(block, title)):
            continue
        if len(block.text) < _SHORT and _LEADS_ELSEWHERE.match(block.text) and not _is_data(block):
            leads = True
            continue
        if leads and block.kind == "item":
            continue
        leads = False
        if not _is_mostly_links(block) or _introduces(block, after) or _is_data(block):
            kept.append(block)
    return kept


def _is_mostly_links(block: Block) -> bool:
    return block.links > _MOSTLY_LINKS * len(block.text)


def _introduces(block: Block, after: Block | None) -> bool:
    """Whether a heading that is a link stands over text and not over more links."""
    return block.level > 0 and after is not None and not after.level and not _is_mostly_links(after)


def _is_data(block: Block) -> bool:
    """Whether a line of a table has several cells; in a table of facts many of them are links."""
    return block.kind == "row" and block.text.count("\t") >= 2
