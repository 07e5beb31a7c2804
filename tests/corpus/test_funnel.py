"""The funnel refuses sums that do not add up."""

from collections import Counter

import pytest

from herd.corpus.funnel import Funnel


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
