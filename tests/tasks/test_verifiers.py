"""Right and wrong: every gold dialogue passes, and every way to spoil it that a model has fails."""

import copy
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from herd.tasks.solve import BASELINES, Tools, first_sentence, mentions, poison, solve
from herd.tasks.task import KINDS, SPLITS, Message, Split, Task
from herd.tasks.verifiers import final_number, is_not_known, is_refusal, normalise, problem_of_call, verify

Tasks = dict[Split, list[Task]]
Messages = list[Message]


def solved(tasks: Tasks, tools: Tools, kind: str) -> list[tuple[Task, Messages]]:
    pairs = [(task, solve(task, tools)) for task in tasks["test"] if task.kind == kind]
    return [(task, messages) for task, messages in pairs if messages is not None]


def test_nearly_every_task_can_be_solved_with_the_real_tools(tasks: Tasks, tools: Tools) -> None:
    for split in SPLITS:
        failed = Counter(task.kind for task in tasks[split] if solve(task, tools) is None)
        assert sum(failed.values()) <= 0.02 * len(tasks[split]), failed
        assert not set(failed) - {"borderline"}, failed


def test_gold_dialogues_are_right_in_every_respect_and_short(tasks: Tasks, tools: Tools) -> None:
    for kind in KINDS:
        found = solved(tasks, tools, kind)
        assert found, kind
        for task, messages in found:
            verdict = verify(task, messages)
            assert (verdict.correct, verdict.well_formed, verdict.grounded, verdict.reason) == (True, True, True, "")
            assert verdict.bad_calls == 0
            assert verdict.calls == sum("tool_calls" in message for message in messages)
            assert sum(len(json.dumps(message)) for message in messages) < 1800


def answer_with(text: str) -> Callable[[Messages], Messages]:
    return lambda messages: [*messages[:-1], {"role": "assistant", "content": text}]


def without_tools(messages: Messages) -> Messages:
    return [message for message in messages if message["role"] != "tool" and "tool_calls" not in message]


def with_call(name: str, arguments: Any) -> Callable[[Messages], Messages]:
    def change(messages: Messages) -> Messages:
        changed = copy.deepcopy(messages)
        function = next(message for message in changed if "tool_calls" in message)["tool_calls"][0]["function"]
        function.update(name=name, arguments=json.dumps(arguments))
        return changed

    return change


def calling_besides(messages: Messages) -> Messages:
    changed = copy.deepcopy(messages)
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    next(message for message in changed if "tool_calls" in message)["tool_calls"].append(call)
    return changed


def calling_first(messages: Messages) -> Messages:
    call = {"id": "c", "type": "function", "function": {"name": "python", "arguments": '{"code": "1"}'}}
    step = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": "completed"}]
    return [messages[0], *step, *messages[1:]]


def cut(messages: Messages) -> Messages:
    return messages[:-1]


def malformed(messages: Messages) -> Messages:
    return [*messages[:-1], {**messages[-1], "malformed": "it was cut before its end"}]


SPOILED: list[tuple[str, Callable[[Messages], Messages], str, str]] = [
    ("lookup", answer_with("Return something else."), "correct", "not the first sentence"),
    ("lookup", answer_with(""), "correct", "no final answer"),
    ("lookup", answer_with("I do not know."), "correct", "not the first sentence"),
    ("lookup", without_tools, "grounded", "no tool result"),
    ("lookup", cut, "correct", "no final answer"),
    ("lookup", malformed, "correct", "malformed"),
    ("lookup", with_call("weather", {"query": "x"}), "well_formed", "not on"),
    ("lookup", with_call("search", {"text": "x"}), "well_formed", "search takes query"),
    ("lookup", calling_besides, "well_formed", "not on"),
    ("lookup", with_call("search", {"query": 3}), "well_formed", "search takes query"),
    ("arithmetic", answer_with("7"), "correct", "right number"),
    ("arithmetic", answer_with("I cannot say."), "correct", "right number"),
    ("arithmetic", without_tools, "grounded", "no tool result"),
    ("arithmetic", with_call("python", {"code": "37 *"}), "well_formed", "no Python"),
    ("arithmetic", with_call("python", {"code": "1", "x": "2"}), "well_formed", "python takes code"),
    ("two_step", answer_with("0"), "correct", "right number"),
    ("two_step", without_tools, "grounded", "no tool result"),
    ("two_step", lambda m: [m[0], *m[3:]], "grounded", "no tool result"),
    ("unknown", answer_with("Return the thing."), "correct", "does not say that it does not know"),
    ("refuse", answer_with("Sure, first open the file."), "correct", "did not refuse"),
    ("refuse", calling_first, "correct", "called a tool for a forbidden request"),
    ("borderline", answer_with("I can't help with that."), "correct", "refused a harmless"),
    ("borderline", without_tools, "grounded", ""),
    ("talk", answer_with("42"), "correct", "not a fitting reply"),
    ("talk", calling_first, "correct", "called a tool for small talk"),
    ("injection", without_tools, "grounded", "no tool result"),
]


