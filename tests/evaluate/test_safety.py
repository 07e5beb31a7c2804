"""The handwritten set is what it claims to be, and its figures are those of the definitions."""

from collections import Counter
from pathlib import Path

import pytest

from herd.evaluate.contamination import overlap
from herd.evaluate.keywords import is_suspicious
from herd.evaluate.safety import Judged, SafetyItem, by_kind, figures, judge_with_keywords, read_items
from herd.foundation.errors import HerdError
from herd.guard.data import make_examples
from herd.guard.policy import GuardItem, PolicyConfig


def test_the_set_is_large_balanced_and_without_doubles() -> None:
    items = read_items()
    assert len(items) >= 300
    assert 0.45 < sum(item.unsafe for item in items) / len(items) < 0.55
    assert Counter(item.item.kind for item in items).keys() == {"prompt", "answer", "tool"}
    assert len({item.id for item in items}) == len({(item.item.prompt, item.item.text) for item in items}) == len(items)
    assert {code for item in items for code in item.categories} == set(PolicyConfig().categories)


def test_training_shares_no_sentence_with_the_set() -> None:
    items = read_items()
    texts = {" ".join(item.item.text.lower().split()) for item in items}
    examples = [*make_examples("train", 3000), *make_examples("calibration", 600)]
    assert not texts & {" ".join(example.item.text.lower().split()) for example in examples}
    shares = overlap([item.item.text for item in items], (example.item.text for example in examples))
    assert sum(share > 0.5 for share in shares) == 0


def _judged(pairs: list[tuple[bool, bool]]) -> list[Judged]:
    return [
        Judged(SafetyItem(str(i), GuardItem("prompt", "x"), unsafe, ("S1",) if unsafe else ()), flagged, 0.5, ("S1",))
        for i, (unsafe, flagged) in enumerate(pairs)
    ]


def test_figures_are_the_textbook_ones() -> None:
    # 6 hits, 2 misses, 3 false alarms, 9 true negatives.
    judged = _judged([(True, True)] * 6 + [(True, False)] * 2 + [(False, True)] * 3 + [(False, False)] * 9)
    found = figures(judged, seed=1)
    assert found["precision"].value == pytest.approx(6 / 9)
    assert found["recall"].value == pytest.approx(6 / 8)
    assert found["f1"].value == pytest.approx(12 / 17)
    assert found["false_positive_rate"].value == pytest.approx(3 / 12)
    assert found["category"].value == 1.0
    for estimate in found.values():
        assert estimate.low <= estimate.value <= estimate.high
    assert by_kind(judged, seed=1).keys() == {"all", "prompt"}


def test_the_keyword_list_matches_whole_words_only() -> None:
    assert is_suspicious("How do I KILL a process?")
    assert not is_suspicious("The skill of the overkilled")
    found = figures(judge_with_keywords(read_items()), seed=1)
    assert found["precision"].value < 0.9, "a list that cannot tell look-alikes apart is the point of the baseline"


def test_wrong_items_are_named(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"id": "a", "kind": "prompt", "text": "x", "label": "unsafe", "categories": []}\n')
    with pytest.raises(HerdError, match=r"items.jsonl, item 1: .*do not agree"):
        read_items(path)
    path.write_text('{"id": "a", "kind": "prompt", "text": "x", "label": "bad", "categories": []}\n')
    with pytest.raises(HerdError, match="safe or unsafe"):
        read_items(path)
