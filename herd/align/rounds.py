"""Two rounds of alignment for every size: which step reads what, as data that the pipeline turns into its graph.

Each round is the paper's (section 4.1): preferences from the best models so far, a reward model from the *base*,
rejection sampling, finetuning of the *base* on all dialogues so far, DPO, averaging.  A short finetuning on synthesised
dialogues alone starts the first round, as the paper starts tool use (section 4.3.5).

    for step in alignment_steps(AlignConfig(), members=["1m", "3m"], seed=7):
        step.run({role: run / name for role, name in step.inputs.items()}, run / step.name, progress)

The steps of member ``3m``: ``bootstrap-3m``; in round N ``preferences-N-3m``, ``reward-N-3m``, ``samples-N-3m``,
``sft-N-3m``, ``dpo-N-3m`` and ``chat-N-3m``, whose last one is called ``chat-3m``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from herd.align.average import AverageModelsConfig, average
from herd.align.dpo import DpoConfig, dpo
from herd.align.preferences import PreferencesConfig, collect_preferences
from herd.align.reward import RewardConfig, reward
from herd.align.sampling import RejectionConfig, rejection_sample
from herd.align.sft import SftConfig, sft
from herd.align.synthesis import SynthesisConfig, synthesise
from herd.foundation.config import Config
from herd.foundation.files import read_jsonl
from herd.foundation.progress import Progress
from herd.foundation.seeds import derive
from herd.tools.registry import ToolSet, python_tool, search_tool
from herd.tools.sandbox import Sandbox
from herd.tools.search import INDEX_NAME, SearchIndex

Inputs = Mapping[str, Path]
_SEEDS = 1 << 31


class RoundConfig(Config):
    """The settings of one round."""

    preferences: PreferencesConfig = PreferencesConfig()
    reward: RewardConfig = RewardConfig()
    sampling: RejectionConfig = RejectionConfig()
    sft: SftConfig = SftConfig()
    dpo: DpoConfig = DpoConfig()
    average: AverageModelsConfig = AverageModelsConfig()


class AlignConfig(Config):
    """Synthesis, the first finetuning and the rounds.

    ``learning_rates`` and ``data_shares`` change the finetunings of a member: where a size must be cheaper, it is its
    data that is cut, never a stage.
    """

    synthesis: SynthesisConfig = SynthesisConfig()
    bootstrap: SftConfig = SftConfig(tokens=150_000)
    rounds: tuple[RoundConfig, ...] = Field(
        default=(RoundConfig(sft=SftConfig(tokens=250_000)), RoundConfig(sft=SftConfig(tokens=800_000))), min_length=1
    )
    learning_rates: dict[str, float] = {}
    data_shares: dict[str, float] = Field(default={}, description="of the finetunings' tokens; 1 where it says nothing")


@dataclass(frozen=True)
class Step:
    """One stage: ``run(inputs, out, progress)``, its settings, and the earlier steps or artifacts that it reads."""

    name: str
    run: Callable[[Inputs, Path, Progress], None]
    config: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)


@contextmanager
def open_tools(index: Path, tasks: Path) -> Iterator[ToolSet]:
    """The tools for training: search in the directory ``index``, and the interpreter where a sandbox can be had.

    The search hides what ``tasks`` hold out, so that no page of the test gets into a dialogue by way of another query.
    """
    hidden = [row["name"] for row in read_jsonl(tasks / "held_out.jsonl")]
    with ExitStack() as stack:
        tools = [search_tool(stack.enter_context(closing(SearchIndex(index / INDEX_NAME, hidden))))]
        if Sandbox.unavailable() is None:
            tools.append(python_tool(stack.enter_context(Sandbox())))
        yield ToolSet(tools)


def alignment_steps(config: AlignConfig, members: Sequence[str], seed: int) -> list[Step]:
    """Every step in an order that respects what it reads.

    They read ``tasks``, ``search`` and ``base-M`` besides each other.  The first round compares the answers of a member
    with those of its neighbour in size, later rounds those of the two newest models of the member itself.
    """
    steps = [_synthesis_step(config, seed)]
    steps += [_bootstrap_step(config, member, seed) for member in members]
    for place, member in enumerate(members):
        neighbour = members[place - 1] if place else members[min(1, len(members) - 1)]
        models = (f"bootstrap-{member}", f"bootstrap-{neighbour}")
        for number in range(1, len(config.rounds) + 1):
            found = _round_steps(config, member, number, models, seed)
            steps += found
            models = (found[-1].name, f"sft-{number}-{member}")
    return steps


def _seeded(config: Any, seed: int, *names: str | int) -> Any:
    """The settings with a seed of its own for every step and member, which another seed in them changes too."""
    return config.model_copy(update={"seed": derive(seed, "align", *names, config.seed) % _SEEDS})


def _json(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json")


def _synthesis_step(config: AlignConfig, seed: int) -> Step:
    settings = _seeded(config.synthesis, seed, "synthesis")

    def run(inputs: Inputs, out: Path, progress: Progress) -> None:
        with open_tools(inputs["search"], inputs["tasks"]) as tools:
            synthesise(settings, inputs["tasks"], tools.texts(), out, progress)

    return Step("dialogues", run, _json(settings), {"tasks": "tasks", "search": "search"})


def finetuning(config: AlignConfig, settings: SftConfig, member: str) -> SftConfig:
    """A finetuning with the member's own rate and share of the tokens."""
    rate = config.learning_rates.get(member, settings.optimizer.learning_rate)
    tokens = settings.tokens and max(round(settings.tokens * config.data_shares.get(member, 1.0)), 1)
    optimizer = settings.optimizer.model_copy(update={"learning_rate": rate})
    return settings.model_copy(update={"optimizer": optimizer, "tokens": tokens})


