"""Numbers in words, and which measures stand where."""

import pytest

from herd.report import tables
from herd.report.ledger import chapter_of
from herd.report.measures import ARENA, GUARD, OTHER, SAFETY, TEXT, TOOLS, describe


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0"), (7, "7"), (1234, "1,234"), (0.25, "0.25"), (3500.7, "3,501"), (12_345, "12.3k"), (3.3e6, "3.3M"),
     (2e9, "2.0G"), (None, "–")],
)  # fmt: skip
def test_numbers(value: float | None, words: str) -> None:
    assert tables.number(value) == words


def test_other_units() -> None:
    assert tables.scientific(5.44e13) == "5.4e13"
    assert tables.scientific(0.0) == "–"
    assert [tables.duration(seconds) for seconds in (0.04, 59.94, 60, 119.6, 1500)] == [
        "0.0 s", "59.9 s", "1 min 00 s", "2 min 00 s", "25 min 00 s"]  # fmt: skip
    assert tables.percent(0.123, 1) == "12.3%"
    assert tables.gigabytes(2.36e9) == "2.36 GB"


@pytest.mark.parametrize(
    ("name", "group", "unit", "detail"),
    [
        ("lookup", TOOLS, "share", False),
        ("lookup_unseen", TOOLS, "share", True),
        ("arithmetic_without_tools_unseen", TOOLS, "share", True),
        ("violation_rate_guarded", SAFETY, "share", True),
        ("tool_f1", GUARD, "number", True),
        ("all_recall", GUARD, "share", False),
        ("bits_per_byte_all", TEXT, "bits", False),
        ("bits_per_byte_code", TEXT, "bits", True),
        ("arena_rating", ARENA, "rating", False),
        ("anything_new", OTHER, "number", False),
    ],
)
def test_measures_know_their_group_and_unit(name: str, group: str, unit: str, detail: bool) -> None:
    found = describe(name)
    assert (found.group, found.unit, found.detail) == (group, unit, detail)


def row(value: float | None, n: int = 10, **more: str) -> dict:
    return {"value": value, "low": value, "high": value, "n": n, **more}


def test_a_table_puts_lengths_in_order_marks_the_best_and_numbers_its_notes() -> None:
    models = {
        "chat": {"needle_2048": row(0.9), "needle_256": row(1.0), "violation_rate": row(0.2, 50)},
        "base": {"needle_2048": row(0.7), "needle_256": row(1.0), "violation_rate": row(0.1, 40)},
        "always refuse": {"violation_rate": row(0.0, 50)},
        "none": {"violation_rate": row(None, 0, note="not measured: no such tasks")},
    }
    safety, context = tables.tables(models, {
        "aligned": ["chat"], "base": ["base"], "others": ["none"], tables.BASELINES: ["always refuse"]})  # fmt: skip
    titles = [f"finds the needle in a text of {length} tokens" for length in ("256", "2,048")]
    assert [line.title for line in context.lines] == titles
    assert [[cell.best for cell in line.cells] for line in context.lines] == [[False, False], [True, False]]
    assert context.models == ["chat", "base"]
    assert [cell.best for cell in safety.lines[0].cells] == [False, True, False, False]
    assert safety.lines[0].n == "40–50"
    assert safety.parts == [("aligned", 1), ("base", 1), ("others", 1), (tables.BASELINES, 1)]
    assert (safety.notes, safety.lines[0].cells[2].note) == (["not measured: no such tasks"], 1)


def test_stages_belong_to_chapters() -> None:
    found = [chapter_of(name) for name in ("echoes", "initial-3m", "chat-1-3m", "dialogues", "guard", "else")]
    assert found == ["data", "pre-training", "alignment", "alignment", "guard", "other"]
