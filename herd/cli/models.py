"""The verbs that train, sample, combine and measure models, each on files of one's own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from herd.cli.options import (
    ConfigFile,
    Out,
    Overrides,
    Patience,
    Replicas,
    make,
    make_together,
    numbered,
    read_settings,
)

if TYPE_CHECKING:
    from herd.foundation.progress import Progress
    from herd.model.config import ModelConfig

Base = Annotated[Path, typer.Argument(help="the model to begin with: a Hugging Face directory")]
Model = Annotated[Path, typer.Argument(help="a model: a Hugging Face directory")]
Preferences = Annotated[
    list[Path], typer.Argument(help="JSONL with prompt, chosen and rejected, or directories with it")
]
Tasks = Annotated[Path, typer.Option(help="what herd tasks made")]
Index = Annotated[Path, typer.Option(help="what herd index made")]


def pretrain(
    tokens: Annotated[Path, typer.Argument(help="what herd tokenize made")],
    tokenizer: Annotated[Path, typer.Argument(help="the tokenizer that made them")],
    out: Out,
    shape: Annotated[str | None, typer.Option(help="begin anew: a pocket size such as 3m, or llama-3.1-8b")] = None,
    init: Annotated[Path | None, typer.Option(help="go on from this model: a Hugging Face directory")] = None,
    tp: Annotated[int, typer.Option(min=1, help="under torchrun: processes that share every matrix")] = 1,
    cp: Annotated[int, typer.Option(min=1, help="under torchrun: processes that share every sequence")] = 1,
    pp: Annotated[int, typer.Option(min=1, help="under torchrun: processes that share the layers")] = 1,
    dp: Annotated[
        int | None, typer.Option(min=1, help="under torchrun: processes that share the rows; all others")
    ] = None,
    replicas: Annotated[
        int, typer.Option(min=1, help="under torchrun: copies of the weights, each cut over dp/replicas")
    ] = 1,
    stages: Annotated[
        int, typer.Option(min=1, help="with --pp: runs of layers on each process; several interleave")
    ] = 1,
    together: Annotated[
        int | None,
        typer.Option(min=1, help="with --stages: micro-batches that go through a stage one after another; pp"),
    ] = None,
    patience: Annotated[
        float, typer.Option(min=1, help="under torchrun: seconds that one process may let others wait")
    ] = 600,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Train on token shards, anew or from a model.

    --shape begins anew, --init goes on; tokens is a setting that must be given.

    Under torchrun, on many processes: torchrun --nproc-per-node 4 -m herd pretrain ...
    """
    from herd.foundation.errors import HerdError
    from herd.train.parallel.launch import launched
    from herd.train.stages import PretrainConfig, mesh_of
    from herd.train.stages import pretrain as stage

    inputs = {"tokens": tokens, "tokenizer": tokenizer} | ({"init": init} if init else {})
    outside = {"shape": shape} if shape else {}
    with launched(patience) as launch:
        settings = read_settings(PretrainConfig, config, overrides)
        if (shape is None) == (init is None):
            raise HerdError("pretrain: give either --shape, to begin anew, or --init, to go on from a model")
        start = init or _shape(str(shape), tokenizer, settings.sequence_length)
        mesh = mesh_of(launch, tp, cp, pp, dp, replicas, stages, together)

        def run(place: Path, progress: "Progress") -> None:
            stage(settings, start, tokens, tokenizer, place, progress, mesh, launch)

        make_together(launch, "pretrain", settings, inputs, out, run, outside)


def _shape(name: str, tokenizer: Path, length: int) -> "ModelConfig":
    from herd.model.config import PRESETS, pocket_config
    from herd.tokenizer.tokenizer import Tokenizer

    shape = PRESETS.get(name) or pocket_config(name, Tokenizer.load(tokenizer).vocab_size)
    return shape.with_context(max(shape.max_positions, length), shape.rope_scaling)


