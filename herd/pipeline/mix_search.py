"""The mix search: small runs on several mixes of the data, their comparison, the forecast for a large one.

    herd run mix-search            # or a recipe of your own with ``kind: mix-search``

As in the paper (section 3.1.2) several small models are trained on each candidate mix, and tell what a large one would
do on it; the large one may then be trained on the best mix, and stands beside its forecast.  Every mix is judged by the
same thing: held-out loss with fixed weights of the domains (``judged``), whatever it was trained on.  The runs of all
mixes share their seeds, so that differences are paired.  A mix that is added runs alone; the others stay as they are.
"""

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from herd.corpus.blocklist import list_digests
from herd.corpus.collect import PagesConfig, collect
from herd.corpus.curate import CurateConfig, curate
from herd.formats.huggingface import load_transformer
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, write_json
from herd.foundation.progress import Progress
from herd.foundation.seeds import derive
from herd.foundation.workers import workers
from herd.model.config import PRESETS, ModelConfig, pocket_config
from herd.pipeline.graph import Stage, run_graph
from herd.pipeline.isoflop_runs import SharedTraining
from herd.pipeline.lock import exclusive
from herd.pipeline.mix_comparison import Run, as_text, compare
from herd.pipeline.outside import sources
from herd.pipeline.recipe import grow_seeds
from herd.pipeline.recipe_file import recipe_path
from herd.pipeline.yaml_file import load_yaml
from herd.plan.estimate import training
from herd.plan.machine import matmul_peak
from herd.tokenizer.bpe import TokenizerConfig, train_tokenizer
from herd.train.shards import TokenizeConfig, tokenize
from herd.train.stages import HeldOutLoss, PretrainConfig, pretrain
from herd.train.stream import Mix, TokenStream
from herd.train.tokens import open_shards

Inputs = Mapping[str, Path]


class Size(Config):
    """One size of model: its shape, its learning rate and its training tokens."""

    shape: str
    learning_rate: float = Field(gt=0)
    tokens: int = Field(gt=0)


class Large(Size):
    """The run that is forecast; ``train`` it on the mix that did best, or only forecast it."""

    train: bool = True


class MixSearch(Config):
    """The recipe; ``mixes`` give the domains' shares by the mix's name, the first is what others are compared with."""

    kind: Literal["mix-search"]
    name: str
    output: Path
    seed: int = 7
    pages: PagesConfig = PagesConfig()
    corpus: CurateConfig = CurateConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    tokens: TokenizeConfig = TokenizeConfig()
    pretraining: SharedTraining = Field(default_factory=lambda: SharedTraining.model_validate({}))
    mixes: dict[str, dict[str, float]] = Field(min_length=2)
    sizes: dict[str, Size] = Field(min_length=1, description="small models by name")
    seeds: int = Field(default=3, ge=2, description="runs of every size on every mix")
    judged: dict[str, float] = {"general": 0.50, "math": 0.25, "code": 0.17, "multilingual": 0.08}
    large: Large
    processes: int = Field(default=2, ge=1, description="runs at the same time, one thread each")

    @model_validator(mode="after")
    def _can_be_run(self) -> "MixSearch":
        for size in (*self.sizes.values(), self.large):
            self.shape(size.shape)
        for name, weights in {**self.mixes, "judged": self.judged}.items():
            if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
                raise ValueError(f"{name}: weights must not be negative and must add up to more than zero")
        return self

    def shape(self, name: str) -> ModelConfig:
        """The network's shape by name; an unknown name is a ``HerdError``."""
        return PRESETS[name] if name in PRESETS else pocket_config(name, self.tokenizer.vocab_size)

    def training(self, size: Size, mix: str, seed: int) -> PretrainConfig:
        """One run's training; ``seed`` is its number, the same weights and order for every mix."""
        shared = self.pretraining
        return shared.model_copy(
            update={
                "tokens": size.tokens,
                "mix": shared.mix.model_copy(update={"weights": self.mixes[mix]}),
                "optimizer": shared.optimizer.model_copy(update={"learning_rate": size.learning_rate}),
                "compile": "off",
                "seed": derive(shared.seed, "mix-search", seed),
            }
        )


def load_mix_search(name: str, overrides: Sequence[str] = ()) -> MixSearch:
    """Reads the recipe by the name of a shipped one or by its path."""
    recipe = load_yaml(MixSearch, recipe_path(name), overrides)
    return grow_seeds(recipe, recipe.seed)


