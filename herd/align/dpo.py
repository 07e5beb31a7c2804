"""Direct preference optimisation with the paper's two changes (section 4.1.4).

    L = -log sigmoid(beta * [(log pi - log ref)(y_c) - (log pi - log ref)(y_r)]) + 0.2 * NLL(y_c) / |y_c|

Formatting tokens (terminators) are masked in both answers and tool results are no part of an answer; the NLL of the
chosen answer is divided by its length (the paper does not say; Pang et al. 2024 divide). The reference is the model
that training starts from; its log-probabilities are computed once, before the first step.

    dpo(DpoConfig(), model=sft_directory, preferences=[newest], out=out, progress=progress)
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from herd.align.branches import BranchAttention, Tree, flatten, response_of, rows_of, source_places
from herd.align.comparisons import encode_rankings, read_comparisons
from herd.align.examples import DealtSource, fill_steps
from herd.align.fit import FitConfig, Team, finish, fit, gather_team, load_chat, load_transformer
from herd.formats.huggingface import load_config
from herd.foundation.errors import HerdError
from herd.foundation.files import atomic_path
from herd.foundation.progress import Progress
from herd.model.loss import token_log_probs
from herd.model.transformer import Transformer
from herd.train.batch import Batch, LossParts
from herd.train.parallel.launch import Alone
from herd.train.processes import OneProcess
from herd.train.schedule import OptimizerConfig


class DpoConfig(FitConfig):
    """The paper's beta and NLL coefficient; its learning rate of 1e-5 is for 8B and more."""

    optimizer: OptimizerConfig = OptimizerConfig(
        learning_rate=1e-4, schedule="linear", final_fraction=0.0, warmup_steps=5, weight_decay=0.0
    )
    tokens_per_step: int = Field(default=4096, gt=0)
    beta: float = Field(default=0.1, gt=0)
    nll: float = Field(default=0.2, ge=0, description="coefficient of the chosen answer's mean negative log-likelihood")


def pair_batch(trees: Sequence[Tree]) -> Batch:
    """Pairs on the flat axis: each tree holds the better answer, then the worse one.

    ``extra`` gains, for the answers' M tokens: ``answer_M`` the token, ``content_M`` whether it counts, ``response_M``
    the number of its answer.
    """
    assert all(len(tree.branches) == 2 for tree in trees), "a pair has two answers"
    batch = flatten(trees)
    branches = [branch for tree in trees for branch in tree.branches]
    batch.extra.update(
        answer_M=torch.tensor([token for branch in branches for token in branch.ids]),
        content_M=torch.tensor([counts for branch in branches for counts in branch.content]),
        response_M=response_of(rows_of(batch)),
    )
    return batch


def answer_log_probs(model: Transformer, batch: Batch) -> tuple[Tensor, Tensor]:
    """Summed log-probabilities (P, 2) of the better and the worse answer of each pair, and how many tokens they sum."""
    rows = rows_of(batch)
    hidden_NE = model(batch.tokens_N, batch.positions_N, BranchAttention(rows))
    content_M, response_M = batch.extra["content_M"], batch.extra["response_M"]
    hidden_CE = hidden_NE[source_places(rows).to(hidden_NE.device)[content_M]]
    log_prob_C = token_log_probs(hidden_CE, model.head_weight, batch.extra["answer_M"][content_M])
    answers = len(batch.extra["branch_R"])
    sums_R = log_prob_C.new_zeros(answers).index_add(0, response_M[content_M], log_prob_C)
    counts_R = torch.bincount(response_M[content_M], minlength=answers)
    return sums_R.view(-1, 2), counts_R.view(-1, 2)


class DpoLoss:
    """The loss of this module's docstring; the reference's log-probabilities come with the batch."""

    def __init__(self, beta: float, nll: float) -> None:
        self.beta, self.nll = beta, nll

    def __call__(self, model: Transformer, batch: Batch) -> LossParts:
        """Summed loss over the pairs; figures: how often the better answer gains on the worse, and by how much."""
        log_prob_P2, count_P2 = answer_log_probs(model, batch)
        gain_P2 = log_prob_P2 - batch.extra["reference_P2"]
        margin_P = self.beta * (gain_P2[:, 0] - gain_P2[:, 1])
        nll_P = -log_prob_P2[:, 0] / count_P2[:, 0].clamp(min=1)
        pairs = len(margin_P)
        figures = {"accuracy": float((margin_P.detach() > 0).sum()), "margin": float(margin_P.detach().sum())}
        return LossParts((-F.logsigmoid(margin_P) + self.nll * nll_P).sum(), float(pairs), figures)


