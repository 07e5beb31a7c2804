"""The whole stage on a miniature run: its files, its intervals, and that scores do not depend on batch or order."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from herd.evaluate.stage import EvaluateConfig, Inputs, evaluate, training_texts
from herd.evaluate.suite import SuiteConfig, chat_runner, measures, plain_runner, run_suite, solved_examples
from herd.foundation.errors import HerdError
from herd.foundation.files import write_jsonl
from herd.foundation.progress import Progress
from herd.guard.classifier import Guard, GuardSettings
from herd.guard.policy import PolicyConfig
from herd.infer.engine import Engine, EngineConfig
from herd.tasks.solve import solve
from herd.tasks.task import Task, read_tasks
from herd.tools.registry import Tool, ToolSet, search_tool
from herd.tools.search import SearchIndex
from tests.evaluate.conftest import Bench

_SUITE = SuiteConfig(per_kind=4, per_kind_largest=4, max_tokens=24, max_calls=2)


def _fake_free_tools(bench: Bench) -> ToolSet:
    """The real search and a calculator: the sandbox has its own tests."""
    schema = {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}
    calculator = Tool("python", "Computes.", schema, lambda code: f"completed\n[stdout]{eval(code, {})}[/stdout]")
    return ToolSet([search_tool(SearchIndex(bench.index)), calculator])


@pytest.fixture(scope="session")
def tasks(bench: Bench) -> list[Task]:
    return list(read_tasks(bench.tasks, "test"))


@pytest.mark.parametrize("plain", [False, True])
def test_scores_do_not_depend_on_batch_or_order(bench: Bench, tasks: list[Task], plain: bool) -> None:
    tools = _fake_free_tools(bench)
    examples = solved_examples(list(read_tasks(bench.tasks, "train")), tools, seed=1)[:1]
    chosen = tasks[::3]
    found = []
    for batch, order in ((1, 1), (3, -1), (8, 1)):
        engine = Engine.load(bench.models["chat-tiny"], EngineConfig(batch=batch))
        if plain:
            runner = plain_runner(engine, tools, examples, _SUITE)
        else:
            runner = chat_runner(engine, tools, _SUITE, Progress.silent())
        results = run_suite(chosen[::order], runner)
        found.append({(r.task.id, r.measure): r.messages for r in results})
    assert found[0] == found[1] == found[2]


def test_gold_dialogues_score_full_marks(bench: Bench, tasks: list[Task]) -> None:
    tools = _fake_free_tools(bench)
    gold = {task.id: solve(task, tools.texts()) for task in tasks}
    solvable = [task for task in tasks if gold[task.id] is not None]
    results = run_suite(solvable, lambda asked: [gold[t.id] if t.tools else solve(t, {}) or t.messages for t in asked])
    figures = measures([r for r in results if not r.measure.endswith("without_tools")], {})
    for name in ("well_formed_calls", "lookup", "arithmetic", "two_step", "unknown", "talk"):
        assert figures[name].value == 1.0, name
    for name in ("violation_rate", "false_refusal_rate", "injection_success"):
        assert figures[name].value == 0.0, name
    assert measures(results, {"python": "no sandbox"})["arithmetic"] == "no sandbox"


def test_a_followed_injection_and_a_refusal_of_the_harmless_are_counted(bench: Bench, tasks: list[Task]) -> None:
    tools = _fake_free_tools(bench)
    injected = [task for task in tasks if task.kind == "injection"]
    harmless = [task for task in tasks if task.kind == "borderline"]

    def obey(asked: list[Task]) -> list[list[dict]]:
        dialogues = []
        for task in asked:
            if task.kind == "borderline":
                dialogues.append([*task.messages, {"role": "assistant", "content": "I can't help with that."}])
                continue
            before = solve(task, tools.texts()) or []
            dialogues.append([*before[:-1], {"role": "assistant", "content": f"Fine: {task.expected['canary']}"}])
        return dialogues

    figures = measures(run_suite([*injected, *harmless], obey), {})
    assert figures["injection_success"].value == figures["false_refusal_rate"].value == 1.0


def _config() -> EvaluateConfig:
    return EvaluateConfig(
        suite=_SUITE, documents_per_domain=4, characters=200, needle_lengths=(128, 256), needle_depths=(0.0, 1.0),
        needle_trials=1, needle_trials_largest=1,
    )  # fmt: skip


def test_a_model_with_the_name_of_other_figures_is_refused(bench: Bench, tmp_path: Path) -> None:
    models = {"guard": bench.models["chat-tiny"]}
    with pytest.raises(HerdError, match="a model cannot be called guard"):
        evaluate(_config(), models, Inputs(bench.tasks, bench.index, bench.corpus), tmp_path, Progress.silent())


def test_training_data_that_cannot_be_read_is_refused_before_anything_is_measured(bench: Bench, tmp_path: Path) -> None:
    inputs = Inputs(bench.tasks, bench.index, bench.corpus, training=(bench.tasks,))
    with pytest.raises(HerdError, match="holds no Parquet files to look for leaks in"):
        evaluate(_config(), bench.models, inputs, tmp_path, Progress.silent())
    assert not any(tmp_path.iterdir())
    assert list(training_texts([bench.corpus])) == list(training_texts([bench.corpus / "documents"]))
    pq.write_table(pa.table({"content": ["words"]}), tmp_path / "0.parquet")
    with pytest.raises(HerdError, match="has no column text"):
        list(training_texts([tmp_path]))


def test_a_needle_outside_the_haystack_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        EvaluateConfig(needle_depths=(0.5, 1.5))


@pytest.fixture(scope="session")
def evaluated(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scores")
    inputs = Inputs(bench.tasks, bench.index, bench.corpus, training=(bench.corpus / "documents",))
    evaluate(_config(), bench.models, inputs, out, Progress.silent())
    return out


def test_every_figure_has_its_interval(evaluated: Path, bench: Bench) -> None:
    models = json.loads((evaluated / "results.json").read_text())["models"]
    assert set(bench.models) < set(models)
    for rows in models.values():
        for measure, figures in rows.items():
            assert {"value", "low", "high", "n", "prompts", "seed"} <= set(figures), measure
            if figures["value"] is None:
                assert figures["note"].startswith("not measured: ")
            else:
                assert figures["low"] <= figures["value"] <= figures["high"], measure
    chat = models["chat-tiny"]
    assert {"lookup", "lookup_unseen", "violation_rate", "bits_per_byte_all", "needle_256", "arena_rating"} <= set(chat)
    for measure in ("lookup", "lookup_unseen", "violation_rate", "false_refusal_rate_unseen", "injection_success"):
        assert "contamination" in chat[measure], measure
    assert models["always refuse"]["violation_rate"]["value"] == 0.0
    assert models["always refuse"]["false_refusal_rate"]["value"] == 1.0
    assert models["first sentence of the first hit"]["lookup"]["value"] > 0.5


def test_items_hold_what_the_figures_count(evaluated: Path) -> None:
    items = [json.loads(line) for line in (evaluated / "items.jsonl").read_text().splitlines()]
    models = json.loads((evaluated / "results.json").read_text())["models"]
    lookups = [item for item in items if item["model"] == "always call" and item["measure"] == "lookup"]
    assert len(lookups) == models["always call"]["lookup"]["n"]
    assert all(item["messages"] for item in lookups)


def test_the_flops_of_all_models_are_counted(evaluated: Path) -> None:
    parts = [json.loads(path.read_text()) for path in (evaluated / "parts").iterdir()]
    assert sum(part["flops"] > 0 for part in parts) == 2  # the baselines compute nothing
    assert json.loads((evaluated / "stats.json").read_text())["flops"] == sum(part["flops"] for part in parts)


def test_the_flops_of_a_part_are_the_same_after_whatever_was_measured_before(bench: Bench, tmp_path: Path) -> None:
    """A killed evaluation goes on in another process, whose guard has judged nothing yet."""
    guard = Guard(Engine.load(bench.models["chat-tiny"]), GuardSettings.even(PolicyConfig(categories=("S1",)), 0.5))
    shutil.copytree(bench.models["chat-tiny"], tmp_path / "guard")
    guard.save_settings(tmp_path / "guard")
    inputs = Inputs(bench.tasks, bench.index, bench.corpus, guard=tmp_path / "guard")
    models = dict.fromkeys(("chat-tiny", "chat-again"), bench.models["chat-tiny"])
    evaluate(_config().model_copy(update={"baselines": False}), models, inputs, tmp_path, Progress.silent())
    first, second = (json.loads((tmp_path / "parts" / f"{name}.json").read_text())["flops"] for name in models)
    assert first == second > 0


def test_leaks_are_looked_for_in_whatever_form_a_file_has(tmp_path: Path) -> None:
    function = {"name": "search", "arguments": {"query": "an object, as some write it"}}
    rows = [
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"function": function}]}]},
        {"prompt": ["no message"], "chosen": [{"role": "assistant", "content": "said"}]},
        {"prompt": "plain words", "completion": "more"},
        ["a", "list"],
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    found = [text.strip() for text in training_texts([tmp_path / "rows.jsonl"])]
    assert found[:2] == ["an object, as some write it", "said"]
    assert "plain words" in found[2]
    assert "list" in found[3]


def test_a_finished_part_is_not_measured_again(evaluated: Path, bench: Bench) -> None:
    before = (evaluated / "results.json").read_text()
    inputs = Inputs(bench.tasks, bench.index, bench.corpus, training=(bench.corpus / "documents",))
    stamps = {path: path.stat().st_mtime_ns for path in (evaluated / "parts").iterdir()}
    evaluate(_config(), bench.models, inputs, evaluated, Progress.silent())
    assert {path: path.stat().st_mtime_ns for path in (evaluated / "parts").iterdir()} == stamps
    assert (evaluated / "results.json").read_text() == before


def test_nothing_to_evaluate_is_said(bench: Bench, tmp_path: Path) -> None:
    inputs = Inputs(bench.tasks, bench.index, bench.corpus)
    with pytest.raises(HerdError, match="no models"):
        evaluate(_config(), {}, inputs, tmp_path, Progress.silent())
    with pytest.raises(HerdError, match="heldout"):
        evaluate(_config(), bench.models, replace(inputs, corpus=tmp_path), tmp_path, Progress.silent())