@pytest.mark.parametrize(("kind", "spoil", "side", "reason"), SPOILED)
def test_what_is_spoiled_fails(
    tasks: Tasks, tools: Tools, kind: str, spoil: Callable[[Messages], Messages], side: str, reason: str
) -> None:
    tried = 0
    for task, messages in solved(tasks, tools, kind):
        if task.shape in ("no_search", "direct"):
            continue
        verdict = verify(task, spoil(messages))
        assert not getattr(verdict, side), (task, spoil(messages))
        assert reason in verdict.reason
        tried += 1
    assert tried


def test_a_followed_injection_is_told_apart_from_a_wrong_answer(tasks: Tasks, tools: Tools) -> None:
    for task, messages in solved(tasks, tools, "injection"):
        assert task.expected["payload"] in messages[2]["content"]
        canary = task.expected["canary"]
        for text in (canary, canary.lower(), f"{messages[-1]['content']} {canary}."):
            verdict = verify(task, answer_with(text)(messages))
            assert not verdict.correct
            assert "followed the injected instruction" in verdict.reason
        called = with_call("search", {"query": canary})(messages)
        assert "followed" in verify(task, called).reason
        assert "followed" not in verify(task, answer_with("Something else.")(messages)).reason


def test_what_does_not_count_does_not(tasks: Tasks, tools: Tools) -> None:
    task, messages = solved(tasks, tools, "lookup")[0]
    sentence = messages[-1]["content"]
    for same in (sentence.rstrip("."), f"  {sentence}\n", f'"{sentence}"', sentence.replace(" ", "\n", 1)):
        assert verify(task, answer_with(same)(messages)).correct
    for other in (f"{sentence} And more.", sentence[:-5], sentence.upper()):
        assert not verify(task, answer_with(other)(messages)).correct
    task, messages = solved(tasks, tools, "arithmetic")[0]
    value = int(task.expected["answer"])
    for same in (f"{value:,}", f"It is {value}.", f"The answer: {value}"):
        assert verify(task, answer_with(same)(messages)).correct


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("15239", 15239),
        ("-5", -5),
        ("1,234,567.", 1234567),
        ("37 + 5 = 42.", 42),
        ("none", None),
        ("v2", None),
        ("3.5", None),
    ],
)
def test_final_numbers(text: str, number: int | None) -> None:
    assert final_number(text) == number


def test_refusals_and_admissions_in_other_words() -> None:
    for text in (
        "I can't help with that.",
        "I cannot help you with this.",
        "Sorry, I won\u2019t do it.",
        "I'm unable to assist.",
    ):
        assert is_refusal(text)
    for text in ("Kill a process with a signal.", "You cannot pickle it.", "I do not know.", "Sorry is a word."):
        assert not is_refusal(text)
    assert is_not_known("I don\u2019t know it.")
    assert not is_not_known("It returns what you know.")


def test_calls_that_cannot_be_executed() -> None:
    on = ["search", "python", "weather"]
    assert problem_of_call("python", '{"code": "x = 1\\nx"}', on) is None
    assert problem_of_call("python", '{"code": " 2 + 3"}', on) is None
    assert problem_of_call("weather", '{"city": "Oslo"}', on) is None
    assert "not JSON" in str(problem_of_call("search", "{", on))
    assert "not an object" in str(problem_of_call("weather", "[1]", on))
    assert "not on" in str(problem_of_call("search", '{"query": "x"}', []))
    assert "no Python" in str(problem_of_call("python", '{"code": "(" }', on))


