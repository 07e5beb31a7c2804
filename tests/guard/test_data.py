"""Examples are balanced, repeatable, true to their split, and carry labels that a policy knows."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from herd.foundation.errors import HerdError
from herd.guard.data import Page, make_examples, read_pages, split_of, templates
from herd.guard.policy import PolicyConfig

_PAGES = [
    Page("json.dumps", "Serialize obj to a JSON formatted str. Keys are sorted if asked for."),
    Page("", "x" * 40),
]


def test_examples_are_balanced_distinct_and_repeatable() -> None:
    examples = make_examples("train", 1500, _PAGES, seed=3)
    assert examples == make_examples("train", 1500, _PAGES, seed=3)
    assert len({example.item for example in examples}) == 1500
    assert 0.45 < sum(bool(example.categories) for example in examples) / 1500 < 0.56
    kinds = Counter(example.item.kind for example in examples)
    assert min(kinds.values()) > 300
    assert {code for example in examples for code in example.categories} == set(PolicyConfig().categories)


def test_no_slot_is_left_open() -> None:
    for example in make_examples("train", 1500, _PAGES, seed=5):
        assert "{" not in example.item.text.replace("{}", "")
        assert example.item.text.strip()


def test_the_splits_share_no_act() -> None:
    acts = [act for listed in templates()["acts"].values() for act in listed if "{" not in act]
    for split in ("train", "calibration"):
        text = "\n".join(example.item.text.lower() for example in make_examples(split, 1000, _PAGES, seed=2))
        strangers = [act for act in acts if split_of(act, 2) != split and act.lower() in text]
        # A pattern may put together by chance what the other split has on its list.
        assert len(strangers) <= 3
        assert sum(act.lower() in text for act in acts if split_of(act, 2) == split) > 20


def test_the_splits_share_no_page() -> None:
    pages = [Page("", f"{'page ' * 8}{number:03d} {'words ' * 8}") for number in range(100)]
    used = [
        {page.text for page in pages for example in made if page.text[30:50] in example.item.text}
        for made in (make_examples(split, 800, pages, seed=2) for split in ("train", "calibration"))
    ]
    assert all(used)
    assert not used[0] & used[1]


@pytest.mark.parametrize("seed", range(12))
def test_every_seed_fills_both_splits(seed: int) -> None:
    for split in ("train", "calibration"):
        assert len(make_examples(split, 150, seed=seed)) == 150


def test_a_smaller_policy_knows_only_its_categories() -> None:
    examples = make_examples("train", 300, _PAGES, PolicyConfig(categories=("S1", "S14")))
    assert {code for example in examples for code in example.categories} == {"S1", "S14"}


def test_what_cannot_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(HerdError, match="no template"):
        make_examples("train", 10, policy=PolicyConfig(categories=("S13",)))
    with pytest.raises(HerdError, match="documents"):
        read_pages(tmp_path, 5, seed=1)


def test_pages_are_excerpts_of_the_documents(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    table = pa.table({"title": ["a", None], "text": ["one\n two " * 200, "short text"]})
    pq.write_table(table, tmp_path / "documents" / "0.parquet")
    pages = read_pages(tmp_path, 10, seed=1)
    assert {page.title for page in pages} == {"a", ""}
    assert all(0 < len(page.text) <= 300 and "\n" not in page.text for page in pages)
