"""Markdown markers go, words and code stay."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from herd.corpus.markdown import plain_text


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("# Title #\n\ntext", "Title\n\ntext"),
        ("Title\n=====\ntext", "Title\ntext"),
        ("some **bold**, *slanted* and ~~struck~~ words", "some bold, slanted and struck words"),
        ("snake_case_name and 2 * 3 * 4", "snake_case_name and 2 * 3 * 4"),
        ("a [link](https://example.org/a_(b)) and <https://example.org>", "a link and https://example.org"),
        ("[![badge](https://x/y.svg)](https://x)\n\ntext", "text"),
        ("- one\n- two\n  - three", "one\ntwo\n  three"),
        ("1. one\n2. two", "one\ntwo"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "a\tb\n1\t2"),
        ("> said\n> so", "said\nso"),
        ("use `*args` and ``a`b``", "use *args and a`b"),
        ("<p align='center'>words</p><!-- not this -->", "words"),
        (r"a \* b &amp; c", "a * b & c"),
        ("above\n\n---\n\nbelow", "above\n\nbelow"),
    ],
)
def test_markers(markdown: str, expected: str) -> None:
    assert plain_text(markdown) == expected


_LINES = st.lists(
    st.text(st.characters(codec="ascii", exclude_characters="\n\r\0`~", exclude_categories=["Cc"]), max_size=40)
)


@settings(max_examples=60, deadline=None)
@given(_LINES)
@example(["](", "x)"])
def test_fenced_code_keeps_every_character(lines: list[str]) -> None:
    code = "\n".join(["    def f():", *lines, "end"])
    lines_out = plain_text(f"before\n\n```python\n{code}\n```\n\nafter").split("\n")
    expected = [line.rstrip() for line in code.split("\n")]
    assert [line for line in lines_out if line] == ["before", *(line for line in expected if line), "after"]


@settings(max_examples=60, deadline=None)
@given(_LINES)
@example(["](", "x)"])
def test_indented_code_keeps_every_character(lines: list[str]) -> None:
    code = "\n".join(f"    {line}" for line in ["def f():", *lines, "end"])
    lines_out = plain_text(f"before\n\n{code}\n\nafter").split("\n")
    expected = [line.rstrip() for line in code.split("\n")]
    assert [line for line in lines_out if line] == ["before", *(line for line in expected if line), "after"]


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("see [this](\nhttps://example.org) page", "see this page"),
        ("see [one](  \n  https://example.org/1) and [two](\nhttps://example.org/2).", "see one and two."),
        ("- an item with a [link](\n      https://example.org)", "an item with a link"),
        ("not a [link](\n\nmore", "not a [link](\n\nmore"),
        ("not a [link](\n```\nf(x)\n```", "not a [link](\n\nf(x)"),
    ],
)
def test_a_link_may_break_before_its_address(markdown: str, expected: str) -> None:
    assert plain_text(markdown) == expected


def test_indented_code_keeps_its_markers() -> None:
    assert (
        plain_text("Run:\n\n    # a comment\n    x = *args\n\nDone.")
        == "Run:\n\n    # a comment\n    x = *args\n\nDone."
    )
