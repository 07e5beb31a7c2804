"""Joins the chapters of the road into one graph: ``build(recipe)``."""

from herd.align.rounds import Step, alignment_steps
from herd.pipeline.graph import Stage
from herd.pipeline.outside import interpreter
from herd.pipeline.recipe import Recipe
from herd.pipeline.road.data import data_stages
from herd.pipeline.road.judging import judging_stages
from herd.pipeline.road.pretraining import pretraining_stages
from herd.pipeline.road.scaling import scaling_stages


def build(recipe: Recipe) -> list[Stage]:
    """Every stage of ``recipe``, each after those that it needs."""
    steps = alignment_steps(recipe.alignment, list(recipe.members), recipe.seed)
    return [
        *data_stages(recipe),
        *scaling_stages(recipe),
        *pretraining_stages(recipe),
        *(_aligning(step) for step in steps),
        *judging_stages(recipe),
    ]


def _aligning(step: Step) -> Stage:
    """A step of alignment as a stage; those that search also run code where they can."""
    outside = interpreter if "search" in step.inputs else dict
    return Stage(step.name, step.run, step.config, step.inputs, outside)