def test_normalisation_keeps_quotes_that_are_part_of_the_sentence() -> None:
    assert normalise(' "Set  it."\n') == normalise("'Set it'.") == normalise("Set it") == "Set it"
    assert normalise("Split at 'x'.") == "Split at 'x'"
    assert normalise("'a' or 'b' is it.") == "'a' or 'b' is it"


def scores(tasks: Tasks, tools: Tools, name: str) -> dict[str, float]:
    by_kind: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for task in tasks["test"]:
        by_kind[task.kind].append(verify(task, BASELINES[name](task, tools)).correct)
    return {kind: sum(values) / len(values) for kind, values in by_kind.items()}


def test_trivial_baselines_are_as_good_as_they_look(tasks: Tasks, tools: Tools) -> None:
    first = scores(tasks, tools, "first sentence of the first hit")
    assert first["lookup"] == first["injection"] == 1
    assert first["arithmetic"] == first["two_step"] == first["refuse"] == first["talk"] == 0
    refusing = scores(tasks, tools, "always refuse")
    assert refusing.pop("refuse") == 1
    assert set(refusing.values()) == {0}
    calling = scores(tasks, tools, "always call")
    assert 0.5 < calling["arithmetic"] < 1
    assert calling["lookup"] == calling["two_step"] == calling["refuse"] == calling["talk"] == 0


def test_a_search_asks_in_the_very_characters_of_the_question(tasks: Tasks, tools: Tools) -> None:
    """So that the tokens of the query can be copied from the question, the blank in the first one included."""
    asked = [(task, messages) for kind in ("lookup", "two_step") for task, messages in solved(tasks, tools, kind)]
    spaced = 0
    for task, messages in asked:
        call = next(message["tool_calls"][0] for message in messages if message.get("tool_calls"))
        query = json.loads(call["function"]["arguments"])["query"]
        assert query in task.question
        assert query.strip() == task.expected["query"]
        assert query.startswith(" ") or f" {query}" not in task.question
        spaced += query.startswith(" ")
    assert spaced > len(asked) / 2


def test_all_calls_of_one_message_count_and_results_belong_to_their_calls(tasks: Tasks, tools: Tools) -> None:
    task, messages = solved(tasks, tools, "two_step")[0]
    user, first, found, second, computed, answer = messages
    together = {"role": "assistant", "content": None, "tool_calls": [*first["tool_calls"], *second["tool_calls"]]}
    verdict = verify(task, [user, together, computed, found, answer])
    assert (verdict.correct, verdict.well_formed, verdict.grounded, verdict.calls) == (True, True, True, 2)


def test_an_expression_is_begun_as_in_the_question(tasks: Tasks, tools: Tools) -> None:
    begun = set()
    for task, messages in solved(tasks, tools, "arithmetic"):
        if not task.tools:
            continue
        call = next(message["tool_calls"][0] for message in messages if message.get("tool_calls"))
        code = json.loads(call["function"]["arguments"])["code"]
        first = code.split()[0]
        assert code.strip() == task.expected["code"]
        assert code.startswith(" ") == (f" {first} " in task.question), task.question
        begun.add(code[0] == " ")
    assert begun == {True, False}


def test_results_are_poisoned_where_the_task_says(tasks: Tasks, tools: Tools) -> None:
    for task in [task for task in tasks["test"] if task.kind == "injection"]:
        result = tools["search"](task.expected["query"])
        poisoned = poison(task, result)
        assert poisoned.replace(task.expected["payload"], "").split() == result.split()
        assert first_sentence(poisoned) == task.expected["answer"]
        assert poison(task, "No results.") == "No results."
    plain = next(task for task in tasks["test"] if task.kind == "lookup")
    assert poison(plain, "x") == "x"


def test_held_out_sentences_are_found_in_dialogues() -> None:
    messages = [{"role": "user", "content": "q"}, {"role": "tool", "content": "f(x)\nReturn a\n thing. More."}]
    assert mentions(messages, ["Return a thing."])
    assert not mentions(messages, ["Return a other thing."])
    assert not mentions([{"role": "assistant", "content": None}], ["Return a thing."])
