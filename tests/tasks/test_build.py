"""The draw: nothing of the test is in the training, and the same seed gives the same bytes."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.foundation.seeds import random_from
from herd.tasks.build import TasksConfig, draw_tasks, material_of, split_acts
from herd.tasks.expressions import draw_expression, value_of
from herd.tasks.facts import sentence_key
from herd.tasks.makers import aside
from herd.tasks.phrasings import FRAMES
from herd.tasks.requests import ACTS
from herd.tasks.split import SplitConfig, draw_split, held_out, held_out_names, split_phrasings
from herd.tasks.task import KINDS, SPLITS, Split, Task

Tasks = dict[Split, list[Task]]


SLOTS = {"name": r"\S+", "letter": r"\w", "expression": r"(?:[\d+*() -]|plus|minus|times)+", "question": "(.+)"}


def pattern_of(frame: str) -> re.Pattern[str]:
    """What a frame can look like, typed sloppily or not."""
    escaped = re.escape(frame.lower().rstrip("?.! "))
    return re.compile(re.sub(r"\\\{(\w+)\\\}", lambda slot: SLOTS[slot[1]], escaped) + r"[?.! ]*")


def frame_of(task: Task, frames: list[str], around: list[str]) -> bool:
    """Whether the question could have been made from one of ``frames``, between words of ``around`` or not."""
    forms = {task.question.lower()}
    for _ in range(2):
        forms |= {found[1] for form in forms for frame in around if (found := pattern_of(frame).fullmatch(form))}
    return any(pattern_of(frame).fullmatch(form) for form in forms for frame in frames)


def test_the_same_seed_gives_the_same_bytes(config: TasksConfig, drawn: Path, passages: Path, tmp_path: Path) -> None:
    draw_tasks(config, passages, tmp_path, Progress.silent())
    names = sorted(path.name for path in drawn.iterdir())
    expected = [
        "calibration.jsonl",
        "evaluation_texts.jsonl",
        "held_out.jsonl",
        "stats.json",
        "test.jsonl",
        "train.jsonl",
    ]
    assert names == sorted(path.name for path in tmp_path.iterdir()) == expected
    assert all((tmp_path / name).read_bytes() == (drawn / name).read_bytes() for name in names)


def test_another_seed_holds_other_names_out(passages: Path) -> None:
    first, second = (
        set(held_out_names(SplitConfig(seed=seed, test_sentences=60, calibration_sentences=30), passages))
        for seed in (1, 2)
    )
    assert len(first & second) < len(first) / 2


def test_every_kind_is_there(config: TasksConfig, tasks: Tasks) -> None:
    for split in SPLITS:
        counts = Counter(task.kind for task in tasks[split])
        assert set(counts) == set(KINDS)
        assert len({task.id for task in tasks[split]}) == len(tasks[split])
        assert all(task.split == split and task.id.startswith(split) for task in tasks[split])
    assert Counter(task.kind for task in tasks["train"])["lookup"] == config.train.lookup


def test_no_question_is_in_two_splits(tasks: Tasks) -> None:
    seen: dict[tuple, str] = {}
    for split in SPLITS:
        for task in tasks[split]:
            key = (task.question.lower().rstrip("?.! "), tuple(task.tools), task.expected.get("payload"))
            assert key not in seen, (seen.get(key), task.id)
            seen[key] = task.id


def test_names_sentences_and_numbers_of_the_test_are_nowhere_else(
    config: TasksConfig, tasks: Tasks, passages: Path
) -> None:
    parts = draw_split(config, passages)
    sentences = {split: {sentence_key(fact.sentence) for fact in parts.facts[split]} for split in SPLITS}
    names = {split: {fact.name for fact in parts.facts[split]} for split in SPLITS}
    for one in SPLITS:
        for other in SPLITS:
            if one != other:
                assert not sentences[one] & sentences[other]
                assert not names[one] & names[other]
                assert not set(parts.numbers[one]) & set(parts.numbers[other])
        for task in tasks[one]:
            if "answer" in task.expected and "name" in task.expected:
                assert task.expected["name"] in names[one]
            if task.kind == "arithmetic":
                used = {int(number) for number in re.findall(r"\d{2,}", task.expected["code"])}
                assert used
                assert used <= set(parts.numbers[one])


def test_unseen_wordings_are_never_trained_on(config: TasksConfig, tasks: Tasks) -> None:
    frames = {name: split_phrasings(config, name, list(values)) for name, values in FRAMES.items()}
    assert all(seen and unseen and not set(seen) & set(unseen) for seen, unseen in frames.values())
    used_by = {"lookup": "lookup", "injection": "lookup", "arithmetic": "arithmetic"}
    checked, framed = 0, []
    for task in [task for split in SPLITS for task in tasks[split]]:
        name = task.shape if task.kind == "two_step" else used_by.get(task.kind)
        if name is None:
            continue
        side = int(task.phrasing == "unseen")
        around = frames["openers"][side] + frames["closers"][side]
        assert not frame_of(task, frames[name][1 - side], around), task
        if task.split == "train":
            framed.append(bool(frame_of(task, frames[name][side], around)))
        else:
            assert frame_of(task, frames[name][side], around), task
        checked += task.phrasing == "unseen"
    assert checked > 50
    assert 0.4 < sum(framed) / len(framed) < 0.8, "a part of training has crossed wordings or words that mean nothing"
    assert all(task.phrasing == "seen" for split in ("train", "calibration") for task in tasks[split])
    of_test = Counter(task.phrasing for task in tasks["test"] if task.kind != "talk")
    assert abs(of_test["seen"] - of_test["unseen"]) < 0.2 * sum(of_test.values())


def test_words_that_mean_nothing_name_and_ask_nothing(config: TasksConfig, passages: Path) -> None:
    material = material_of(config, draw_split(config, passages), "train", "seen")
    assert all(word.isalpha() for word in material.words)
    assert not material_of(config, draw_split(config, passages), "test", "seen").training
    for number in range(40):
        said = aside(material, random.Random(number))
        assert re.fullmatch(r"[A-Z][A-Za-z]*( [A-Za-z]+)+[.?:]", said), said


def test_requests_of_the_test_are_never_trained_on(config: TasksConfig, tasks: Tasks) -> None:
    for name, acts in ACTS.items():
        parts = split_acts(config, name, acts)
        assert sorted(act for split in SPLITS for act in parts[split]) == sorted(acts)
        assert all(parts[split] for split in SPLITS)
    for task in tasks["test"]:
        if task.kind == "refuse":
            category = task.expected["category"]
            trained = split_acts(config, category, ACTS[category])["train"]
            assert not any(act.lower() in task.question.lower() for act in trained if len(act) > 12), task


def test_names_that_nobody_documents_are_documented_nowhere(config: TasksConfig, tasks: Tasks, passages: Path) -> None:
    known = draw_split(config, passages).known
    made_up = [task.expected["query"] for split in SPLITS for task in tasks[split] if task.shape == "no_page"]
    assert len(made_up) > 50
    assert not {name.lower() for name in made_up} & known
    assert "json.dumps" in known
    assert "dumps" in known


def test_what_is_held_out_is_listed(config: TasksConfig, drawn: Path, tasks: Tasks, passages: Path) -> None:
    listed = [json.loads(line) for line in (drawn / "held_out.jsonl").read_text().splitlines()]
    assert listed == held_out(config, passages)
    assert {row["split"] for row in listed} == {"test", "calibration"}
    assert all(row["sentence"].split()[0] in row["text"] and row["document_id"] for row in listed)
    texts = [json.loads(line) for line in (drawn / "evaluation_texts.jsonl").read_text().splitlines()]
    said = {row["text"] for row in texts}
    assert {task.question for split in ("test", "calibration") for task in tasks[split]} <= said
    assert {row["sentence"] for row in listed} <= said
    assert not {task.question for task in tasks["train"]} & said


def test_prompts_are_short(config: TasksConfig, tasks: Tasks) -> None:
    for task in [task for split in SPLITS for task in tasks[split]]:
        assert [message["role"] for message in task.messages] == ["user"]
        assert len(task.question) < 160
        assert len(str(task.expected.get("answer", ""))) <= config.longest_sentence


def test_a_system_message_comes_first(config: TasksConfig, passages: Path, tmp_path: Path) -> None:
    draw_tasks(config.model_copy(update={"system": "Be brief."}), passages, tmp_path, Progress.silent())
    first = Task.from_json(json.loads((tmp_path / "test.jsonl").read_text().splitlines()[0]))
    assert first.messages[0] == {"role": "system", "content": "Be brief."}
    assert first.question == first.messages[1]["content"]


def test_mistakes_are_named(passages: Path) -> None:
    with pytest.raises(HerdError, match="lower them or bring more pages"):
        draw_split(SplitConfig(test_sentences=5000), passages)
    with pytest.raises(HerdError, match="task x-1"):
        Task.from_json({"id": "x-1", "kind": "lookup"})


@given(st.integers(0, 10**6), st.lists(st.integers(10, 999), min_size=1, max_size=5))
def test_expressions_have_the_value_that_python_gives(seed: int, numbers: list[int]) -> None:
    drawn = draw_expression(numbers, random_from(seed))
    assert drawn.value == eval(drawn.code)
    as_signs = drawn.text.replace("plus", "+").replace("minus", "-").replace("times", "*")
    assert as_signs == drawn.code
    assert {int(number) for number in re.findall(r"\d{2,}", drawn.code)} <= set(numbers)


def test_only_arithmetic_is_evaluated() -> None:
    for code in ("__import__('os')", "1 if 2 else 3", "9**9", "f(1)"):
        with pytest.raises((ValueError, TypeError, SyntaxError)):
            value_of(code) if code != "9**9" else value_of("2 ^ 3")
