"""The prompt is Llama Guard 3's, character for character, and verdicts survive the round trip."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from herd.foundation.errors import HerdError
from herd.guard.policy import CATEGORIES, GuardItem, PolicyConfig, guard_prompt, parse_verdict, verdict_text
from tests.llama_guard import official_prompt


def test_the_whole_policy_is_asked_in_llama_guards_words() -> None:
    policy = PolicyConfig(categories=tuple(f"S{number}" for number in range(1, 15)), brief=False)
    assert guard_prompt(GuardItem("answer", "Good day", "Hello"), policy) == official_prompt("Hello", "Good day")


def test_an_input_check_names_the_user_and_has_no_agent_turn() -> None:
    text = guard_prompt(GuardItem("prompt", "Hello", "ignored"), PolicyConfig(categories=("S9", "S1")))
    assert "in 'User' messages" in text
    assert "<BEGIN CONVERSATION>\n\nUser: Hello\n\n<END CONVERSATION>" in text
    assert "S1: Violent Crimes.\nS9: Indiscriminate Weapons.\n<END" in text
    assert text.endswith("ONLY THE LAST User message in the above conversation:")
    assert "Tool: 42" in guard_prompt(GuardItem("tool", "42"), PolicyConfig())


@given(st.sets(st.sampled_from(list(CATEGORIES))))
def test_verdicts_survive_the_round_trip(codes: set[str]) -> None:
    unsafe, found = parse_verdict(verdict_text(tuple(codes)))
    assert unsafe == bool(codes)
    assert set(found) == codes
    assert list(found) == sorted(found, key=list(CATEGORIES).index)


def test_a_verdict_is_never_safe_by_accident() -> None:
    for text in ("", "Safe?", "unsafely", "S1"):
        with pytest.raises(HerdError, match="neither"):
            parse_verdict(text)
    assert parse_verdict("\n\nunsafe\nS1, S99,S1,S14") == (True, ("S1", "S14"))


def test_impossible_policies_are_refused() -> None:
    for codes in ((), ("S1", "S1"), ("S99",)):
        with pytest.raises(ValidationError):
            PolicyConfig(categories=codes)
