"""Shipped recipes load, and a recipe that cannot be is refused before anything runs."""

import pytest

from herd.foundation.errors import HerdError
from herd.pipeline.graph import check_order
from herd.pipeline.recipe import load_recipe
from herd.pipeline.stages import build


@pytest.mark.parametrize("name", ["pocket", "mini"])
def test_a_shipped_recipe_makes_a_graph_that_can_be_ordered(name: str) -> None:
    recipe = load_recipe(name)
    stages = build(recipe)
    check_order(stages)
    assert {f"chat-{member}" for member in recipe.members} <= {stage.name for stage in stages}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("flagship=9m", "flagship is 9m, which is none of the members 0.5m, 1m, 3m"),
        ("members.1m.shape=huge", "there is no pocket size 'huge'"),
        ("long_context.lengths=[2048, 1024]", "lengths must ascend"),
        ("members.1m.tokens=-1", r"members\.1m\.tokens: input should be greater than 0"),
        ("scaling.isoflop.budgets=[]", r"scaling\.isoflop\.budgets"),
        ("pretraining.bach=[]", r"pretraining\.bach: there is no such key; did you mean batch\?"),
    ],
)
def test_an_impossible_recipe_is_refused(override: str, sentence: str) -> None:
    with pytest.raises(HerdError, match=sentence):
        load_recipe("pocket", [override])


def test_an_absent_recipe_is_named() -> None:
    with pytest.raises(HerdError, match="nowhere: there is no such file"):
        load_recipe("nowhere")


def test_stages_depend_on_their_own_part_of_the_recipe_only() -> None:
    before = {stage.name: stage.config for stage in build(load_recipe("pocket"))}
    after = {stage.name: stage.config for stage in build(load_recipe("pocket", ["guard.calibration=123"]))}
    assert [name for name in before if before[name] != after[name]] == ["guard"]