def describe_search(recipe: MixSearch) -> str:
    """What the runs will cost: FLOPs and seconds of one core, size by size."""
    peak, lines = matmul_peak(), [f"{recipe.name}: {len(recipe.mixes)} mixes, {recipe.seeds} seeds"]
    for name, size in [*recipe.sizes.items(), ("large", recipe.large)]:
        config, runs = recipe.pretraining, 1 if size is recipe.large else len(recipe.mixes) * recipe.seeds
        one = training(recipe.shape(size.shape), size.tokens, config.sequence_length, config.micro_tokens, peak)
        lines.append(f"{name:<12}{runs:>4} runs of {one.flops:.2g} FLOPs, {one.seconds:,.0f} s each")
    return "\n".join(lines)


def search_mixes(recipe: MixSearch, progress: Progress) -> str:
    """Brings every artifact of the search up to date; returns the comparison for a terminal."""
    started = time.monotonic()
    with exclusive(recipe.output):
        outcomes = run_graph(search_stages(recipe), recipe.output, progress)
    ran = sum(outcome.ran for outcome in outcomes)
    text = as_text(read_json(recipe.output / "comparison" / "comparison.json"))
    large = recipe.output / "large" / "stats.json"
    if recipe.large.train:
        made = read_json(large)
        text += f"\nlarge run on {made['trained_on']}: {made['judged']:.4f}, forecast {made['forecast']:.4f}"
        text += f" ({made['low']:.4f}–{made['high']:.4f})"
    return f"{text}\n{recipe.output}: {ran} of {len(outcomes)} stages ran in {time.monotonic() - started:.1f} s"


def search_stages(recipe: MixSearch) -> list[Stage]:
    """Pages to tokens, ``runs-MIX`` for every mix, ``comparison``, and ``large`` where it is asked for."""
    data = {"tokens": "tokens", "tokenizer": "tokenizer"}
    stages = [*_data_stages(recipe), *(_runs(recipe, mix, data) for mix in recipe.mixes), _comparison(recipe)]
    if recipe.large.train:
        needed = data | {"comparison": "comparison"}
        part = {"large": _values(recipe.large), "mixes": recipe.mixes, **_shared(recipe)}
        stages.append(Stage("large", lambda *work: _train_large(recipe, *work), part, needed, whole_machine=True))
    return stages


