"""The recipe: one YAML file that says everything a run does, checked before anything runs.

``load_recipe("pocket")`` reads a recipe that ships with Herd, ``load_recipe("my.yaml", ["seed=3"])`` one's own with an
override.  Every part is the configuration of the stage that it names; defaults live there, beside their code.  Every
seed that the file leaves open grows from its own ``seed``, so that another one draws another corpus split, other tasks,
other training data, other needles.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, model_validator

from herd.align.rounds import AlignConfig
from herd.corpus.collect import PagesConfig
from herd.corpus.curate import CurateConfig
from herd.corpus.decontaminate import DecontaminateConfig
from herd.evaluate.gate import GateConfig
from herd.evaluate.stage import EvaluateConfig
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.seeds import derive
from herd.guard.train import GuardConfig
from herd.model.config import PRESETS, ModelConfig, pocket_config
from herd.pipeline.isoflop_runs import Scaling
from herd.pipeline.recipe_file import recipe_path
from herd.pipeline.yaml_file import load_yaml
from herd.tasks.build import TasksConfig
from herd.tokenizer.bpe import TokenizerConfig
from herd.tools.search import SearchConfig
from herd.train.echo import EchoConfig
from herd.train.shards import TokenizeConfig
from herd.train.stages import PretrainConfig
from herd.train.stream import Mix

Part = TypeVar("Part", bound=Config)
_SEEDS = 1 << 31  # what every library below takes


class Member(Config):
    """One size of the herd: its shape and what each stretch of its training changes against the shared settings."""

    shape: str = Field(description="a pocket size such as 3m, or a preset such as llama-3.1-8b")
    learning_rate: float = Field(gt=0)
    tokens: int = Field(gt=0, description="tokens of initial pre-training")
    long_tokens: int = Field(gt=0, description="tokens of each long-context step")
    anneal_tokens: int = Field(gt=0)


class LongContext(Config):
    """Steps of growing length, each trained again, up to ``attempts`` times, until its gate is passed.

    A gate that stays shut stops the run, as in the paper; ``if_shut: go on`` says so and goes on, for recipes whose
    smallest sizes may never pass.
    """

    lengths: tuple[int, ...] = Field(min_length=1)
    learning_rate_share: float = Field(default=0.3, gt=0, le=1, description="of the member's peak")
    rows: int = Field(default=4, gt=0)
    mix: Mix | None = Field(default=None, description="instead of the mix of initial pre-training")
    gate: GateConfig = GateConfig()
    attempts: int = Field(default=3, ge=1)
    if_shut: Literal["stop", "go on"] = Field(default="stop", description="what a gate does that stays shut")

    @model_validator(mode="after")
    def _grows(self) -> "LongContext":
        if list(self.lengths) != sorted(set(self.lengths)):
            raise ValueError("lengths must ascend")
        return self


class Recipe(Config):
    """A whole run; ``output`` is its directory, relative to where the command is given."""

    name: str
    output: Path
    seed: int = Field(default=7, description="the root of every seed that the recipe leaves open")
    pages: PagesConfig = PagesConfig()
    corpus: CurateConfig = CurateConfig()
    tasks: TasksConfig = TasksConfig()
    search: SearchConfig = SearchConfig()
    decontaminate: DecontaminateConfig = DecontaminateConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    tokens: TokenizeConfig = TokenizeConfig()
    echoes: EchoConfig = EchoConfig()
    members: dict[str, Member] = Field(min_length=1, description="the sizes of the herd by name, smallest first")
    flagship: str
    scaling: Scaling
    pretraining: PretrainConfig
    long_context: LongContext
    annealing: PretrainConfig
    alignment: AlignConfig = AlignConfig()
    guard: GuardConfig = GuardConfig()
    evaluation: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _shapes_are_possible(self) -> "Recipe":
        if self.flagship not in self.members:
            raise ValueError(f"flagship is {self.flagship}, which is none of the members {', '.join(self.members)}")
        shapes = [(f"members.{name}.shape", member.shape) for name, member in self.members.items()]
        for key, shape in [*shapes, *(("scaling.shapes", shape) for shape in self.scaling.shapes)]:
            try:
                self.shape(shape)
            except HerdError as error:
                raise HerdError(f"{key}: {error}") from None
        return self

    def shape(self, name: str) -> ModelConfig:
        """The network's shape by name, with this recipe's vocabulary; an unknown name is a ``HerdError``."""
        return PRESETS[name] if name in PRESETS else pocket_config(name, self.tokenizer.vocab_size)

    def part(self, *names: str) -> dict[str, Any]:
        """Parts of the recipe as JSON values: the configuration that a stage's fingerprint covers."""
        found = self.model_dump(mode="json", include=set(names))
        return found[names[0]] if len(names) == 1 else found


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe by the name of a shipped one or by its path; every mistake is a ``HerdError`` with its place."""
    recipe = load_yaml(Recipe, recipe_path(name), overrides)
    return grow_seeds(recipe, recipe.seed)


def grow_seeds(part: Part, root: int, *place: str) -> Part:
    """The part with every seed below it that was left open derived from ``root`` and the seed's place in the recipe."""
    changes: dict[str, Any] = {}
    for name in type(part).model_fields:
        value = getattr(part, name)
        if isinstance(value, Config):
            changes[name] = grow_seeds(value, root, *place, name)
        elif name == "seed" and place and name not in part.model_fields_set:
            changes[name] = derive(root, *place) % _SEEDS
    return part.model_copy(update=changes)
