"""The published rules: values by hand, limits as printed, and the three uses of a set."""

import pytest

from herd.corpus.heuristics import build_rules, judge
from herd.corpus.rules import HeuristicsConfig, View

PROSE = (
    "The river rises in the hills to the north of the town, and it runs for thirty miles before it meets the sea. "
    "Along its banks are mills that were built by weavers, most of which have been turned into houses since the war.\n"
    "In spring the water is high, and children are told that they should not play on the old stone bridge."
)
ALL = HeuristicsConfig(published={"gopher": "measure", "c4": "measure", "fineweb": "measure"})


def values(text: str, domain: str = "general") -> dict[str, float]:
    return judge(View(text, domain, ALL), build_rules(ALL))[0]


def reason(text: str, *sets: str, domain: str = "general") -> str | None:
    config = HeuristicsConfig(minimum_words=0, published=dict.fromkeys(sets, "reject"))
    view = View(text, domain, config)
    rules = [rule for rule in build_rules(config) if rule.name.startswith(sets)]
    return judge(view, rules)[1]


def test_plain_prose_obeys_all_three_and_carries_every_value() -> None:
    assert reason(PROSE, "gopher", "c4", "fineweb") is None
    found = values(PROSE)
    assert sum(name.startswith(("gopher_", "c4_", "fineweb_")) for name in found) == 21 + 4 + 3


def test_values_by_hand() -> None:
    text = "# one two three...\n- four five\n- four five\n\nlorem ipsum {x}\n\nlorem ipsum {x}"
    found = values(text)
    assert found["gopher_words"] == 16
    assert found["gopher_hashes"] == 1 / 16
    assert found["gopher_ellipses"] == 1 / 16
    assert found["gopher_bullet_lines"] == 2 / 5
    assert found["gopher_ellipsis_lines"] == 1 / 5
    assert found["gopher_alphabetic"] == 13 / 16
    assert found["gopher_duplicate_lines"] == 2 / 5
    assert found["gopher_duplicate_line_characters"] == pytest.approx((11 + 15) / (18 + 22 + 30))
    assert found["gopher_duplicate_paragraphs"] == 1 / 3
    assert found["c4_lorem_ipsum"] == found["c4_curly_brackets"] == 2
    assert found["fineweb_punctuated_lines"] == 1 / 5
    assert found["fineweb_short_lines"] == 1
    assert values(PROSE)["c4_sentences"] == 3
    assert values(PROSE.replace("the old", "your Cookie Policy and the old"))["c4_sentences"] == 2


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("The river rises in the hills to the north of the town.", "gopher_words below 50"),
        (PROSE.replace(" ", " # ", 20), "gopher_hashes above 0.1"),
        (PROSE + "\n" + "\n".join(f"- item{number}" for number in range(70)), "gopher_bullet_lines above 0.9"),
        (" ".join(word for word in PROSE.split() if len(word) > 4) * 3, "gopher_small_words below 2"),
        (PROSE.replace(".", ","), "c4_sentences below 3"),
        (PROSE + " Lorem ipsum.", "c4_lorem_ipsum above 0"),
        (PROSE + " function() { return; }.", "c4_curly_brackets above 0"),
        ("\n".join(PROSE.replace(".", ",").split(", ")), "fineweb_punctuated_lines below 0.12"),
        ("\n".join(f"{word}." for word in PROSE.split()), "fineweb"),
    ],
)  # fmt: skip
def test_pages_that_they_reject(text: str, rule: str) -> None:
    assert str(reason(text, rule.partition("_")[0])).startswith(rule)


def test_measuring_rejects_nothing_and_neither_does_code() -> None:
    poor = "{ Lorem ipsum\n" * 60
    measured, why = judge(View(poor, "general", ALL), build_rules(ALL))
    assert measured["c4_lorem_ipsum"] == 60
    assert not str(why).startswith(("gopher", "c4", "fineweb"))
    assert reason(poor, "gopher", "c4", "fineweb", domain="code") is None


def test_without_being_asked_for_there_is_none() -> None:
    assert not [rule.name for rule in build_rules(HeuristicsConfig()) if rule.name.startswith(("gopher", "c4", "fine"))]
