"""The mix: target shares where the sources reach, the rest in proportion and said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from herd.corpus.domains import DOMAINS
from herd.corpus.mix import MixConfig, plan_mix


def test_the_papers_mix_where_all_is_there() -> None:
    mix = plan_mix({"general": 400, "math": 200, "code": 200, "multilingual": 200}, MixConfig())
    assert mix.shares == pytest.approx({"general": 0.5, "math": 0.25, "code": 0.17, "multilingual": 0.08})
    assert mix.weights["general"] == pytest.approx(1.25)
    assert mix.notes == []


def test_a_missing_domain_gives_its_share_in_proportion() -> None:
    mix = plan_mix({"general": 500, "math": 300, "code": 200}, MixConfig())
    assert mix.shares == pytest.approx({"general": 0.5 / 0.92, "math": 0.25 / 0.92, "code": 0.17 / 0.92})
    assert "no multilingual documents" in mix.notes[0]


def test_a_tiny_domain_is_repeated_so_often_and_no_more() -> None:
    mix = plan_mix({"general": 790, "math": 10, "code": 200}, MixConfig(maximum_repeat=8))
    assert mix.shares["math"] == pytest.approx(0.08)
    assert mix.weights["math"] == pytest.approx(8)
    assert mix.shares["general"] / mix.shares["code"] == pytest.approx(50 / 17)
    assert any("math reaches 8.0%" in note for note in mix.notes)


@given(st.dictionaries(st.sampled_from(DOMAINS), st.integers(1, 10**9), min_size=1), st.floats(1.0, 50.0))
def test_shares_add_up_and_keep_their_caps(sizes: dict[str, int], repeat: float) -> None:
    mix = plan_mix(sizes, MixConfig(maximum_repeat=repeat))
    assert sum(mix.shares.values()) == pytest.approx(1)
    assert set(mix.shares) == set(sizes)
    for domain, size in sizes.items():
        natural = size / sum(sizes.values())
        assert mix.shares[domain] <= natural * repeat + 1e-9
        assert mix.weights[domain] * natural == pytest.approx(mix.shares[domain])


def test_unknown_domains_and_empty_shares_are_refused() -> None:
    with pytest.raises(ValidationError, match="unknown domain 'maths'"):
        MixConfig(shares={"maths": 1.0})
    with pytest.raises(ValidationError, match="more than zero"):
        MixConfig(shares={"math": 0.0})


def test_only_unwanted_domains_are_taken_as_they_are() -> None:
    mix = plan_mix({"code": 5.0}, MixConfig(shares={"math": 1.0}))
    assert mix.weights == {"code": 1.0}
    assert len(mix.notes) == 2