def sft(
    base: Base,
    dialogues: Annotated[list[Path], typer.Argument(help="JSONL of messages, or directories with dialogues.jsonl")],
    out: Out,
    replicas: Replicas = 1,
    patience: Patience = 600,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Finetune a model on dialogues.

    The loss falls on what the assistant says.

    Under torchrun the processes share the dialogues of every step; so they do in reward and dpo.
    """
    from herd.align.sft import SftConfig
    from herd.align.sft import sft as stage
    from herd.train.parallel.launch import launched

    inputs = {"base": base, **numbered("dialogues", dialogues)}
    with launched(patience) as launch:
        settings = read_settings(SftConfig, config, overrides)

        def run(place: Path, progress: "Progress") -> None:
            stage(settings, base, dialogues, place, progress, launch, replicas)

        make_together(launch, "sft", settings, inputs, out, run)


def reward(
    base: Base,
    preferences: Preferences,
    out: Out,
    replicas: Replicas = 1,
    patience: Patience = 600,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Train a reward model on preferences."""
    from herd.align.reward import RewardConfig
    from herd.align.reward import reward as stage
    from herd.train.parallel.launch import launched

    inputs = {"base": base, **numbered("preferences", preferences)}
    with launched(patience) as launch:
        settings = read_settings(RewardConfig, config, overrides)

        def run(place: Path, progress: "Progress") -> None:
            stage(settings, base, preferences, place, progress, launch, replicas)

        make_together(launch, "reward", settings, inputs, out, run)


def sample(
    model: Model,
    reward: Annotated[Path, typer.Option(help="the reward model")],
    tasks: Tasks,
    index: Index,
    out: Out,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Rejection sampling: keep a model's best answers to tasks.

    The reward model says which of the right ones are best.
    """
    from herd.align.rounds import open_tools
    from herd.align.sampling import RejectionConfig, rejection_sample
    from herd.foundation.progress import Progress

    settings = read_settings(RejectionConfig, config, overrides)

    def run(place: Path, progress: Progress) -> None:
        with open_tools(index, tasks) as tools:
            rejection_sample(settings, model, reward, tasks, tools, place, progress)

    make("sample", settings, {"model": model, "reward": reward, "tasks": tasks, "index": index}, out, run)


def dialogues(tasks: Tasks, index: Index, out: Out, config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Make dialogues by solving training tasks with the tools."""
    from herd.align.rounds import open_tools
    from herd.align.synthesis import SynthesisConfig, synthesise
    from herd.foundation.progress import Progress

    settings = read_settings(SynthesisConfig, config, overrides)

    def run(place: Path, progress: Progress) -> None:
        with open_tools(index, tasks) as tools:
            synthesise(settings, tasks, tools.texts(), place, progress)

    make("dialogues", settings, {"tasks": tasks, "index": index}, out, run)


def preferences(
    first: Model,
    second: Model,
    tasks: Tasks,
    index: Index,
    dialogues: Annotated[Path, typer.Option(help="what herd dialogues made from these tasks")],
    out: Out,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Let two models answer training tasks, and rank the answers.

    Verifiers judge: edited > chosen > rejected.
    """
    from herd.align.preferences import PreferencesConfig, collect_preferences
    from herd.align.rounds import open_tools
    from herd.foundation.progress import Progress

    settings = read_settings(PreferencesConfig, config, overrides)

    def run(place: Path, progress: Progress) -> None:
        with open_tools(index, tasks) as tools:
            collect_preferences(settings, (first, second), tasks, dialogues, tools, place, progress)

    inputs = {"first": first, "second": second, "tasks": tasks, "index": index, "dialogues": dialogues}
    make("preferences", settings, inputs, out, run)


def dpo(
    model: Base,
    preferences: Preferences,
    out: Out,
    replicas: Replicas = 1,
    patience: Patience = 600,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Direct preference optimisation of a model on preferences."""
    from herd.align.dpo import DpoConfig
    from herd.align.dpo import dpo as stage
    from herd.train.parallel.launch import launched

    inputs = {"model": model, **numbered("preferences", preferences)}
    with launched(patience) as launch:
        settings = read_settings(DpoConfig, config, overrides)

        def run(place: Path, progress: "Progress") -> None:
            stage(settings, model, preferences, place, progress, launch, replicas)

        make_together(launch, "dpo", settings, inputs, out, run)


def average(
    models: Annotated[list[Path], typer.Argument(help="models of one shape")],
    out: Out,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Average the weights of models of one shape."""
    from herd.align.average import AverageModelsConfig
    from herd.align.average import average as stage

    settings = read_settings(AverageModelsConfig, config, overrides)
    inputs = numbered("model", models)
    make("average", settings, inputs, out, lambda place, progress: stage(settings, models, place, progress))


def guard(
    base: Base,
    corpus: Annotated[Path, typer.Argument(help="a corpus, whose pages serve as harmless tool results")],
    out: Out,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Raise a guard from a base model, and calibrate it."""
    from herd.guard.train import GuardConfig, train_guard

    settings = read_settings(GuardConfig, config, overrides)
    inputs = {"base": base, "corpus": corpus}
    make("guard", settings, inputs, out, lambda place, progress: train_guard(settings, base, corpus, place, progress))


def evaluate(
    models: Annotated[list[Path], typer.Argument(help="models; those whose name begins with base- are base models")],
    tasks: Tasks,
    index: Index,
    corpus: Annotated[Path, typer.Option(help="the corpus whose held-out documents are measured")],
    out: Out,
    guard: Annotated[Path | None, typer.Option(help="what herd guard made")] = None,
    training: Annotated[
        list[Path] | None,
        typer.Option(help="what was trained on, corpora, Parquet folders or JSONL, to look for leaks in"),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Measure models, every figure with its 95% interval.

    Writes results.json, and items.jsonl with what every figure was counted from.
    """
    from herd.evaluate.stage import EvaluateConfig, Inputs
    from herd.evaluate.stage import evaluate as stage
    from herd.foundation.errors import HerdError

    settings = read_settings(EvaluateConfig, config, overrides)
    named = {path.absolute().name: path for path in models}
    if len(named) < len(models):
        raise HerdError("evaluate: two of the models have the same name, which their figures are listed under")
    material = Inputs(tasks=tasks, index=index, corpus=corpus, guard=guard, training=tuple(training or ()))
    inputs = {"tasks": tasks, "index": index, "corpus": corpus} | ({"guard": guard} if guard else {})
    inputs |= {f"model {name}": path for name, path in named.items()} | numbered("training", training or [])
    make("evaluate", settings, inputs, out, lambda place, progress: stage(settings, named, material, place, progress))
