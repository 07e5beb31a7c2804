"""What lies at the top of a run belongs to the artifacts below it, whenever the run was killed."""

import json
import os
from pathlib import Path

import pytest

from herd.foundation.files import read_json
from herd.pipeline.recipe import load_recipe
from herd.pipeline.run import keep_memory, keep_plan
from herd.pipeline.standing import is_published

_STAGES = ["corpus", "evaluation"]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A run that was published after its stages."""
    for second, name in enumerate([*(f"{stage}/manifest.json" for stage in _STAGES), "results.json", "report.html"]):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("{}")
        os.utime(file, (second, second))
    return tmp_path


def test_a_published_run_is_known(output: Path) -> None:
    assert is_published(output, _STAGES)


@pytest.mark.parametrize("stage", _STAGES)
def test_a_run_that_was_killed_before_its_report_is_published_by_the_next(output: Path, stage: str) -> None:
    os.utime(output / stage / "manifest.json", (9, 9))
    assert not is_published(output, _STAGES)
    os.utime(output / "report.html", (10, 10))
    assert not is_published(output, _STAGES), "the figures are still those of before"
    os.utime(output / "results.json", (10, 10))
    assert is_published(output, _STAGES)


@pytest.mark.parametrize("name", ["results.json", "report.html"])
def test_what_somebody_removed_is_published_again(output: Path, name: str) -> None:
    (output / name).unlink()
    assert not is_published(output, _STAGES)


def test_a_plan_stays_with_its_recipe_and_goes_with_it(tmp_path: Path) -> None:
    recipe = load_recipe("mini", [f"output={tmp_path}"])
    keep_plan(recipe)
    first = (tmp_path / "plan.json").read_bytes()
    keep_plan(recipe)
    assert (tmp_path / "plan.json").read_bytes() == first
    tokens = 2 * recipe.members[recipe.flagship].tokens
    keep_plan(load_recipe("mini", [f"output={tmp_path}", f"members.{recipe.flagship}.tokens={tokens}"]))
    stage = f"initial-{recipe.flagship}"
    before, after = (plan["stages"][stage]["flops"] for plan in (json.loads(first), read_json(tmp_path / "plan.json")))
    assert after == pytest.approx(2 * before, rel=0.1)


def test_memory_is_the_largest_of_all_sessions(tmp_path: Path) -> None:
    for peak, kept in ((3_000, 3_000), (2_000, 3_000), (4_000, 4_000)):
        keep_memory(tmp_path, peak)
        assert json.loads((tmp_path / "memory.json").read_text()) == {"peak_bytes": kept}
