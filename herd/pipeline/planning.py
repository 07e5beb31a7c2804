"""The plan of a recipe: FLOPs, seconds and memory of every stage before any of it is spent.

Training is counted exactly and timed by the machine's own matrix-product rate; what reads, renders and samples is
estimated from the constants below, measured with the pocket recipe on two cores.  ``herd plan`` prints it, a run keeps
it in ``plan.json``, and the report shows it beside what was spent.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from herd.align.rounds import RoundConfig, finetuning
from herd.model.config import ModelConfig
from herd.pipeline.isoflop_runs import run_config
from herd.pipeline.recipe import Recipe
from herd.pipeline.road.pretraining import anneal_config, initial_config, long_config
from herd.plan.estimate import Estimate, efficiency, generation, total, training
from herd.plan.machine import matmul_peak
from herd.scaling.isoflop import plan as plan_isoflop
from herd.train.stages import PretrainConfig

# Wall seconds of the stages that do no training, and bytes of the largest of their processes.
_DATA = {"pages": 45.0, "corpus": 60.0, "tasks": 4.0, "search": 5.0, "documents": 5.0, "tokenizer": 15.0, "tokens": 8.0}
_DATA_BYTES = 900e6
_SYNTHESIS_SECONDS = 40.0
_GATE_SECONDS = 4.0
# Tokens that a tool dialogue has, and that an assistant writes of them; decoding rate of a full batch.
_DIALOGUE_TOKENS, _WRITTEN_TOKENS = 150, 50
_DECODED_PER_SECOND = 2500.0
_GUARD_TOKENS = 60
_EVALUATION_KINDS = 8
_DOMAINS = 3
_EVALUATION_SECONDS = 12.0  # of one model, besides its answers: held-out text, needles, loading


def plan_stages(recipe: Recipe, peak: float) -> dict[str, Estimate]:
    """Every stage's estimate by name, for a machine whose matrix products reach ``peak`` FLOP/s."""
    plans = {name: Estimate(seconds=seconds, memory_bytes=_DATA_BYTES) for name, seconds in _DATA.items()}
    plans["scaling"] = _scaling(recipe, peak)
    for name, member in recipe.members.items():
        plans |= dict(_pretraining(recipe, name, recipe.shape(member.shape), peak))
    plans["dialogues"] = Estimate(seconds=_SYNTHESIS_SECONDS, memory_bytes=_DATA_BYTES)
    for name, member in recipe.members.items():
        plans |= dict(_alignment(recipe, name, recipe.shape(member.shape), peak))
    smallest = recipe.shape(next(iter(recipe.members.values())).shape)
    guard_tokens = recipe.guard.examples * recipe.guard.epochs * _GUARD_TOKENS
    plans["guard"] = training(smallest, guard_tokens, _GUARD_TOKENS, 4096, peak)
    plans["evaluation"] = _evaluation(recipe)
    return plans


def _stretch(config: PretrainConfig, shape: ModelConfig, peak: float) -> Estimate:
    tokens = config.schedule().tokens()
    return training(shape, tokens, config.sequence_length, config.micro_tokens, peak)


def _scaling(recipe: Recipe, peak: float) -> Estimate:
    """The runs go side by side, one thread each, so that their times add up and are shared out."""
    shapes = {name: recipe.shape(name) for name in recipe.scaling.shapes}
    runs = plan_isoflop(recipe.scaling.isoflop, {name: shape.parameters for name, shape in shapes.items()})
    each = [_stretch(run_config(recipe.scaling, recipe.pretraining, run), shapes[run.size], peak) for run in runs]
    whole, processes = total(each), recipe.scaling.processes
    return Estimate(whole.flops, whole.seconds / processes * 1.3, whole.memory_bytes * processes)


def _pretraining(recipe: Recipe, name: str, shape: ModelConfig, peak: float) -> Iterator[tuple[str, Estimate]]:
    yield f"initial-{name}", _stretch(initial_config(recipe, name), shape, peak)
    for length in recipe.long_context.lengths:
        found, gate = _stretch(long_config(recipe, name, length), shape, peak), recipe.long_context.gate
        flops = found.flops + 2 * _reading(shape, len(gate.depths) * gate.trials, length)
        yield f"long-{name}-{length}", Estimate(flops, found.seconds + 2 * _GATE_SECONDS, found.memory_bytes)
    yield f"base-{name}", _stretch(anneal_config(recipe, name), shape, peak)


