"""Whether a small data set is worth having: annealings with it and without it, compared over seeds (section 3.1.3).

    judge_data(JudgeDataConfig(...), base, tokens, candidate, tokenizer, out, progress)

As in the paper, a model in the middle of its training is annealed, its learning rate falling linearly to zero, with 30%
of the tokens from the data set in question and the rest from the default mix, and for comparison on the default mix
alone.  Both are measured by held-out loss with the default mix's weights; the annealed models stay in ``out``, so that
``herd evaluate`` can measure them by more.  Runs of one seed read each domain in one order, so differences are paired.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, write_json
from herd.foundation.progress import Progress
from herd.foundation.seeds import derive
from herd.pipeline.mix_comparison import mean_interval, verdict
from herd.train.shards import META_FILE
from herd.train.stages import PretrainConfig, pretrain
from herd.train.stream import Mix
from herd.train.tokens import TokenShard, open_shards

_MARK = "candidate-"
_WITHOUT, _WITH = "default", "with"


class JudgeDataConfig(Config):
    """The annealing; the paper takes a half-trained 8B model, 40B tokens and a share of 30%."""

    training: PretrainConfig
    """One annealing, always linear to zero; its mix is the default one, whose rules of length and quality hold for the
    data set too."""
    learning_rate: float = Field(gt=0, description="where the model's own training stood: the annealing begins there")
    share: float = Field(0.3, gt=0, lt=1, description="of the tokens that come from the data set")
    seeds: int = Field(3, ge=2, description="annealings with and without")

    def annealing(self, mix: Mix, seed: int) -> PretrainConfig:
        """One run."""
        falling = {"learning_rate": self.learning_rate, "schedule": "linear", "final_fraction": 0.0}
        return self.training.model_copy(
            update={
                "mix": mix,
                "optimizer": self.training.optimizer.model_copy(update=falling),
                "warmup": 0.0,
                "seed": derive(self.training.seed, "judge-data", seed),
            }
        )


def judge_data(
    config: JudgeDataConfig, base: Path, tokens: Path, candidate: Path, tokenizer: Path, out: Path, progress: Progress
) -> None:
    """Anneals ``base`` on ``tokens`` with and without the token shards in ``candidate``; writes ``judgement.json``.

    Raises ``HerdError`` where the two come from different tokenizers, or nothing was held out to measure by.
    """
    if not any((tokens / "heldout").glob("*.bin")):
        raise HerdError(f"{tokens}: holds no held-out documents, and the data set is judged by held-out loss")
    if config.training.curriculum:
        raise HerdError("judge-data: the mix of the annealings does not change on the way, leave curriculum out")
    joined, added = out / "tokens", _join(tokens, candidate, out / "tokens")
    weights = _default_weights(config, tokens)
    mixes = {
        name: config.training.mix.model_copy(update={"weights": each, "max_epochs": None})
        for name, each in ((_WITHOUT, weights), (_WITH, _with_share(weights, added, config.share)))
    }
    runs = [(name, seed) for seed in range(config.seeds) for name in mixes]
    for name, seed in progress.track(runs, "annealings", unit="runs"):
        made = out / f"{name}-{seed}"
        if not (made / "stats.json").exists():
            made.mkdir(exist_ok=True)
            pretrain(config.annealing(mixes[name], seed), base, joined, tokenizer, made, progress)
    shutil.rmtree(joined)
    measured = {name: [_losses(out / f"{name}-{seed}", weights) for seed in range(config.seeds)] for name in mixes}
    write_json(out / "judgement.json", _compare(config, measured))


def _join(tokens: Path, candidate: Path, place: Path) -> dict[str, TokenShard]:
    """A directory of links to both, in which the candidate's domains have names of their own; returns its shards."""
    known, new = (read_json(path / META_FILE) for path in (tokens, candidate))
    if known["tokenizer"] != new["tokenizer"]:
        raise HerdError(
            f"{candidate}: was made with another tokenizer than {tokens}; tokenize both with the model's own"
        )
    shutil.rmtree(place, ignore_errors=True)
    write_json(place / META_FILE, known)
    open_shards(candidate)
    for split in ("train", "heldout"):
        (place / split).mkdir()
        for file in (tokens / split).glob("*"):
            (place / split / file.name).symlink_to(file.resolve())
    for file in (candidate / "train").glob("*"):
        (place / "train" / f"{_MARK}{file.name}").symlink_to(file.resolve())
    return {name: shard for name, shard in open_shards(place).items() if name.startswith(_MARK)}


def _default_weights(config: JudgeDataConfig, tokens: Path) -> dict[str, float]:
    """The shares of the default mix, as far as its domains have documents."""
    weights: dict[str, float] = {}
    for source in config.training.mix.sources(open_shards(tokens), config.training.schedule().tokens()):
        weights[source.shard.name] = weights.get(source.shard.name, 0.0) + source.weight
    return weights


def _with_share(weights: Mapping[str, float], added: Mapping[str, TokenShard], share: float) -> dict[str, float]:
    """The default mix made smaller, and the candidate's domains by their sizes."""
    whole = sum(shard.tokens for shard in added.values())
    return {name: (1 - share) * weight for name, weight in weights.items()} | {
        name: share * shard.tokens / whole for name, shard in added.items()
    }


def _losses(run: Path, weights: Mapping[str, float]) -> dict[str, float]:
    """Held-out nats a token of every domain of the default mix, and ``judged``, their mean with its weights."""
    stats = read_json(run / "stats.json")
    figures = stats.get("averaged", stats)
    losses = {name: figures[f"held_out/{name}"] for name in weights if f"held_out/{name}" in figures}
    if not losses:
        raise HerdError(f"{run}: no domain of the default mix has held-out documents to be measured by")
    whole = sum(weights[name] for name in losses)
    return {"judged": sum(weights[name] * loss for name, loss in losses.items()) / whole, **losses}


def _compare(config: JudgeDataConfig, measured: Mapping[str, list[dict[str, float]]]) -> dict[str, Any]:
    names = measured[_WITHOUT][0].keys()
    pairs = list(zip(measured[_WITH], measured[_WITHOUT], strict=True))
    differences = {name: mean_interval([one[name] - other[name] for one, other in pairs]) for name in names}
    return {
        "share": config.share,
        "tokens": config.training.tokens,
        "seeds": config.seeds,
        "losses": {
            kind: {name: mean_interval([each[name] for each in runs]) for name in names}
            for kind, runs in measured.items()
        },
        "differences": differences,
        "verdict": verdict(differences["judged"]),
    }


def as_text(judgement: Mapping[str, Any]) -> str:
    """The judgement for a terminal."""
    lines = [f"held-out loss in nats a token, 95% over {judgement['seeds']} seeds"]
    for kind, losses in judgement["losses"].items():
        lines.append(f"{kind:<10}{_shown(losses['judged'], '.4f')}")
    for name, difference in judgement["differences"].items():
        lines.append(f"{name:<24}with it {_shown(difference, '+.4f')}")
    return "\n".join([*lines, f"with the data set: {judgement['verdict']}"])


def _shown(interval: Mapping[str, float], form: str) -> str:
    value, low, high = (format(interval[name], form) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
