"""Comparisons follow the verifier's levels, and the figures about the reward model are what they say."""

from pathlib import Path

import pytest

from herd.align.comparisons import encode_rankings, read_comparisons
from herd.align.conversations import Answer, choose_tasks
from herd.align.decontamination import Decontaminator
from herd.align.examples import encode_dialogue
from herd.align.preferences import compare, leak_in, strength_of
from herd.align.sampling import divide, judge_figures
from herd.foundation.errors import HerdError
from herd.foundation.files import write_jsonl
from herd.model.loss import IGNORE
from herd.tasks.task import Task
from herd.tasks.verifiers import Verdict
from herd.tokenizer.chat import ChatFormat

from .conftest import answer, result

TASK = Task("t", "lookup", "name", "train", "seen", [{"role": "user", "content": "?"}], ["search"], {})
GOLD = [answer("gold")]


def at_level(level: int, text: str = "x") -> Answer:
    verdict = Verdict(level >= 2, level >= 1, level == 3, "")
    return Answer([{**answer(text), **({"malformed": "cut"} if level == 0 else {})}], verdict)


@pytest.mark.parametrize("level", range(4))
def test_levels(level: int) -> None:
    assert at_level(level).level == level


@pytest.mark.parametrize(
    ("better", "worse", "strength"),
    [
        (3, 0, "significantly better"),
        (3, 1, "significantly better"),
        (3, 2, "better"),
        (2, 1, "better"),
        (1, 0, "slightly better"),
        (1, 1, "marginally better"),
    ],
)
def test_strength(better: int, worse: int, strength: str) -> None:
    assert strength_of(at_level(better), at_level(worse)) == strength


def test_right_against_wrong_needs_no_edit_and_order_does_not_matter() -> None:
    for pair in ((at_level(3, "good"), at_level(1, "bad")), (at_level(1, "bad"), at_level(3, "good"))):
        row = compare(TASK, *pair, GOLD)
        assert row is not None
        assert row["edited"] is None
        assert row["chosen"][0]["content"] == "good"
        assert row["rejected"][0]["content"] == "bad"


def test_two_poor_answers_are_edited_and_two_right_ones_teach_nothing() -> None:
    row = compare(TASK, at_level(1), at_level(0), GOLD)
    assert row is not None
    assert row["edited"] == GOLD
    assert "malformed" not in row["rejected"][0]
    assert compare(TASK, at_level(3), at_level(3), GOLD) is None
    assert compare(TASK, at_level(1), at_level(1), None) is None


@pytest.mark.parametrize(
    "wrote",
    ['<|python_tag|>search.call(query="a<|eom_id|>', "<|python_tag|>37 *", "Hello<|eom_id|>", "Hel<|begin_of_text|>"],
)
def test_an_unreadable_answer_is_compared_as_the_model_wrote_it(chat: ChatFormat, tmp_path: Path, wrote: str) -> None:
    ids = chat.tokenizer.encode(wrote, allow_special=True)
    said = Answer([{**chat.parse(ids).message, "malformed": "no", "written": ids}], Verdict(False, False, False, ""))
    write_jsonl(tmp_path / "preferences.jsonl", [compare(TASK, at_level(3), said, GOLD)])
    [tree], _ = encode_rankings(chat, read_comparisons([tmp_path]), 1024, pairs_only=True)
    rejected = tree.branches[1]
    assert rejected.ids == ids
    assert rejected.trained == [True] * len(ids)
    ends = int(wrote.endswith("<|eom_id|>"))
    assert rejected.content == [True] * (len(ids) - ends) + [False] * ends
    example = encode_dialogue(chat, {"messages": [*TASK.messages, *said.clean], "tools": TASK.tools})
    assert [token for token in example.targets if token != IGNORE] == ids


