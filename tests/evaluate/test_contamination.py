"""Planted leaks in every disguise are found; what was not planted is not."""

import json
import random
from pathlib import Path

import pytest

from herd.evaluate.contamination import NGRAM, estimate_gain, overlap, words
from herd.evaluate.stage import training_texts
from herd.foundation.files import write_jsonl

_RNG = random.Random(5)
_NAMES = ["".join(_RNG.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(4000)]


def _sentence(length: int) -> str:
    return " ".join(_RNG.choices(_NAMES, k=length))


def _naive(items: list[str], training: list[str]) -> list[float]:
    """The definition, word for word, with Python sets."""
    grams = {tuple(ws[i : i + NGRAM]) for ws in map(words, training) for i in range(len(ws) - NGRAM + 1)}
    shares = []
    for ws in map(words, items):
        covered = set()
        for i in range(len(ws) - NGRAM + 1):
            if tuple(ws[i : i + NGRAM]) in grams:
                covered.update(range(i, i + NGRAM))
        shares.append(len(covered) / len(ws) if ws else 0.0)
    return shares


def test_a_leak_in_a_dialogue_is_found_wherever_it_stands(tmp_path: Path) -> None:
    held = [_sentence(NGRAM) for _ in range(4)]
    call = {"function": {"name": "python", "arguments": json.dumps({"code": f'len("{held[2]}")'})}}
    messages = [
        {"role": "user", "content": f"Say\n{held[0]}"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": f"name(x)\n{held[1]}\n\tmore"},
    ]
    write_jsonl(tmp_path / "dialogues.jsonl", [{"messages": messages}])
    assert overlap(held, training_texts([tmp_path / "dialogues.jsonl"])) == [1.0, 1.0, 1.0, 0.0]


def test_both_answers_of_a_comparison_are_searched(tmp_path: Path) -> None:
    asked, edited, chosen, rejected = (_sentence(12) for _ in range(4))
    answers = {"edited": edited, "chosen": chosen, "rejected": rejected}
    rows = {name: [{"role": "assistant", "content": f"{text}\nMore."}] for name, text in answers.items()}
    write_jsonl(tmp_path / "preferences.jsonl", [{"prompt": [{"role": "user", "content": asked}], **rows}])
    write_jsonl(tmp_path / "unedited.jsonl", [{"prompt": [], **rows, "edited": None}])
    assert overlap([asked, *answers.values()], training_texts([tmp_path / "preferences.jsonl"])) == [1.0] * 4
    assert overlap([edited, chosen, rejected], training_texts([tmp_path / "unedited.jsonl"])) == [0.0, 1.0, 1.0]


def test_overlap_is_the_definition() -> None:
    training = [_sentence(200) for _ in range(40)]
    items = [_sentence(30) for _ in range(10)]
    items += [" ".join(text.split()[20:45]) + " " + _sentence(15) for text in training[:10]]
    items += [" ".join(text.split()[5 : 5 + NGRAM - 1]) for text in training[:3]] + ["", "two words"]
    assert overlap(items, training) == pytest.approx(_naive(items, training))
    assert overlap([], training) == []


@pytest.mark.parametrize(
    "disguise",
    [
        str.upper,
        lambda text: text.replace(" ", "\n   "),
        lambda text: "<p>" + text.replace(" ", " <b>", 3).replace(" ", "</b> ", 1) + "</p>",
        lambda text: text.replace(" ", ", ", 4) + "!",
        lambda text: "&quot;" + text.replace(" ", "&nbsp;", 2) + "&quot;",
    ],
)
def test_disguised_leaks_are_all_recalled(disguise) -> None:  # noqa: ANN001
    items = [_sentence(24) for _ in range(50)]
    training = [_sentence(100) + " " + disguise(item) + " " + _sentence(100) for item in items]
    assert min(overlap(items, training)) == 1.0
    assert max(overlap(items, [_sentence(300) for _ in range(50)])) == 0.0


def test_gain_is_found_where_leaked_items_are_easier() -> None:
    shares = [0.9] * 60 + [0.0] * 140
    scores = [1.0] * 60 + [1.0] * 70 + [0.0] * 70
    found = estimate_gain(shares, scores, seed=1)
    assert found.share == pytest.approx(0.3)
    assert found.gain.value == pytest.approx(130 / 200 - 70 / 140)
    assert found.gain.low > 0
    even = estimate_gain(shares, [1.0, 0.0] * 100, seed=1)
    assert (even.threshold, even.gain.value) == (1.0, 0.0)
