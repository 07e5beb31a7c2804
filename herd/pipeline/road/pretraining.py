"""Initial pre-training, long context with its gates, annealing: the road to every size's base model.

The gate of a long-context step (paper, section 3.4.2) is composed here: train, measure, then go on, train longer or
stop with a sentence.  ``train`` knows nothing of needles, and ``evaluate`` nothing of training.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from herd.evaluate.gate import GateConfig, GateFigures, take_gate, verdict
from herd.formats.huggingface import load_transformer, save_model
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, write_json
from herd.foundation.progress import Progress
from herd.foundation.seeds import derive
from herd.pipeline.graph import Stage
from herd.pipeline.recipe import LongContext, Recipe
from herd.train.stages import PretrainConfig, RowsFrom, pretrain

Inputs = Mapping[str, Path]


def pretraining_stages(recipe: Recipe) -> list[Stage]:
    """For every member ``initial-M``, ``long-M-LENGTH`` for each length, and ``base-M``."""
    return [stage for name in recipe.members for stage in _member_stages(recipe, name)]


def initial_config(recipe: Recipe, name: str) -> PretrainConfig:
    """The initial pre-training of the member ``name``: shared settings with its own learning rate and tokens."""
    member = recipe.members[name]
    return _with(recipe.pretraining, f"initial-{name}", member.learning_rate, tokens=member.tokens)


def long_config(recipe: Recipe, name: str, length: int) -> PretrainConfig:
    """One long-context step: the settings of initial pre-training, its mix or another, longer rows, a lower rate."""
    member, plan = recipe.members[name], recipe.long_context
    rate = member.learning_rate * plan.learning_rate_share
    config = _with(recipe.pretraining, f"long-{name}-{length}", rate, schedule="constant", tokens=member.long_tokens)
    rows = (RowsFrom(share=0, rows=plan.rows),)
    mix = (plan.mix or config.mix).model_copy(update={"min_tokens": length // 2, "short_fraction": 0.3})
    return config.model_copy(update={"sequence_length": length, "batch": rows, "mix": mix})


def anneal_config(recipe: Recipe, name: str) -> PretrainConfig:
    """Annealing: linear to zero from where long context ended, at its length, on the up-sampled best data."""
    member = recipe.members[name]
    rate = member.learning_rate * recipe.long_context.learning_rate_share
    config = _with(
        recipe.annealing, f"base-{name}", rate, schedule="linear", final_fraction=0.0, tokens=member.anneal_tokens
    )
    return config.model_copy(update={"sequence_length": recipe.long_context.lengths[-1]})


def _with(config: PretrainConfig, stage: str, rate: float, tokens: int, **optimizer: Any) -> PretrainConfig:
    """Shared settings made a stage's own; it reads the data in an order that no other stage has."""
    changed = config.optimizer.model_copy(update={"learning_rate": rate, **optimizer})
    seed = derive(config.seed, stage)
    return config.model_copy(update={"optimizer": changed, "tokens": tokens, "seed": seed})


def _member_stages(recipe: Recipe, name: str) -> list[Stage]:
    shape = recipe.members[name].shape
    data = {"tokens": "tokens", "tokenizer": "tokenizer"}

    def initial(inputs: Inputs, out: Path, progress: Progress) -> None:
        config = initial_config(recipe, name)
        pretrain(config, recipe.shape(shape), inputs["tokens"], inputs["tokenizer"], out, progress)

    def base(inputs: Inputs, out: Path, progress: Progress) -> None:
        config = anneal_config(recipe, name)
        pretrain(config, inputs["model"], inputs["tokens"], inputs["tokenizer"], out, progress)

    initial_part = {"shape": shape, **initial_config(recipe, name).model_dump(mode="json")}
    stages = [Stage(f"initial-{name}", initial, initial_part, data)]
    for length in recipe.long_context.lengths:
        stages.append(_long_stage(recipe, name, length, stages[-1].name))
    anneal_part = anneal_config(recipe, name).model_dump(mode="json")
    stages.append(Stage(f"base-{name}", base, anneal_part, {**data, "model": stages[-1].name}))
    return stages


def _long_stage(recipe: Recipe, name: str, length: int, before: str) -> Stage:
    config, plan = long_config(recipe, name, length), recipe.long_context

    def run(inputs: Inputs, out: Path, progress: Progress) -> None:
        lengthen(config, plan, inputs, out, progress)

    part = {
        "train": config.model_dump(mode="json"),
        "gate": plan.gate.model_dump(mode="json"),
        "attempts": plan.attempts,
        "if_shut": plan.if_shut,
    }
    inputs = {"tokens": "tokens", "tokenizer": "tokenizer", "documents": "documents", "model": before}
    return Stage(f"long-{name}-{length}", run, part, inputs)


def lengthen(config: PretrainConfig, plan: LongContext, inputs: Inputs, out: Path, progress: Progress) -> None:
    """Trains at the new length until the gate is passed; one that stays shut stops the run or is passed with a word.

    Every attempt goes on from the one before with a seed of its own; ``stats.json`` keeps what each gate saw.
    """
    length, gate = config.sequence_length, plan.gate
    before = _measured(gate, inputs["model"], inputs["documents"], length, out / "gate-before.json")
    start, refusal, seen, attempt = inputs["model"], None, [before], 0
    for attempt in range(1, plan.attempts + 1):
        trained = out / f"attempt-{attempt}"
        if not (trained / "stats.json").exists():
            trained.mkdir(exist_ok=True)
            again = config.model_copy(update={"seed": config.seed + attempt - 1})
            pretrain(again, start, inputs["tokens"], inputs["tokenizer"], trained, progress)
        figures = _measured(gate, trained, inputs["documents"], length, out / f"gate-{attempt}.json")
        seen.append(figures)
        refusal = verdict(gate, before["short_bits_per_byte"]["value"], GateFigures.from_json(figures))
        progress.say(f"gate at {length} tokens: {refusal or 'passed'}")
        start = trained
        if refusal is None:
            break
    if refusal is not None and plan.if_shut == "stop":
        raise HerdError(f"{out.name}: {refusal}, after {attempt} attempts; give it more tokens or a lower gate")
    save_model(load_transformer(start), inputs["tokenizer"], out)
    trainings = [read_json(out / f"attempt-{number}" / "stats.json") for number in range(1, attempt + 1)]
    stats = {"gates": seen, "attempts": attempt, "refusal": refusal, "training": trainings[-1]}
    write_json(out / "stats.json", stats | {"flops": sum(part["flops"] for part in [*trainings, *seen])})


def _measured(gate: GateConfig, model: Path, corpus: Path, length: int, file: Path) -> dict[str, Any]:
    """The gate's figures of a model, kept in ``file`` so that a resumed stage does not measure again."""
    if not file.exists():
        write_json(file, take_gate(gate, model, corpus, length).to_json())
    return read_json(file)
