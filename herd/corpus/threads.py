"""Finds the posts of a thread: on a page of a forum or of questions and answers, what people wrote and nothing else.

A thread repeats one frame (author, day, buttons) around texts of any length, so that the weight of prose says little.
What it does say is how forums name the element that holds a post's own text, and schema.org has a property for it.

    bodies = find_posts(layout, title)      # the containers of those texts; empty where the page is no thread
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache

from herd.corpus.layout import Block, Layout

_BODY = re.compile(
    r"^(?:js-)?(?:(post|message|msg|comment|reply|answer|question|entry|topic)[-_]?(body|content|text|message)"
    r"|(cooked|bbwrapper|s-prose))(?:[-_]?\d+)?$"
)
_PLAIN = "plain"
_PLAIN_BODY = re.compile(r"^(?:body|content|text|message)$")
_UNIT = re.compile(r"^(?:[a-z]+[-_])?(?:posts?|message|comment|reply|answer|question)(?:[-_]?\d+)?$")
_A_TEXT = 60


def find_posts(layout: Layout, title: str) -> set[int]:
    """The containers of the posts' own texts, two or more; an empty set where the page is no thread."""
    lengths = _sums(layout, lambda block: len(block.text))
    texts = _sums(layout, lambda block: len(block.text) if _is_text(block) else 0)
    found: list[tuple[int, list[int]]] = []
    for members in _bodies(layout):
        own, others = sum(lengths[number] for number in members), texts[0] - sum(texts[number] for number in members)
        if len(members) > 1 and own >= others and not _are_nested(layout, members):
            found.append((own, members))
    # The narrowest elements that still hold most of the page's text have least of the frames around them.
    members = min(found)[1] if found else []
    return set() if _have_headings(layout, members, title) else set(members)


def _sums(layout: Layout, value: Callable[[Block], int]) -> list[int]:
    """The sum of ``value`` over all blocks in every container."""
    sums = [0] * len(layout.containers)
    for block in layout.blocks:
        sums[block.container] += value(block)
    # A container stands after the one that holds it.
    for number in range(len(sums) - 1, 0, -1):
        sums[layout.containers[number].parent] += sums[number]
    return sums


def _are_nested(layout: Layout, members: list[int]) -> bool:
    within = _within(layout, set(members))
    return any(within[layout.containers[number].parent] for number in members)


def _is_text(block: Block) -> bool:
    """Whether a block is more than what stands in a frame: a name, a day, a button."""
    return len(block.text) - block.links >= _A_TEXT


def _bodies(layout: Layout) -> Iterable[list[int]]:
    """The containers that are named as a post's text, alike by alike."""
    in_unit = _within(layout, {number for number, found in enumerate(layout.containers) if _is_unit(found.label)})
    groups: dict[str, list[int]] = defaultdict(list)
    for number, container in enumerate(layout.containers[1:], start=1):
        name = "text" if container.attributes.get("itemprop") == "text" else _name(container.label)
        if name and (name != _PLAIN or in_unit[container.parent]):
            groups[name].append(number)
    return groups.values()


@lru_cache(maxsize=50_000)
def _name(label: str) -> str:
    for word in label.split():
        if found := _BODY.match(word):
            return "-".join(filter(None, found.groups()))
    return _PLAIN if any(map(_PLAIN_BODY.match, label.split())) else ""


@lru_cache(maxsize=50_000)
def _is_unit(label: str) -> bool:
    return any(map(_UNIT.match, label.split()))


def _within(layout: Layout, roots: set[int]) -> list[bool]:
    """Which containers are one of ``roots``, or lie in one."""
    within: list[bool] = []
    for number, container in enumerate(layout.containers):
        within.append(number in roots or (container.parent >= 0 and within[container.parent]))
    return within


def _have_headings(layout: Layout, members: list[int], title: str) -> bool:
    """Whether there are headings between the texts, as in the list of a blog's articles: then it is no thread."""
    within = _within(layout, set(members))
    places = [at for at, block in enumerate(layout.blocks) if within[block.container]] or [0]
    between = [block for block in layout.blocks[places[0] : places[-1]] if not within[block.container]]
    return 2 * sum(block.level > 0 and not _names_the_thread(block, title) for block in between) >= len(members)


def _names_the_thread(block: Block, title: str) -> bool:
    """Whether a heading over a post repeats the page's title, as "Re: the question" does."""
    words = block.text.casefold().removeprefix("re:").strip(" ¶")
    return words in title.casefold()