class PairSource(DealtSource):
    """The batches of DPO, each with the reference's log-probabilities of its answers."""

    def __init__(
        self,
        trees: Sequence[Tree],
        reference_P2: Tensor,
        tokens_per_step: int,
        epochs: int,
        seed: int,
        processes: OneProcess | None = None,
    ) -> None:
        if not trees:
            raise HerdError("there is no strong pair to optimise preferences with")
        self._trees, self._reference_P2 = trees, reference_P2
        super().__init__(fill_steps([tree.size for tree in trees], tokens_per_step, epochs, seed), processes)

    def batch(self, items: Sequence[int], step: int) -> Batch:
        """Pairs, and what the reference thinks of them."""
        batch = pair_batch([self._trees[index] for index in items])
        batch.extra["reference_P2"] = self._reference_P2[list(items)]
        return batch


@torch.no_grad()
def reference_log_probs(
    model: Transformer, trees: Sequence[Tree], tokens: int, progress: Progress, team: Team | None = None
) -> Tensor:
    """Log-probabilities (P, 2) of all pairs under the model as it is, whole on every process of the team."""
    team, parts, device = team or gather_team(), torch.zeros(len(trees), 2), next(model.parameters()).device
    steps = team.own(fill_steps([tree.size for tree in trees], tokens, 1, 0))
    for step in progress.track(steps, "reference", unit="batches"):
        batch = pair_batch([trees[index] for index in step]).to(device)
        parts[step] = answer_log_probs(model, batch)[0].cpu()
    return torch.tensor(team.sums(parts.flatten().tolist())).view(-1, 2)


def _stored_reference(
    config: DpoConfig, model: Transformer, trees: Sequence[Tree], out: Path, progress: Progress, team: Team
) -> Tensor:
    """The reference's log-probabilities, read back after an interruption so that the run goes on with equal bits."""
    file = out / "reference.npy"
    if any(team.sums([file.exists() and team.launch.rank == 0])):
        return torch.from_numpy(np.load(file))
    reference_P2 = reference_log_probs(model, trees, config.tokens_per_step, progress, team)
    if team.launch.rank == 0:
        with atomic_path(file) as temporary, temporary.open("wb") as sink:
            np.save(sink, reference_P2.numpy())
    return reference_P2


def dpo(
    config: DpoConfig,
    model: Path,
    preferences: Sequence[Path],
    out: Path,
    progress: Progress,
    launch: Alone | None = None,
    replicas: int = 1,
) -> None:
    """Optimises ``model`` on strong pairs and writes the new model and ``stats.json`` to ``out``.

    On several processes all call it; see ``herd.align.fit.gather_team``.
    """
    team = gather_team(launch, replicas, load_config(model))
    policy, chat = load_transformer(model), load_chat(model)
    trees, dropped = encode_rankings(chat, read_comparisons(preferences), config.longest, pairs_only=True)
    reference_P2 = _stored_reference(config, policy, trees, out, progress, team)
    source = PairSource(trees, reference_P2, config.tokens_per_step, config.epochs, config.seed, team.processes)
    loss = DpoLoss(config.beta, config.nll)
    policy, report = fit(config, policy, source, loss, out, progress, "preferences", team)
    after_P2 = reference_log_probs(policy.eval(), trees, config.tokens_per_step, progress, team)
    gain_P2 = after_P2 - reference_P2
    read = 2 * sum(tree.forward_flops(policy.config) for tree in trees)  # by the reference, and at the end
    figures = {
        "flops": report.figures["flops"] + read,
        "pairs": len(trees),
        "dropped": dropped,
        "accuracy": (gain_P2[:, 0] > gain_P2[:, 1]).float().mean().item(),
        "mean_gain_better": gain_P2[:, 0].mean().item(),
        "mean_gain_worse": gain_P2[:, 1].mean().item(),
    }
    finish(policy, model, out, report, figures, team)
