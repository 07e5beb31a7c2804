"""Shipped recipes load, and a recipe that cannot be is refused before anything runs."""

from typing import Any

import pytest

from herd.foundation.errors import HerdError
from herd.pipeline.graph import check_order
from herd.pipeline.recipe import load_recipe
from herd.pipeline.stages import build
from herd.tools.sandbox import Sandbox


@pytest.mark.parametrize("name", ["pocket", "mini"])
def test_a_shipped_recipe_makes_a_graph_that_can_be_ordered(name: str) -> None:
    recipe = load_recipe(name)
    stages = build(recipe)
    check_order(stages)
    assert {f"chat-{member}" for member in recipe.members} <= {stage.name for stage in stages}


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("members.tiny.anneal_tokens=9000", {"base-tiny"}),
        ("members.tiny.long_tokens=9000", {"long-tiny-512", "long-tiny-1024"}),
        ("members.tiny.tokens=30000", {"initial-tiny", "scaling"}),
        ("scaling.processes=1", set()),
        ("output=elsewhere", set()),
        ("evaluation.seed=3", {"evaluation"}),
        ("guard.epochs=2", {"guard"}),
        (
            "long_context.gate.trials=9",
            {f"long-{name}-{length}" for name in ("tiny", "small") for length in (512, 1024)},
        ),
    ],
)
def test_a_key_is_part_of_the_stages_that_it_decides_and_of_no_other(override: str, stages: set[str]) -> None:
    before, after = (build(load_recipe("mini", overrides)) for overrides in ([], [override]))
    changed = {old.name for old, new in zip(before, after, strict=True) if old.config != new.config}
    assert changed == stages


def test_what_runs_code_is_made_again_where_a_sandbox_has_appeared(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = build(load_recipe("mini"))
    found = []
    for reason in (None, "the kernel forbids it"):
        monkeypatch.setattr(Sandbox, "unavailable", staticmethod(lambda backend="auto", reason=reason: reason))
        found.append({stage.name: stage.outside() for stage in stages if stage.name != "pages"})
    changed = {name for name, outside in found[0].items() if outside != found[1][name]}
    rounds = {f"{kind}-{n}-{name}" for kind in ("preferences", "samples") for n in (1, 2) for name in ("tiny", "small")}
    assert changed == {"dialogues", "evaluation"} | rounds


def test_contamination_is_looked_for_in_everything_that_was_trained_on() -> None:
    stages = {stage.name: stage for stage in build(load_recipe("mini"))}
    models = [stages[name] for name in stages if name.startswith(("sft-", "dpo-", "reward-"))]
    read = {name for model in models for name in model.inputs.values() if not name.startswith(("base-", "sft-"))}
    assert {"dialogues", "samples-2-small", "preferences-1-tiny"} <= read
    assert read <= set(stages["evaluation"].inputs.values())


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("flagship=9m", "flagship is 9m, which is none of the members 300k, 600k, 900k"),
        ("members.900k.shape=huge", "there is no pocket size 'huge'"),
        ("long_context.lengths=[2048, 1024]", "lengths must ascend"),
        ("members.900k.tokens=-1", r"members\.900k\.tokens: input should be greater than 0"),
        ("scaling.isoflop.budgets=[]", r"scaling\.isoflop\.budgets"),
        ("pretraining.bach=[]", r"pretraining\.bach: there is no such key; did you mean batch\?"),
    ],
)
def test_an_impossible_recipe_is_refused(override: str, sentence: str) -> None:
    with pytest.raises(HerdError, match=sentence):
        load_recipe("pocket", [override])


def seeds_in(value: Any, place: str = "") -> dict[str, int]:
    """Every seed in a stage's configuration, by its dotted place."""
    if not isinstance(value, dict):
        return {}
    own = {place: value["seed"]} if "seed" in value else {}
    return own | {
        key: seed for name, below in value.items() for key, seed in seeds_in(below, f"{place}.{name}").items()
    }


def test_every_seed_grows_from_that_of_the_recipe() -> None:
    found = [
        {
            f"{stage.name}{key}": seed
            for stage in build(load_recipe("mini", [override]))
            for key, seed in seeds_in(stage.config).items()
        }
        for override in ("seed=7", "seed=8", "seed=7")
    ]
    assert {"tasks", "tokens.echoes", "guard", "long-tiny-512.gate", "evaluation", "evaluation.suite"} <= set(found[0])
    assert not [place for place, seed in found[0].items() if found[1][place] == seed]
    assert found[0] == found[2]


def test_every_stretch_of_training_reads_the_data_in_an_order_of_its_own() -> None:
    stages = {stage.name: stage.config for stage in build(load_recipe("mini"))}
    names = ("initial-tiny", "initial-small", "base-tiny", "base-small")
    seeds = [stages[name]["seed"] for name in names]
    seeds += [stages[f"long-{name}-{length}"]["train"]["seed"] for name in ("tiny", "small") for length in (512, 1024)]
    assert len(set(seeds)) == 8


def test_a_seed_in_the_recipe_is_kept() -> None:
    recipe = load_recipe("mini", ["tasks.seed=3", "evaluation.suite.seed=0"])
    assert recipe.tasks.seed == 3
    assert recipe.evaluation.suite.seed == 0
    assert recipe.evaluation.seed == load_recipe("mini").evaluation.seed


def test_an_absent_recipe_is_named() -> None:
    with pytest.raises(HerdError, match="nowhere: there is no such file"):
        load_recipe("nowhere")


def test_stages_depend_on_their_own_part_of_the_recipe_only() -> None:
    before = {stage.name: stage.config for stage in build(load_recipe("pocket"))}
    after = {stage.name: stage.config for stage in build(load_recipe("pocket", ["guard.calibration=123"]))}
    assert [name for name in before if before[name] != after[name]] == ["guard"]
