"""The funnel refuses sums that do not add up."""

from collections import Counter

import pytest

from herd.corpus.funnel import Funnel, OddConfig
from herd.foundation.errors import HerdError


def test_steps_are_listed_with_their_reasons() -> None:
    funnel = Funnel(10, 1000)
    funnel.step("one", 7, 800, Counter({"short": 1, "long": 2}), seconds=1.5)
    funnel.step("two", 7, 790, Counter(), cut=3)
    assert [step["documents"] for step in funnel.steps] == [10, 7, 7]
    assert list(funnel.steps[1]["removed"]) == ["long", "short"]
    assert funnel.steps[1]["seconds"] == 1.5
    assert funnel.steps[2]["cut"] == 3


@pytest.mark.parametrize("kept", [6, 9])
def test_a_lost_or_doubled_document_raises(kept: int) -> None:
    with pytest.raises(RuntimeError, match="do not add up"):
        Funnel(10, 1000).step("one", kept, 800, Counter({"short": 2}))


def test_a_step_that_takes_nearly_everything_ends_the_run() -> None:
    config = OddConfig(most_removed=0.9, least_documents=100, steps={"language": 1.0})
    removed = Counter({"short": 90, "long": 1})
    Funnel(100, 1000, config).step("heuristics", 10, 90, Counter({"short": 90}))
    Funnel(100, 1000, config).step("language", 9, 90, removed)
    Funnel(99, 1000, config).step("heuristics", 1, 90, Counter({"short": 98}))
    said = r'step heuristics removes 91.0% of 100 documents, 90 of them for: short; .*--set "odd.steps={heuristics: 1}"'
    with pytest.raises(HerdError, match=said):
        Funnel(100, 1000, config).step("heuristics", 9, 90, removed)


def test_pages_under_way_are_looked_at_once_there_are_enough() -> None:
    funnel = Funnel(10_000, 1000, OddConfig(most_removed=0.9, least_documents=100))
    funnel.early({"extract": 1}, {"extract": Counter({"no main text": 498})})
    with pytest.raises(HerdError, match=r"step extract removes 99.8% of 500 documents"):
        funnel.early({"extract": 1}, {"extract": Counter({"no main text": 499})})
