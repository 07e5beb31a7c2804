"""Line dedup takes boilerplate and leaves sentences; counts are the same however they are partitioned."""

import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herd.corpus.lines import LineCounts, LinesConfig, cut_lines, frequent_lines, line_key, line_keys
from herd.corpus.words import hash_text

MENU = "Home\nAbout us\nContact"
NOTICE = "Data descriptors defined here:\n\n__dict__\n    dictionary for instance variables (if defined)"


def _page(number: int) -> str:
    words = [f"word{random.Random(f'{number}/{n}').randrange(10**6):x}".replace("0", "z") for n in range(12)]
    body = f"f{chr(97 + number)} does {' '.join(words)}\n    Returns:\n    a number like {' '.join(words[:3])}"
    return f"{MENU}\n\n{body}\n\n{NOTICE}"


def _count(pages: list[str], config: LinesConfig, directory: Path) -> tuple[LineCounts, list[dict[int, int]]]:
    counts = LineCounts(config, len(pages), directory)
    for key, page in enumerate(pages):
        counts.add(key, line_keys(page))
    return counts, frequent_lines(counts)


def test_boilerplate_goes_once_kept_and_docstrings_stay_whole(tmp_path: Path) -> None:
    pages, config = [_page(number) for number in range(9)], LinesConfig()
    counts, frequent = _count(pages, config, tmp_path)
    texts = [
        cut_lines(page, line_keys(page), key, frequent[counts.bucket(key)], config)[0] for key, page in enumerate(pages)
    ]
    assert texts[0] == pages[0]
    for page, text in zip(pages[1:], texts[1:], strict=True):
        assert text == page.split("\n\n")[1]
        assert "    Returns:\n" in text


def test_the_limit_is_more_than_six_documents(tmp_path: Path) -> None:
    config = LinesConfig()
    for copies, frequent_expected in ((6, False), (7, True)):
        _, frequent = _count([NOTICE] * copies, config, tmp_path / str(copies))
        assert bool(frequent[0]) is frequent_expected


def test_a_line_counts_once_a_document(tmp_path: Path) -> None:
    _, frequent = _count(["again and again\n" * 20] * 3, LinesConfig(), tmp_path)
    assert frequent == [{}]


def test_an_introduction_goes_only_with_what_it_introduces() -> None:
    config = LinesConfig()
    frequent = {line_key("For example::"): 99, line_key("Menu entry"): 99}
    text = "alpha beta\n\nFor example::\n\n    f(1)\n\nFor example::\n\nMenu entry\n\nomega"
    assert cut_lines(text, line_keys(text), 1, frequent, config) == (
        "alpha beta\n\nFor example::\n\n    f(1)\n\nomega",
        2,
    )


def test_results_and_brackets_are_no_lines() -> None:
    assert line_key("    3.14159") == line_key("})") == line_key("") == 0
    assert line_key("Page 3 of 12") == line_key("PAGE 9 of 45.")


@pytest.mark.parametrize("partitions", [1, 4, 7])
@pytest.mark.parametrize("bucket_documents", [30_000_000, 25])
def test_partitions_do_not_change_the_counts(tmp_path: Path, partitions: int, bucket_documents: int) -> None:
    chance = random.Random(5)
    pages = [
        "\n".join(f"line {chr(97 + chance.randrange(26))}{chr(97 + chance.randrange(3))}" for _ in range(9))
        for _ in range(60)
    ]
    config = LinesConfig(partitions=partitions, bucket_documents=bucket_documents)
    counts, frequent = _count(pages, config, tmp_path)
    expected = [Counter() for _ in range(counts.buckets)]
    for key, page in enumerate(pages):
        expected[counts.bucket(key)].update(set(line_keys(page)))
    assert [set(table) for table in frequent] == [{k for k, n in c.items() if n > 6} for c in expected]
    for bucket, table in enumerate(frequent):
        for line, keeper in table.items():
            assert keeper == min(k for k, p in enumerate(pages) if counts.bucket(k) == bucket and line in line_keys(p))


@given(st.text(alphabet="aZ01 59_-.\n\téß²٣İ…", max_size=40))
def test_keys_are_those_of_a_pattern_a_line(text: str) -> None:
    digits = str.maketrans("123456789", "000000000")
    found = [re.findall(r"[^\W_]+", line.casefold().translate(digits)) for line in text.split("\n")]
    wanted = [hash_text(" ".join(line)) if any(not word.isdigit() for word in line) else 0 for line in found]
    assert line_keys(text) == wanted