def _alignment(recipe: Recipe, name: str, shape: ModelConfig, peak: float) -> Iterator[tuple[str, Estimate]]:
    def fit(tokens: float) -> Estimate:
        return training(shape, int(tokens), _DIALOGUE_TOKENS, 2048, peak)

    plan = recipe.alignment
    yield f"bootstrap-{name}", fit(finetuning(plan, plan.bootstrap, name).tokens or 0)
    rounds = plan.rounds
    for number, settings in enumerate(rounds, start=1):
        asked, sampled = _answers(settings)
        yield f"preferences-{number}-{name}", _answering(shape, asked)
        yield f"reward-{number}-{name}", fit(settings.reward.epochs * number * asked / 2 * _DIALOGUE_TOKENS)
        yield f"samples-{number}-{name}", _answering(shape, sampled, judges=1)
        yield f"sft-{number}-{name}", fit(finetuning(plan, settings.sft, name).tokens or 0)
        yield f"dpo-{number}-{name}", fit(settings.dpo.epochs * asked / 2 * _DIALOGUE_TOKENS * 4 / 3)
        yield f"chat-{name}" if number == len(rounds) else f"chat-{number}-{name}", Estimate(seconds=0.5)


def _answering(shape: ModelConfig, answers: int, judges: int = 0) -> Estimate:
    """Answers through tools; each is read once more by every one of the ``judges``."""
    read = answers * (_DIALOGUE_TOKENS - _WRITTEN_TOKENS + judges * _DIALOGUE_TOKENS)
    return generation(shape, answers * _WRITTEN_TOKENS, read, _DECODED_PER_SECOND)


def _answers(settings: RoundConfig) -> tuple[int, int]:
    """Answers that preferences and rejection sampling draw in a round."""
    asked = settings.preferences.prompts * settings.preferences.answers * 2
    return asked, settings.sampling.prompts * settings.sampling.answers


def _evaluation(recipe: Recipe) -> Estimate:
    """Answers, needles and held-out text of the base and the aligned model of every size."""
    config, estimates = recipe.evaluation, []
    whole = recipe.long_context.lengths[-1]
    for name, member in recipe.members.items():
        shape, largest = recipe.shape(member.shape), name == recipe.flagship
        per_kind = config.suite.per_kind_largest if largest else config.suite.per_kind
        trials = config.needle_trials_largest if largest else config.needle_trials
        answered = _answering(shape, 2 * per_kind * _EVALUATION_KINDS)
        prompts = (2 + largest) * len(config.needle_depths) * trials  # the flagship's chat model is asked twice
        found = sum(_reading(shape, prompts, whole // part) for part in (8, 4, 2, 1))
        held_out = shape.forward_flops(2 * config.documents_per_domain * _DOMAINS * config.characters // 3, 0)
        seconds = answered.seconds + 2 * _EVALUATION_SECONDS
        estimates.append(Estimate(answered.flops + found + held_out, seconds, answered.memory_bytes))
    return total(estimates)


def _reading(shape: ModelConfig, texts: int, length: int) -> float:
    """FLOPs of reading so many texts of ``length`` tokens."""
    return shape.forward_flops(texts * length, texts * length**2 / 2)


def plan_file(recipe: Recipe) -> dict[str, Any]:
    """The plan as JSON: the rate it assumes, every stage, the whole."""
    peak = matmul_peak()
    stages = plan_stages(recipe, peak)
    whole = total(list(stages.values()))
    return {"peak_flops": peak, "stages": {name: asdict(one) for name, one in stages.items()}, "total": asdict(whole)}


def describe_plan(recipe: Recipe) -> str:
    """The plan as a table for a terminal."""
    plan = plan_file(recipe)
    lines = [f"{recipe.name}: planned at {plan['peak_flops'] / 1e9:,.0f} GFLOP/s of matrix products"]
    lines.append(f"{'stage':<22}{'FLOPs':>10}{'time':>14}{'memory':>10}")
    for name, one in [*plan["stages"].items(), ("total", plan["total"])]:
        memory = f"{one['memory_bytes'] / 1e9:.2f} GB" if one["memory_bytes"] else ""
        lines.append(f"{name:<22}{one['flops']:>10.2g}{_duration(one['seconds']):>14}{memory:>10}".rstrip())
    flagship = recipe.shape(recipe.members[recipe.flagship].shape)
    share = f"{efficiency(flagship.parameters):.0%}"
    lines.append(f"{recipe.flagship} has {flagship.parameters:,} parameters and trains at {share} of that rate")
    lines.append("the total counts stages one after another; where there is no GPU, herd run takes two at a time")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
