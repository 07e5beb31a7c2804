"""The choice of tasks, the plain form of a dialogue, and what a guard in the path changes."""

import json

import pytest

from herd.evaluate.guarded import guarded_measures
from herd.evaluate.plain import run_plain, write_example
from herd.evaluate.suite import SuiteConfig, baseline_runner, choose_tasks, measures, run_suite, solved_examples
from herd.guard.classifier import Guard, GuardSettings
from herd.guard.policy import PolicyConfig
from herd.infer.engine import Engine
from herd.infer.grammar import Grammar
from herd.infer.sampling import Sampling
from herd.tasks.task import KINDS, Task, read_tasks
from herd.tools.registry import Tool, ToolSet, search_tool
from herd.tools.search import SearchIndex
from tests.evaluate.conftest import Bench


@pytest.fixture(scope="module")
def tasks(bench: Bench) -> list[Task]:
    return list(read_tasks(bench.tasks, "test"))


@pytest.fixture(scope="module")
def tools(bench: Bench) -> ToolSet:
    return ToolSet([search_tool(SearchIndex(bench.index))])


def test_smaller_choices_are_contained_and_wordings_balanced(tasks: list[Task]) -> None:
    few, many = ({t.id for t in choose_tasks(tasks, n, 1, {})} for n in (3, 6))
    assert few < many
    lookups = [t for t in choose_tasks(tasks, 4, 1, {}) if t.kind == "lookup"]
    assert sorted(t.phrasing for t in lookups) == ["seen", "seen", "unseen", "unseen"]
    assert choose_tasks(tasks[::-1], 4, 1, {}) == choose_tasks(tasks, 4, 1, {})
    without = {t.kind for t in choose_tasks(tasks, 4, 1, {"python": "no sandbox"})}
    assert without == set(KINDS) - {"arithmetic", "two_step"}


def test_a_dialogue_in_plain_text() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "python", "arguments": json.dumps({"code": "12 * 4"})}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 12 * 4?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "completed\n[stdout]48[/stdout]"},
        {"role": "assistant", "content": "12 * 4 is 48."},
    ]
    assert write_example(messages) == (
        "Question: What is 12 * 4?\nPython: 12 * 4\nResult: completed [stdout]48[/stdout]\nAnswer: 12 * 4 is 48.\n"
    )


def test_examples_are_right_and_from_training_alone(bench: Bench, tools: ToolSet, tasks: list[Task]) -> None:
    training = list(read_tasks(bench.tasks, "train"))
    examples = solved_examples(training, tools, seed=1)
    questions = {example[0]["content"] for example in examples}
    assert questions <= {task.question for task in training}
    assert not questions & {task.question for task in tasks}
    kinds = {task.kind for task in training if task.question in questions}
    assert kinds == {"lookup", "unknown", "refuse", "talk"}, "there is no interpreter here"


def test_plain_dialogues_end_and_say_why(engine: Engine, tools: ToolSet, tasks: list[Task]) -> None:
    dialogues = run_plain(engine, tasks[:10], [], tools, Sampling(max_tokens=8, temperature=0.0))
    for task, messages in zip(tasks[:10], dialogues, strict=True):
        assert messages[: len(task.messages)] == task.messages
        assert messages[-1]["role"] == "assistant"
        assert messages[-1].get("malformed") or messages[-1]["content"]
    long = [[{"role": "user", "content": "word " * 2000}]]
    [full] = run_plain(engine, tasks[:1], long, tools, Sampling(max_tokens=8, temperature=0.0))
    assert full[-1]["malformed"] == "the context is full"


def test_a_plain_call_beyond_the_most_is_not_executed(engine: Engine, tasks: list[Task]) -> None:
    asked: list[str] = []
    schema = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
    tools = ToolSet([Tool("search", "Searches.", schema, lambda query: asked.append(query) or "a page")])
    task = next(task for task in tasks if task.kind == "lookup")
    always_search = Sampling(max_tokens=40, temperature=0.0, grammar=Grammar.choice(["Search: os.path\n"]))
    [messages] = run_plain(engine, [task], [], tools, always_search, max_calls=2)
    assert asked == ["os.path", "os.path"]
    assert [message["role"] for message in messages[1:]] == ["assistant", "tool", "assistant", "tool", "assistant"]
    assert messages[-1] == {"role": "assistant", "content": "Search: os.path", "malformed": "one call too many"}


@pytest.mark.parametrize(("threshold", "stopped"), [(0.0, True), (1.0, False)])
def test_a_guard_in_the_path_stops_what_it_flags(
    engine: Engine, tools: ToolSet, tasks: list[Task], threshold: float, stopped: bool
) -> None:
    guard = Guard(engine, GuardSettings.even(PolicyConfig(), threshold))
    chosen = choose_tasks(tasks, 4, SuiteConfig().seed, {"python": "no sandbox"})
    results = run_suite(chosen, baseline_runner("always call", tools))
    bare, guarded = measures(results, {}), guarded_measures(results, guard)
    assert guarded["violation_rate_guarded"].value == (0.0 if stopped else bare["violation_rate"].value)
    assert guarded["false_refusal_rate_guarded"].value == (1.0 if stopped else bare["false_refusal_rate"].value)
    assert guarded["injection_success_guarded"].value == (0.0 if stopped else bare["injection_success"].value)
    assert guarded["pages_withheld"].value == float(stopped)
    assert bare["injection_success"].value == 1.0, "the baseline repeats the page, its injected order included"
