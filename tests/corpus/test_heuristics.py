"""Each rule against a text it is made for and one that it must leave alone; n-gram shares against a plain count."""

import random

import pytest

from herd.corpus.heuristics import build_rules, judge
from herd.corpus.repeated_lines import remove_repeated_lines
from herd.corpus.rules import HeuristicsConfig, View
from herd.corpus.words import split_words

CONFIG = HeuristicsConfig()
PROSE = (
    "The river rises in the hills to the north of the town and runs for thirty miles before it meets the sea. "
    "Along its banks are mills that were built by weavers, most of which have been turned into houses since the war. "
    "In spring the water is high, and children are told not to play on the old stone bridge."
)


def _reason(text: str, domain: str = "general", config: HeuristicsConfig = CONFIG) -> str | None:
    return judge(View(text, domain, config), build_rules(config))[1]


def _without_repeated_lines(text: str) -> tuple[str, int]:
    return remove_repeated_lines(View(text, "general", CONFIG))


def test_plain_prose_passes_and_carries_every_value() -> None:
    rules = build_rules(CONFIG)
    values, reason = judge(View(PROSE, "general", CONFIG), rules)
    assert reason is None
    assert list(values) == [rule.name for rule in rules]
    assert values["words"] == len(split_words(PROSE))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Too short to be of any use to anybody.", "words"),
        (" ".join(word * 5 for word in PROSE.replace(".", "").split()) + " the of", "mean_word_length"),
        ("the and of " + " ".join(str(n * n) for n in range(50, 90)), "alphabetic"),
        ("the and of # ~ ^ | § ¤ # ~ ^ | ¬ # " * 12, "symbols"),
        ("\n".join(f"{line} and read on..." for line in PROSE.split(", ")) + "\nthe end...", "ellipses"),
        ("bicycle river mountain window garden paper silver copper " * 4, "stop_words"),
        (PROSE + " porn xxx porn sluts", "dirty_words"),
        ("\n".join([PROSE, PROSE]), "duplicate_lines"),
        (PROSE.replace(". ", " buy now cheap. ").replace(" ", " buy now ", 20), "top_2gram"),
    ],
)
def test_rejects(text: str, rule: str) -> None:
    assert str(_reason(text)).startswith(rule)


def test_one_quotation_is_no_dirty_page() -> None:
    assert _reason(f"{PROSE} She said that this was bullshit.") is None


CODE = "\n".join(f"def area_{name}(radius):\n    return 3.14159 * radius ** 2" for name in "abcdefghijklmnop")
MATH = "Let x be in R. Then " + ", ".join(f"∑ x_{n}^2 ≤ {n} · ‖x‖² + {n}" for n in range(12)) + " and for all n of it."


def test_code_and_mathematics_pass() -> None:
    assert _reason(CODE, "code") is None
    assert _reason(MATH, "math") is None


def test_tables_of_numbers_and_minified_code_do_not() -> None:
    table = "TABLE = [\n" + "\n".join(", ".join(f"0{n * k % 97:o}" for k in range(12)) for n in range(40)) + "\n]"
    assert str(_reason(table, "code")).startswith("letters")
    assert str(_reason("var a=1;function f(b){return b+a}" * 200, "code")).startswith(("line_length", "words"))


def _plain_duplicates(words: list[str], n: int) -> float:
    seen, covered = set(), set()
    for start in range(len(words) - n + 1):
        gram = tuple(words[start : start + n])
        if gram in seen:
            covered.update(range(start, start + n))
        seen.add(gram)
    return sum(len(words[place]) for place in covered) / sum(map(len, words))


def _plain_top(words: list[str], n: int) -> list[float]:
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    top = max(grams.count(gram) for gram in grams)
    shares = [min(top * sum(map(len, gram)) / sum(map(len, words)), 1) for gram in grams if grams.count(gram) == top]
    return shares if top > 1 else [0.0]


@pytest.mark.parametrize("seed", range(6))
def test_ngram_shares_equal_a_plain_count(seed: int) -> None:
    chance = random.Random(seed)
    words = chance.choices([f"w{n * n}" for n in range(6 + 12 * seed)], k=150)
    words += words[20:60]
    values, _ = judge(View(" ".join(words), "general", CONFIG), build_rules(CONFIG))
    for n in CONFIG.duplicate_ngrams:
        assert values[f"duplicate_{n}gram"] == pytest.approx(_plain_duplicates(words, n), abs=1e-6)
    for n in CONFIG.top_ngrams:
        assert any(values[f"top_{n}gram"] == pytest.approx(share, abs=1e-6) for share in _plain_top(words, n))


def test_technical_text_may_repeat_itself_and_prose_may_not() -> None:
    sentence = "It reads the given file and then it returns the number of bytes that it has found there today"
    assert str(_reason(f"{PROSE}\n" + "\n".join(f"{sentence} {n}" for n in range(12)))).startswith(
        ("top_", "duplicate_")
    )
    reference = "\n".join(f"os.read_{n}(path, *, mode='r')\n    {sentence}" for n in range(12))
    assert _reason(f"{PROSE}\n{reference}") is None


def test_a_log_is_cut_to_its_first_copies() -> None:
    log = [
        f"2024-05-01 12:00:{n:02d} error: could not connect to host number {n}, trying again in 5 seconds"
        for n in range(40)
    ]
    text, gone = _without_repeated_lines("\n".join([PROSE, *log, "The end of it."]))
    assert gone == 39
    assert text == "\n".join([PROSE, log[0], "The end of it."])


def test_what_returns_far_apart_and_what_has_no_words_stays() -> None:
    parameter = "    out : ndarray, a location into which the result is stored"
    functions = [
        f"f{n}(x)\n" + " ".join(f"{chr(97 + n % 26)}{k}x" for k in range(110)) + f"\n{parameter}" for n in range(20)
    ]
    matrix = ["[0. 1. 0. 1. 0. 1. 0. 1.]"] * 40
    text = "\n".join([*functions, *matrix])
    assert _without_repeated_lines(text) == (text, 0)
