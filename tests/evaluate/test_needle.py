"""Needle prompts have their exact length, depth and answer; the arena and the results file keep their shape."""

import json
import random
from pathlib import Path

import pytest

from herd.evaluate import arena
from herd.evaluate.gate import GateConfig, GateFigures, needles, take_gate, verdict
from herd.evaluate.needle import NeedleConfig, grid, measure, prompts, recall
from herd.evaluate.results import Results, not_measured, row
from herd.evaluate.statistics import Estimate, wilson
from herd.foundation.errors import HerdError
from herd.infer.engine import Engine
from herd.tasks.reading import long_text
from tests.evaluate.conftest import Bench

_TEXTS = ["One line of text.\nAnother line of text, a little longer than the first.\n" * 20, "Short.\n"]
_GRID = NeedleConfig(lengths=(160, 300), depths=(0.0, 0.5, 1.0), trials=2)


@pytest.mark.parametrize("chat", [False, True])
def test_prompts_fill_their_length_and_hold_one_needle(engine: Engine, chat: bool) -> None:
    made = prompts(engine, _TEXTS, _GRID, chat)
    assert len({prompt.id for prompt in made}) == len(made) == 12
    for prompt in made:
        text = engine.tokenizer.decode(prompt.ids)
        assert len(prompt.ids) == prompt.length - 24
        assert prompt.ids.count(engine.tokenizer.bos_id) == 1
        assert text.count(prompt.number) == 1
        end = text.index("\n\nWhat is") if chat else text.rindex("\n\n")
        hay = text[:end].rpartition("<|end_header_id|>")[2].removeprefix("<|begin_of_text|>")
        needle = f" is {prompt.number}."
        start = hay.index("The secret number")
        place = start / (len(hay) - (hay.index(needle) + len(needle) - start))
        assert abs(place - prompt.depth) < 0.25, (place, prompt.depth)
        if chat:
            assert text.endswith("<|start_header_id|>assistant<|end_header_id|>\n\n")
        else:
            assert text.endswith(" is")
            before, _, after = text.partition(f" {prompt.number}.")
            assert before.rpartition("\n")[2] == after.rpartition("\n")[2] or "<|begin" in before


def test_results_count_by_length_and_depth(engine: Engine) -> None:
    results = measure(engine, _TEXTS, _GRID)
    assert results == measure(engine, _TEXTS, _GRID)
    assert recall(results, 160).n == 6
    assert recall(results).n == 12
    cells = grid(results)
    assert set(cells) == {160, 300}
    assert all(cell.n == 2 for row_of in cells.values() for cell in row_of.values())
    assert sum(r.correct for r in results) == round(recall(results).value * 12)


def test_a_context_without_room_is_refused(engine: Engine) -> None:
    with pytest.raises(HerdError, match="40 tokens has no room"):
        prompts(engine, _TEXTS, NeedleConfig(lengths=(40,)), False)
    with pytest.raises(HerdError, match="there is none"):
        prompts(engine, [], _GRID, False)


def test_the_practice_shares_nothing_with_the_measurement(engine: Engine) -> None:
    measured = prompts(engine, _TEXTS, _GRID, False)
    hidden = [engine.tokenizer.decode(prompt.ids).rpartition("\n\n")[2] for prompt in measured]
    for number in range(40):
        text, question, answer = long_text(_TEXTS, 2000, random.Random(number))
        whole = f"{text}\n\n{question}"
        assert text.count(answer) == 1
        assert answer.removeprefix("The ").partition(" is ")[0] in question
        assert not any(sentence in whole for sentence in hidden)
        assert not any(prompt.number in whole for prompt in measured)


def test_the_gates_needles_are_not_those_of_the_measurement(engine: Engine) -> None:
    gate = prompts(engine, _TEXTS, needles(GateConfig(), 160), False)
    final = prompts(engine, _TEXTS, NeedleConfig(lengths=(160,), trials=6), False)
    assert len(gate) == len(final) == 30
    assert sum(one.number == other.number for one, other in zip(gate, final, strict=True)) <= 2


def test_the_gate_says_what_is_missing(bench: Bench) -> None:
    config = GateConfig(documents_per_domain=4, trials=1, depths=(0.5,))
    figures = take_gate(config, bench.models["base-tiny"], bench.corpus, 200)
    assert (figures.length, figures.needle.n) == (200, 1)
    assert GateFigures.from_json(json.loads(json.dumps(figures.to_json()))) == figures
    assert figures.flops > 0
    longer = take_gate(config, bench.models["base-tiny"], bench.corpus, 4096)
    assert (longer.short_bits_per_byte, longer.needle.value) == (figures.short_bits_per_byte, 0.0)
    assert "bits per byte" in (verdict(config, figures.short_bits_per_byte.value / 2, figures) or "")
    passed = GateFigures(200, Estimate(2.0, 1.9, 2.1, 10), wilson(19, 20))
    assert verdict(config, 2.0, passed) is None
    failed = GateFigures(200, passed.short_bits_per_byte, wilson(10, 20))
    assert "found in 50% of contexts of 200 tokens, where 90%" in (verdict(config, 2.0, failed) or "")


def _rows(*grades: int) -> list[dict[str, object]]:
    return [{"id": str(i), "measure": "lookup", "grade": grade} for i, grade in enumerate(grades)]


def test_the_arena_pairs_all_models_on_common_prompts() -> None:
    games = arena.play({"a": _rows(2, 2, 0), "b": _rows(1, 2), "c": _rows(0, 2, 2)})
    assert len(games) == 6
    assert {(g.prompt, g.first, g.second): g.result for g in games} == {
        ("0/lookup", "a", "b"): 1.0, ("0/lookup", "a", "c"): 1.0, ("0/lookup", "b", "c"): 1.0,
        ("1/lookup", "a", "b"): 0.5, ("1/lookup", "a", "c"): 0.5, ("1/lookup", "b", "c"): 0.5,
    }  # fmt: skip
    assert {"first": "a", "second": "b", "wins": 1, "ties": 1, "losses": 0} in arena.table(games)
    assert arena.play({}) == []


def test_results_survive_the_file_and_refuse_doubles(tmp_path: Path) -> None:
    results = Results()
    results.add("chat-3m", "lookup", row(wilson(3, 4), "tasks-1", 7))
    results.add("chat-3m", "arithmetic", not_measured("no sandbox", "tasks-1", 7))
    with pytest.raises(ValueError, match="twice"):
        results.add("chat-3m", "lookup", {})
    results.write(tmp_path)
    read = Results.read(tmp_path).models["chat-3m"]
    assert read == results.models["chat-3m"]
    assert read["arithmetic"]["note"] == "not measured: no sandbox"
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(HerdError, match="models"):
        Results.read(tmp_path)