def _values(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json")


def _shared(recipe: MixSearch) -> dict[str, Any]:
    """What all runs have in common."""
    return {
        "pretraining": _values(recipe.pretraining),
        "judged": recipe.judged,
        "vocabulary": recipe.tokenizer.vocab_size,
    }


def _data_stages(recipe: MixSearch) -> list[Stage]:
    def pages(inputs: Inputs, out: Path, progress: Progress) -> None:
        collect(recipe.pages, out, progress)

    def corpus(inputs: Inputs, out: Path, progress: Progress) -> None:
        curate(recipe.corpus, inputs["pages"], out, progress)

    def tokenizer(inputs: Inputs, out: Path, progress: Progress) -> None:
        train_tokenizer(recipe.tokenizer, inputs["corpus"], out, progress)

    def tokens(inputs: Inputs, out: Path, progress: Progress) -> None:
        tokenize(recipe.tokens, inputs["corpus"], inputs["tokenizer"], out, progress)

    return [
        Stage("pages", pages, _values(recipe.pages), outside=partial(sources, recipe.pages)),
        Stage(
            "corpus",
            corpus,
            _values(recipe.corpus),
            {"pages": "pages"},
            partial(list_digests, recipe.corpus.blocklists),
        ),
        Stage("tokenizer", tokenizer, _values(recipe.tokenizer), {"corpus": "corpus"}),
        Stage("tokens", tokens, _values(recipe.tokens), {"corpus": "corpus", "tokenizer": "tokenizer"}),
    ]


def _runs(recipe: MixSearch, mix: str, data: dict[str, str]) -> Stage:
    def run(inputs: Inputs, out: Path, progress: Progress) -> None:
        _check_domains(recipe, mix, inputs["tokens"])
        todo = [
            (recipe.training(size, mix, seed), recipe.shape(size.shape), recipe.judged, out / f"{name}-{seed}")
            for name, size in recipe.sizes.items()
            for seed in range(recipe.seeds)
        ]
        waiting = [one for one in todo if not (one[-1] / "judged.json").exists()]
        with (
            progress.task(f"mix {mix}", total=len(todo), unit="runs") as task,
            workers(min(recipe.processes, os.cpu_count() or 1), f"mix {mix}") as pool,
        ):
            task.advance(len(todo) - len(waiting))
            for done in as_completed([pool.submit(_train_and_judge, dict(inputs), *one) for one in waiting]):
                done.result()
                task.advance()

    sizes = {name: _values(size) for name, size in recipe.sizes.items()}
    part = {"mix": recipe.mixes[mix], "sizes": sizes, "seeds": recipe.seeds, **_shared(recipe)}
    return Stage(f"runs-{mix}", run, part, data, whole_machine=True)


def _check_domains(recipe: MixSearch, mix: str, tokens: Path) -> None:
    """A mix that names a domain without tokens would be another mix in silence."""
    present = {name for name, shard in open_shards(tokens).items() if shard.tokens}
    if missing := [name for name, weight in recipe.mixes[mix].items() if weight > 0 and name not in present]:
        raise HerdError(f"mix {mix}: the corpus has no {missing[0]} documents; it has {', '.join(sorted(present))}")


def _train_and_judge(
    inputs: dict[str, Path], config: PretrainConfig, shape: ModelConfig, judged: dict[str, float], out: Path
) -> None:
    """One run in a process of its own, on one thread; ``judged.json`` is written last."""
    import torch

    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    pretrain(config, shape, inputs["tokens"], inputs["tokenizer"], out, Progress.silent())
    write_json(out / "judged.json", _judge(out, inputs["tokens"], config, judged))


def _judge(model: Path, tokens: Path, config: PretrainConfig, judged: dict[str, float]) -> dict[str, float]:
    """Held-out loss with the fixed weights, and that of every domain, in nats a token."""
    sources = Mix(weights=judged).sources(open_shards(tokens))
    losses = HeldOutLoss(tokens, TokenStream(sources, config.seed, config.sequence_length), config)
    found = losses(load_transformer(model))
    if not found:
        raise HerdError(f"{tokens}: holds no held-out documents of the judged domains {', '.join(judged)}")
    return {"judged": found["held_out"], **{name: loss for name, loss in found.items() if "/" in name}}


def _comparison(recipe: MixSearch) -> Stage:
    def run(inputs: Inputs, out: Path, progress: Progress) -> None:
        runs = [
            Run(mix, name, seed, _flops(recipe, size), read_json(inputs[mix] / f"{name}-{seed}" / "judged.json"))
            for mix in recipe.mixes
            for name, size in recipe.sizes.items()
            for seed in range(recipe.seeds)
        ]
        found = compare(runs, _flops(recipe, recipe.large))
        write_json(out / "comparison.json", found)
        for note in found["notes"]:
            progress.say(f"mix search: {note}")

    part = {"large": {"shape": recipe.large.shape, "tokens": recipe.large.tokens}, "mixes": recipe.mixes}
    sizes = {name: {"shape": size.shape, "tokens": size.tokens} for name, size in recipe.sizes.items()}
    return Stage("comparison", run, part | {"sizes": sizes}, {mix: f"runs-{mix}" for mix in recipe.mixes})


def _flops(recipe: MixSearch, size: Size) -> float:
    """Training compute by C = 6 N D."""
    return 6.0 * recipe.shape(size.shape).parameters * size.tokens


def _train_large(recipe: MixSearch, inputs: Inputs, out: Path, progress: Progress) -> None:
    """Trains the large model on the best mix, on one thread like the small ones, and holds it beside its forecast."""
    best = read_json(inputs["comparison"] / "comparison.json")["best"]
    config, shape = recipe.training(recipe.large, best["mix"], 0), recipe.shape(recipe.large.shape)
    with progress.task("large run", total=1, unit="runs") as task, workers(1, "the large run") as pool:
        data = {role: inputs[role] for role in ("tokens", "tokenizer")}
        pool.submit(_train_and_judge, data, config, shape, recipe.judged, out / "model").result()
        task.advance()
    judged = read_json(out / "model" / "judged.json")
    write_json(out / "stats.json", {"trained_on": best["mix"], **best["forecast"], **judged})
