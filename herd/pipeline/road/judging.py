"""The guard, and the measurement of every model beside the trivial baselines and the keyword list."""

from collections.abc import Mapping
from pathlib import Path

from herd.evaluate.stage import Inputs as Material
from herd.evaluate.stage import evaluate
from herd.foundation.progress import Progress
from herd.guard.train import train_guard
from herd.pipeline.graph import Stage
from herd.pipeline.outside import interpreter
from herd.pipeline.recipe import Recipe

Inputs = Mapping[str, Path]


def judging_stages(recipe: Recipe) -> list[Stage]:
    """``guard``, raised from the smallest base model, and ``evaluation`` of all models."""
    smallest = next(iter(recipe.members))
    rounds = range(1, len(recipe.alignment.rounds) + 1)
    sampled = {f"samples-{number}-{name}": "dialogues.jsonl" for name in recipe.members for number in rounds}
    compared = {f"preferences-{number}-{name}": "preferences.jsonl" for name in recipe.members for number in rounds}
    dialogues = {"dialogues": "dialogues.jsonl", **sampled, **compared}
    models = [f"{kind}-{name}" for kind in ("base", "chat") for name in recipe.members]

    def guard(inputs: Inputs, out: Path, progress: Progress) -> None:
        train_guard(recipe.guard, inputs["base"], inputs["documents"], out, progress)

    def evaluation(inputs: Inputs, out: Path, progress: Progress) -> None:
        material = Material(
            tasks=inputs["tasks"],
            index=inputs["search"],
            corpus=inputs["documents"],
            guard=inputs["guard"],
            training=(inputs["documents"] / "documents", *(inputs[name] / file for name, file in dialogues.items())),
        )
        evaluate(recipe.evaluation, {model: inputs[model] for model in models}, material, out, progress)

    material = {name: name for name in ("tasks", "search", "documents", "guard", *dialogues, *models)}
    return [
        Stage("guard", guard, recipe.part("guard"), {"base": f"base-{smallest}", "documents": "documents"}),
        Stage("evaluation", evaluation, recipe.part("evaluation"), material, interpreter, whole_machine=True),
    ]