def test_what_is_no_token_cannot_have_been_written(chat: ChatFormat) -> None:
    with pytest.raises(HerdError, match="message 1: what was written is no list of token ids below 512"):
        encode_dialogue(chat, {"messages": [*TASK.messages, {**answer("x"), "written": [1, 512]}]})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"chosen": []}, "comparison 2, chosen: it must be a list of messages"),
        ({"prompt": "How?"}, "comparison 2, prompt: it must be a list of messages"),
        ({"rejected": ["no"]}, "comparison 2, rejected: it must be a list of messages"),
        ({"edited": "better so"}, "comparison 2, edited: it must be a list of messages"),
        ({"rejected": TASK.messages}, "comparison 2, rejected: an answer begins with a message of the assistant"),
        ({"rejected": [{**answer("x"), "written": []}]}, "comparison 2: a response holds no token"),
        ({"chosen": [{"role": "assistant", "content": 7}]}, "comparison 2: message 1"),
        ({"strength": "much"}, "comparison 2: the strength 'much' is none of"),
        ({"tools": "search"}, "comparison 2: its tools are no list"),
    ],
)
def test_a_comparison_that_cannot_be_read_is_named_by_file_and_place(
    chat: ChatFormat, tmp_path: Path, change: dict, problem: str
) -> None:
    row = {"prompt": TASK.messages, "chosen": [answer("yes")], "rejected": [answer("no")], "strength": "better"}
    write_jsonl(tmp_path / "preferences.jsonl", [row, row | change])
    with pytest.raises(HerdError, match=f"^{tmp_path}/preferences.jsonl, {problem}"):
        encode_rankings(chat, read_comparisons([tmp_path]), 1024)


LEAKS = Decontaminator([{"role": "answer", "text": "Return the secret of the test."}])


def test_sampled_answers_that_hold_the_evaluation_are_left_out_whatever_the_verifier_says() -> None:
    def row(level: int, text: str) -> dict:
        return {"messages": [*TASK.messages, result(text), answer("fine")], "level": level, "why": "no" * (level < 3)}

    rows = [row(3, "a page"), row(3, "f()\nReturn the secret of the test. And more."), row(1, "a page")]
    kept, rejected = divide(rows, True, LEAKS)
    assert kept == rows[:1]
    assert [found["why"] for found in rejected] == ["a reference answer of the evaluation", "no"]
    assert divide(rows, False, LEAKS)[0] == [rows[0], rows[2]]


@pytest.mark.parametrize("level", [3, 1])
def test_a_comparison_with_the_evaluation_in_either_answer_is_found(level: int) -> None:
    leaking = at_level(level, "Return the secret of the test.")
    row = compare(TASK, leaking, at_level(2, "good"), None)
    assert row is not None
    assert leak_in(row, LEAKS) == "a reference answer of the evaluation"
    clean = compare(TASK, at_level(level, "bad"), at_level(2, "good"), None)
    assert clean is not None
    assert leak_in(clean, LEAKS) is None


def test_figures_about_the_reward_model() -> None:
    answers = [
        [at_level(3), at_level(1), at_level(3)],
        [at_level(1), at_level(0), at_level(1)],
        [at_level(1), at_level(3), at_level(0)],
    ]
    rewards = [[0.5, 1.0, 2.0], [1.0, 2.0, 3.0], [0.9, 0.1, 0.0]]
    figures = judge_figures(answers, rewards)
    assert figures["right_mean"] == pytest.approx(3 / 9)
    assert figures["right_any"] == pytest.approx(2 / 3)
    assert figures["right_best"] == pytest.approx(1 / 3)
    assert figures["pairs"] == 4
    assert figures["pair_accuracy"] == pytest.approx(2 / 4)


def test_prompts_are_drawn_evenly_over_the_kinds() -> None:
    kinds = ["lookup"] * 50 + ["talk"] * 5 + ["refuse"] * 50
    tasks = [Task(str(number), kind, "", "train", "seen", [], [], {}) for number, kind in enumerate(kinds)]
    chosen = choose_tasks(tasks, 30, 7)
    assert len({task.id for task in chosen}) == len(chosen) == 25
    assert chosen == choose_tasks(tasks, 30, 7)
