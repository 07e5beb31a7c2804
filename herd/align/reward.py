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
from herd.align.examples import DealtSource, fill_steps
from herd.align.fit import FitConfig, finish, fit, gather_team, load_chat, load_transformer
from herd.formats.huggingface import load_config
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.foundation.seeds import random_from
from herd.model.transformer import RewardModel
from herd.train.batch import Batch, LossParts
from herd.train.parallel.launch import Alone
from herd.train.processes import OneProcess
from herd.train.schedule import OptimizerConfig


class RewardConfig(FitConfig):
    """Training of the reward model; ``held_out`` of the rankings are kept to measure its accuracy."""

    optimizer: OptimizerConfig = OptimizerConfig(
        learning_rate=5e-4, schedule="linear", final_fraction=0.0, warmup_steps=10
    )
    epochs: int = 2
    tokens_per_step: int = 4096
    held_out: float = Field(default=0.1, ge=0, lt=1)


class RankingSource(DealtSource):
    """The batches of the reward model; the responses of every row come in an order drawn from the seed."""

    def __init__(
        self,
        trees: Sequence[Tree],
        tokens_per_step: int,
        epochs: int,
        seed: int,
        processes: OneProcess | None = None,
    ) -> None:
        if not trees:
            raise HerdError("there is no comparison to train a reward model on")
        self._trees, self._seed = trees, seed
        super().__init__(fill_steps([tree.size for tree in trees], tokens_per_step, epochs, seed), processes)

    def _orders(self, step: int) -> dict[int, list[int]]:
        """The order of every row's responses, drawn for all rows of the step, whichever a process takes."""
        chance = random_from(self._seed, "responses", step)
        orders = {index: list(range(len(self._trees[index].branches))) for index in self._steps[step]}
        for order in orders.values():
            chance.shuffle(order)
        return orders

    def batch(self, items: Sequence[int], step: int) -> Batch:
        """Rows of a prompt and its responses, and the pairs to compare."""
        orders = self._orders(step)
        shuffled, better, worse, offset = [], [], [], 0
        for index in items:
            tree, order = self._trees[index], orders[index]
            shuffled.append(Tree(tree.prompt, [tree.branches[rank] for rank in order]))
            place = {rank: offset + position for position, rank in enumerate(order)}
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
def pairs_right(model: RewardModel, trees: Sequence[Tree]) -> tuple[int, int]:
    """How many pairs the reward model ranks rightly, and the number of pairs; branches are best first."""
    right = pairs = 0
    device = next(model.parameters()).device
    for tree in trees:
        rewards = response_rewards(model, flatten([tree]).to(device)).tolist()
        outcomes = [better > worse for place, better in enumerate(rewards) for worse in rewards[place + 1 :]]
        right += sum(outcomes)
        pairs += len(outcomes)
    return right, pairs


def reward(
    config: RewardConfig,
    base: Path,
    preferences: Sequence[Path],
    out: Path,
    progress: Progress,
    launch: Alone | None = None,
    replicas: int = 1,
) -> None:
    """Trains a reward model from ``base`` on all rankings so far; writes it and ``stats.json`` to ``out``.

    On several processes all call it; see ``herd.align.fit.gather_team``.
    """
    team, chat = gather_team(launch, replicas, load_config(base)), load_chat(base)
    comparisons = read_comparisons(preferences)
    trees, dropped = encode_rankings(chat, comparisons, config.longest)
    random_from(config.seed, "held out").shuffle(trees)
    kept = round(config.held_out * len(trees))
    held_out, trained = trees[:kept], trees[kept:]
    model = RewardModel.from_transformer(load_transformer(base), config.seed)
    source = RankingSource(trained, config.tokens_per_step, config.epochs, config.seed, team.processes)
    model, report = fit(config, model, source, ranking_loss, out, progress, "reward model", team)
    right, pairs = team.sums(pairs_right(model.eval(), team.own(held_out)))
    read = sum(tree.forward_flops(model.config) for tree in held_out)
    figures = {
        "flops": report.figures["flops"] + read,
        "rankings": len(trained),
        "dropped": dropped,
        "held_out_pairs": int(pairs),
        "held_out_accuracy": right / pairs if pairs else None,
    }
    finish(model, base, out, report, figures, team)
