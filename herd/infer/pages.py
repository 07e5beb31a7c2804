"""Who owns which page of the key-value cache: reference counts, shared prefixes, and what may be evicted.

A page holds the keys and values of ``page_size`` consecutive tokens in every layer.  This module only counts; the
tensors are in ``cache``.  A full page is known by the digest of all tokens up to its end, so that requests that
begin alike read the same pages (paper, section 4.2.2: prompt pages are shared over the outputs of a prompt).
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np


def page_keys(tokens: Sequence[int] | np.ndarray, page_size: int, parent: bytes = b"") -> list[bytes]:
    """One key per full page of ``tokens``; it depends on everything before the page, for which ``parent`` stands."""
    keys = []
    data = np.asarray(tokens, dtype=np.int64).tobytes()
    width = page_size * 8
    for start in range(0, len(data) - width + 1, width):
        parent = hashlib.blake2b(parent + data[start : start + width], digest_size=16).digest()
        keys.append(parent)
    return keys


class PagePool:
    """A bounded number of pages with reference counts.

    A page that nobody holds is free.  If its content was published it stays findable until the room is needed; the
    one released longest ago goes first.
    """

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self._references = [0] * pages
        self._empty = list(range(pages - 1, -1, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._key_of: dict[int, bytes] = {}
        self._page_of: dict[bytes, int] = {}

    @property
    def free(self) -> int:
        """Pages that ``allocate`` could give out."""
        return len(self._empty) + len(self._idle)

    def references(self, page: int) -> int:
        """How many hold ``page``."""
        return self._references[page]

    def allocate(self, count: int) -> list[int]:
        """Takes ``count`` pages, each held once; the caller has checked ``free``."""
        assert count <= self.free, "admission let in a request without memory"
        taken = []
        for _ in range(count):
            if self._empty:
                page = self._empty.pop()
            else:
                page, _ = self._idle.popitem(last=False)
                del self._page_of[self._key_of.pop(page)]
            self._references[page] = 1
            taken.append(page)
        return taken

    def hold(self, pages: Iterable[int]) -> None:
        """Adds one holder to each page; idle ones come back to life."""
        for page in pages:
            if self._references[page] == 0:
                del self._idle[page]
            self._references[page] += 1

    def release(self, pages: Sequence[int]) -> None:
        """Takes one holder from each page; the last of a run of tokens becomes the first to be evicted."""
        for page in reversed(pages):
            self._references[page] -= 1
            assert self._references[page] >= 0, "a page was released twice"
            if self._references[page] == 0:
                if page in self._key_of:
                    self._idle[page] = None
                else:
                    self._empty.append(page)

    def publish(self, key: bytes, page: int) -> None:
        """Makes a full page findable by its key; the first page with some content is the one that counts."""
        if key not in self._page_of and page not in self._key_of:
            self._page_of[key] = page
            self._key_of[page] = key

    def find(self, keys: Sequence[bytes]) -> list[int]:
        """The pages of the longest known run of ``keys`` from the first on; they are not held yet."""
        pages = []
        for key in keys:
            page = self._page_of.get(key)
            if page is None:
                break
            pages.append(page)
        return pages

    def forget(self) -> None:
        """Makes every page unknown; nobody may hold one. For when the model that filled them has changed."""
        assert self.free == self.pages, "pages in use cannot be forgotten"
        self._empty += self._idle
        self._idle.clear()
        self._key_of.clear()
        self._page_of.clear()

    def idle_among(self, pages: Iterable[int]) -> int:
        """How many of ``pages`` count as free now and would not after ``hold``."""
        return sum(self._references[page] == 0 for page in pages)
