"""The plan names every stage that the graph has, and counts training as the paper does."""

import re

import pytest

from herd.pipeline.planning import describe_plan, plan_stages
from herd.pipeline.recipe import load_recipe
from herd.pipeline.stages import build
from herd.plan.estimate import total


@pytest.mark.parametrize("name", ["pocket", "mini"])
def test_every_stage_is_planned_and_nothing_else(name: str) -> None:
    recipe = load_recipe(name)
    assert set(plan_stages(recipe, 2e11)) == {stage.name for stage in build(recipe)}


def test_initial_training_costs_about_six_flops_per_parameter_and_token() -> None:
    recipe = load_recipe("pocket")
    member = recipe.members[recipe.flagship]
    planned = plan_stages(recipe, 2e11)[f"initial-{recipe.flagship}"]
    plain = 6 * recipe.shape(member.shape).parameters * member.tokens
    assert plain < planned.flops < 1.2 * plain  # attention comes on top


def test_the_pocket_recipe_keeps_to_its_budget() -> None:
    assert total(list(plan_stages(load_recipe("pocket"), 2.8e11).values())).flops < 2.2e14


def test_the_plan_can_be_read() -> None:
    text = describe_plan(load_recipe("mini"))
    assert "initial-tiny" in text
    assert "GFLOP/s" in text
    assert re.search(r"^pages +0 +(\d+ h \d\d min|\d+ min \d\d s|\d+ s) +[\d.]+ GB$", text, re.MULTILINE)