def _bootstrap_step(config: AlignConfig, member: str, seed: int) -> Step:
    settings = _seeded(finetuning(config, config.bootstrap, member), seed, member, "bootstrap")
    return _sft_step(f"bootstrap-{member}", settings, member, ["dialogues"])


def _sft_step(name: str, settings: SftConfig, member: str, dialogues: Sequence[str]) -> Step:
    roles = {f"dialogues-{number}": found for number, found in enumerate(dialogues)}

    def run(inputs: Inputs, out: Path, progress: Progress) -> None:
        sft(settings, inputs["base"], [inputs[role] for role in roles], out, progress)

    return Step(name, run, _json(settings), {"base": f"base-{member}", **roles})


def _round_steps(config: AlignConfig, member: str, number: int, models: tuple[str, str], seed: int) -> list[Step]:
    """Preferences, reward model, samples, finetuning, DPO, average: the round ``number``, counted from 1."""
    settings = config.rounds[number - 1]
    rounds = range(1, number + 1)
    last = number == len(config.rounds)
    preferences = _seeded(settings.preferences, seed, member, number, "preferences")
    judge = _seeded(settings.reward, seed, member, number, "reward")
    sampling = _seeded(settings.sampling, seed, member, number, "samples")
    tuning = _seeded(finetuning(config, settings.sft, member), seed, member, number, "sft")
    dialogues = ["dialogues", *(f"samples-{earlier}-{member}" for earlier in rounds)]
    return [
        _preferences_step(f"preferences-{number}-{member}", preferences, models),
        _reward_step(f"reward-{number}-{member}", judge, member, [f"preferences-{n}-{member}" for n in rounds]),
        _samples_step(f"samples-{number}-{member}", sampling, models[0], f"reward-{number}-{member}"),
        _sft_step(f"sft-{number}-{member}", tuning, member, dialogues),
        _dpo_step(f"dpo-{number}-{member}", _seeded(settings.dpo, seed, member, number, "dpo"), member, number),
        _average_step(f"chat-{member}" if last else f"chat-{number}-{member}", settings.average, member, number),
    ]


def _preferences_step(name: str, settings: PreferencesConfig, models: tuple[str, str]) -> Step:
    inputs = {"tasks": "tasks", "search": "search", "dialogues": "dialogues", "first": models[0], "second": models[1]}

    def run(inputs: Inputs, out: Path, progress: Progress) -> None:
        with open_tools(inputs["search"], inputs["tasks"]) as tools:
            pair = (inputs["first"], inputs["second"])
            collect_preferences(settings, pair, inputs["tasks"], inputs["dialogues"], tools, out, progress)

    return Step(name, run, _json(settings), inputs)


def _reward_step(name: str, settings: RewardConfig, member: str, preferences: Sequence[str]) -> Step:
    roles = {f"preferences-{number}": found for number, found in enumerate(preferences)}

    def run(inputs: Inputs, out: Path, progress: Progress) -> None:
        reward(settings, inputs["base"], [inputs[role] for role in roles], out, progress)

    return Step(name, run, _json(settings), {"base": f"base-{member}", **roles})


def _samples_step(name: str, settings: RejectionConfig, model: str, judge: str) -> Step:
    def run(inputs: Inputs, out: Path, progress: Progress) -> None:
        with open_tools(inputs["search"], inputs["tasks"]) as tools:
            rejection_sample(settings, inputs["model"], inputs["reward"], inputs["tasks"], tools, out, progress)

    return Step(name, run, _json(settings), {"tasks": "tasks", "search": "search", "model": model, "reward": judge})


def _dpo_step(name: str, settings: DpoConfig, member: str, number: int) -> Step:
    def run(inputs: Inputs, out: Path, progress: Progress) -> None:
        dpo(settings, inputs["model"], [inputs["preferences"]], out, progress)

    inputs = {"model": f"sft-{number}-{member}", "preferences": f"preferences-{number}-{member}"}
    return Step(name, run, _json(settings), inputs)


def _average_step(name: str, settings: AverageModelsConfig, member: str, number: int) -> Step:
    def run(inputs: Inputs, out: Path, progress: Progress) -> None:
        average(settings, [inputs["sft"], inputs["dpo"]], out, progress)

    return Step(name, run, _json(settings), {"sft": f"sft-{number}-{member}", "dpo": f"dpo-{number}-{member}"})
