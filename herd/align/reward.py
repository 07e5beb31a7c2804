"""The reward model: a scalar for a dialogue, trained on rankings from the base model (paper, section 4.1.2).

    reward(RewardConfig(), base=base_directory, preferences=[first, second], out=out, progress=progress)

The loss is -log sigmoid(r(better) - r(worse)), without a margin, over all pairs of edited > chosen > rejected.
The prompt and its responses stand in one row (``branches``). The result is a ``LlamaForSequenceClassification``.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from herd.align.branches import BranchAttention, Tree, flatten, last_places, rows_of
from herd.align.comparisons import encode_rankings, read_comparisons
from herd.align.examples import fill_steps
from herd.align.fit import FitConfig, finish, fit, load_chat, load_transformer
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.foundation.seeds import random_from
from herd.model.transformer import RewardModel
from herd.train.batch import Batch, LossParts
from herd.train.schedule import OptimizerConfig


class RewardConfig(FitConfig):
    """Training of the reward model; ``held_out`` of the rankings are kept to measure its accuracy."""

    optimizer: OptimizerConfig = OptimizerConfig(
        learning_rate=5e-4, schedule="linear", final_fraction=0.0, warmup_steps=10
    )
    epochs: int = 2
    tokens_per_step: int = 4096
    held_out: float = Field(default=0.1, ge=0, lt=1)


class RankingSource:
    """The batches of the reward model; the responses of every row come in an order drawn from the seed."""

    def __init__(self, trees: Sequence[Tree], tokens_per_step: int, epochs: int, seed: int) -> None:
        if not trees:
            raise HerdError("there is no comparison to train a reward model on")
        self._trees, self._seed = trees, seed
        self._steps = fill_steps([tree.size for tree in trees], tokens_per_step, epochs, seed)

    @property
    def steps(self) -> int:
        """Number of steps in all epochs."""
        return len(self._steps)

    def batches(self, step: int) -> list[Batch]:
        """The one micro-batch of a step."""
        return [self._batch([self._trees[index] for index in self._steps[step]], step)]

    def _batch(self, trees: Sequence[Tree], step: int) -> Batch:
        chance = random_from(self._seed, "responses", step)
        shuffled, better, worse, offset = [], [], [], 0
        for tree in trees:
            order = list(range(len(tree.branches)))
            chance.shuffle(order)
            shuffled.append(Tree(tree.prompt, [tree.branches[rank] for rank in order]))
            place = {rank: offset + index for index, rank in enumerate(order)}
            pairs = [(place[a], place[b]) for a in place for b in place if a < b]
            better += [pair[0] for pair in pairs]
            worse += [pair[1] for pair in pairs]
            offset += len(order)
        return rewards_batch(shuffled, better, worse)


def rewards_batch(trees: Sequence[Tree], better: Sequence[int], worse: Sequence[int]) -> Batch:
    """A batch of trees with the pairs of responses (numbered through all trees) that the loss compares."""
    batch = flatten(trees)
    batch.extra.update(better_P=torch.tensor(better), worse_P=torch.tensor(worse))
    return batch


def response_rewards(model: RewardModel, batch: Batch) -> Tensor:
    """The rewards (R,) of all responses of a batch of trees, each read at its last token."""
    rows = rows_of(batch)
    reward_N = model(batch.tokens_N, batch.positions_N, BranchAttention(rows))
    return reward_N[last_places(rows).to(reward_N.device)]


def ranking_loss(model: RewardModel, batch: Batch) -> LossParts:
    """Summed -log sigmoid(r(better) - r(worse)) over the pairs, and their number."""
    reward_R = response_rewards(model, batch)
    margin_P = reward_R[batch.extra["better_P"]] - reward_R[batch.extra["worse_P"]]
    right = float((margin_P.detach() > 0).sum())
    return LossParts(-F.logsigmoid(margin_P).sum(), len(margin_P), {"accuracy": right})


@torch.no_grad()
def pair_accuracy(model: RewardModel, trees: Sequence[Tree]) -> tuple[float, int]:
    """The share of pairs that the reward model ranks rightly, and the number of pairs; branches are best first."""
    right = pairs = 0
    for tree in trees:
        rewards = response_rewards(model, flatten([tree])).tolist()
        outcomes = [better > worse for place, better in enumerate(rewards) for worse in rewards[place + 1 :]]
        right += sum(outcomes)
        pairs += len(outcomes)
    return right / max(pairs, 1), pairs


def reward(config: RewardConfig, base: Path, preferences: Sequence[Path], out: Path, progress: Progress) -> None:
    """Trains a reward model from ``base`` on all rankings so far; writes it and ``stats.json`` to ``out``."""
    chat = load_chat(base)
    comparisons = read_comparisons(preferences)
    trees, dropped = encode_rankings(chat, comparisons, config.longest)
    random_from(config.seed, "held out").shuffle(trees)
    kept = round(config.held_out * len(trees))
    held_out, trained = trees[:kept], trees[kept:]
    model = RewardModel.from_transformer(load_transformer(base), config.seed)
    source = RankingSource(trained, config.tokens_per_step, config.epochs, config.seed)
    report = fit(config, model, source, ranking_loss, out, progress, "reward model")
    accuracy, pairs = pair_accuracy(model.eval(), held_out)
    read = sum(tree.forward_flops(model.config) for tree in held_out)
    figures = {
        "flops": report.figures["flops"] + read,
        "rankings": len(trained),
        "dropped": dropped,
        "held_out_pairs": pairs,
        "held_out_accuracy": accuracy if pairs else None,
    }
    finish(model, base, out, report, figures)
