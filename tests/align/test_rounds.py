"""The steps of alignment form a graph in which everything read is made before, and every size goes the whole way."""

from herd.align.rounds import AlignConfig, RoundConfig, alignment_steps
from herd.align.sft import SftConfig

GIVEN = {"tasks", "search", "base-1m", "base-3m"}


def test_every_step_reads_what_came_before_and_no_step_is_made_twice() -> None:
    made = set(GIVEN)
    for step in alignment_steps(AlignConfig(), ["1m", "3m"], seed=7):
        assert set(step.inputs.values()) <= made, step.name
        assert step.name not in made
        made.add(step.name)
    assert {"chat-1m", "chat-3m", "chat-1-3m", "dpo-2-1m"} <= made


def test_models_are_finetuned_and_judged_from_the_base_and_compared_with_another() -> None:
    steps = {step.name: step for step in alignment_steps(AlignConfig(), ["1m", "3m"], seed=7)}
    for name in ("bootstrap-3m", "sft-1-3m", "sft-2-3m", "reward-1-3m", "reward-2-3m"):
        assert steps[name].inputs["base"] == "base-3m"
    assert steps["preferences-1-3m"].inputs["second"] == "bootstrap-1m"
    assert steps["preferences-1-1m"].inputs["second"] == "bootstrap-3m"
    assert steps["preferences-2-3m"].inputs["first"] == "chat-1-3m"
    assert steps["dpo-2-3m"].inputs["preferences"] == "preferences-2-3m"
    assert {"preferences-1-3m", "preferences-2-3m"} <= set(steps["reward-2-3m"].inputs.values())
    assert {"dialogues", "samples-1-3m", "samples-2-3m"} <= set(steps["sft-2-3m"].inputs.values())


def test_a_members_rate_and_seed_are_its_own() -> None:
    config = AlignConfig(learning_rates={"3m": 5e-4}, rounds=(RoundConfig(),))
    steps = {step.name: step for step in alignment_steps(config, ["1m", "3m"], seed=7)}
    rates = {name: steps[f"sft-1-{name}"].config["optimizer"]["learning_rate"] for name in ("1m", "3m")}
    assert rates["3m"] == 5e-4
    assert rates["1m"] == SftConfig().optimizer.learning_rate
    assert steps["sft-1-1m"].config["seed"] != steps["sft-1-3m"].config["seed"]
    other = AlignConfig(bootstrap=SftConfig(seed=8))
    changed = {step.name: step for step in alignment_steps(other, ["1m", "3m"], seed=7)}
    assert changed["bootstrap-1m"].config["seed"] != steps["bootstrap-1m"].config["seed"]
