"""Page counts under random use, and keys that name everything before a page."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from herd.infer.pages import PagePool, page_keys

PAGES = 7


class PoolUse(RuleBasedStateMachine):
    """Users that take, share, publish and give back pages; the model is a plain list of who holds what."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(PAGES)
        self.held: list[list[int]] = []
        self.content: dict[bytes, int] = {}
        self.next_key = 0

    @rule(count=st.integers(1, 3))
    def allocate(self, count: int) -> None:
        if count > self.pool.free:
            with pytest.raises(AssertionError):
                self.pool.allocate(count)
            return
        pages = self.pool.allocate(count)
        assert not set(pages) & {page for pages in self.held for page in pages}
        self.content = {key: page for key, page in self.content.items() if page not in pages}
        self.held.append(pages)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        pages = data.draw(st.sampled_from(self.held))
        self.pool.hold(pages)
        self.held.append(list(pages))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        pages = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.pool.release(pages)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        page = data.draw(st.sampled_from(data.draw(st.sampled_from(self.held))))
        if page in self.content.values():
            return
        key = str(self.next_key).encode()
        self.next_key += 1
        self.pool.publish(key, page)
        self.content[key] = page

    @precondition(lambda self: self.content)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.content)))
        pages = self.pool.find([key])
        assert pages == [self.content[key]]
        self.pool.hold(pages)
        self.held.append(pages)

    @invariant()
    def counts_agree(self) -> None:
        in_use = {page for pages in self.held for page in pages}
        assert self.pool.free == PAGES - len(in_use)
        for page in range(PAGES):
            assert self.pool.references(page) == sum(pages.count(page) for pages in self.held)


PoolUse.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestPoolUse = PoolUse.TestCase


def test_the_page_released_longest_ago_is_evicted_first() -> None:
    pool = PagePool(3)
    pages = pool.allocate(3)
    for key, page in zip((b"a", b"b", b"c"), pages, strict=True):
        pool.publish(key, page)
    pool.release(pages[:1])
    pool.release(pages[1:])  # the end of a run goes before its beginning
    assert pool.allocate(1) == pages[:1]
    assert pool.allocate(1) == pages[2:]
    assert [pool.find([key]) for key in (b"a", b"b", b"c")] == [[], pages[1:2], []]


def test_a_run_ends_at_the_first_unknown_page() -> None:
    pool = PagePool(2)
    first, second = pool.allocate(2)
    pool.publish(b"one", first)
    pool.publish(b"three", second)
    assert pool.find([b"one", b"two", b"three"]) == [first]


@given(st.lists(st.integers(0, 3), max_size=24), st.lists(st.integers(0, 3), max_size=24), st.integers(1, 5))
def test_keys_agree_exactly_as_far_as_the_tokens_do(one: list[int], other: list[int], size: int) -> None:
    keys, others = page_keys(one, size), page_keys(other, size)
    assert len(keys) == len(one) // size
    for page, (key, another) in enumerate(zip(keys, others, strict=False)):
        assert (key == another) == (one[: (page + 1) * size] == other[: (page + 1) * size])


def test_keys_go_on_from_a_parent() -> None:
    tokens = list(range(12))
    keys = page_keys(tokens, 4)
    assert page_keys(tokens[4:], 4, keys[0]) == keys[1:]
