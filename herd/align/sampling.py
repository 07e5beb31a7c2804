"""Rejection sampling: many answers to a prompt, the reward model's best becomes training data (paper, section 4.2.2).

    rejection_sample(RejectionConfig(), model=chat, reward_model=judge, tasks=tasks, tools=tools, out=out, ...)

The paper takes K of 10 to 30. All answers to a prompt are scored in one row (``branches``). Where a verifier can tell
right from wrong, it has the last word, as execution feedback has in the paper (section 4.3.1): a best answer that is
wrong is kept apart with its reason, and so is one that holds what the evaluation asks or expects. The verdicts also
measure the reward model.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from herd.align.branches import encode_tree, flatten
from herd.align.conversations import Answer, SamplingConfig, answer_tasks, choose_tasks
from herd.align.decontamination import Decontaminator
from herd.align.fit import load_reward_model
from herd.align.reward import response_rewards
from herd.foundation.config import Config
from herd.foundation.files import write_json, write_jsonl
from herd.foundation.progress import Progress
from herd.infer.engine import Engine
from herd.model.transformer import RewardModel
from herd.tasks.task import Task, read_tasks
from herd.tokenizer.chat import ChatFormat
from herd.tools.registry import Tool

_RIGHT = 3


class RejectionConfig(Config):
    """K answers to each of the prompts; ``verified`` leaves out best answers that the verifier finds wrong."""

    seed: int = 7
    prompts: int = Field(default=64, gt=0)
    answers: int = Field(default=10, ge=2)
    verified: bool = True
    sampling: SamplingConfig = SamplingConfig(temperature=0.8)


@torch.no_grad()
def score_answers(
    judge: RewardModel, chat: ChatFormat, task: Task, answers: Sequence[Answer]
) -> tuple[list[float], float]:
    """The reward of every answer to a task, and the FLOPs that it took to read them."""
    tree = encode_tree(chat, task.messages, [answer.clean for answer in answers], task.tools)
    rewards = [float(reward) for reward in response_rewards(judge, flatten([tree]))]
    return rewards, tree.forward_flops(judge.config)


def rejection_sample(
    config: RejectionConfig,
    model: Path,
    reward_model: Path,
    tasks: Path,
    tools: Mapping[str, Tool],
    out: Path,
    progress: Progress,
) -> None:
    """Writes ``dialogues.jsonl`` (the best answers), ``rejects.jsonl`` and ``stats.json`` to ``out``."""
    engine, judge = Engine.load(model), load_reward_model(reward_model).eval()
    asked = choose_tasks(list(read_tasks(tasks, "train")), config.prompts, config.seed, "rejection")
    answers = answer_tasks(engine, asked, tools, config.sampling, config.answers, config.seed, progress)
    rows: list[dict[str, Any]] = []
    rewards: list[list[float]] = []
    flops = engine.flops
    for task, found in progress.track(list(zip(asked, answers, strict=True)), "scoring answers", unit="prompts"):
        scores, read = score_answers(judge, engine.chat, task, found)
        flops += read
        rewards.append(scores)
        rows.append(_best_row(task, found, scores))
    kept, rejected = divide(rows, config.verified, Decontaminator.read(tasks))
    write_jsonl(out / "dialogues.jsonl", kept)
    write_jsonl(out / "rejects.jsonl", rejected)
    figures = {"kept": len(kept), **judge_figures(answers, rewards), "by_kind": _by_kind(kept), "flops": flops}
    write_json(out / "stats.json", figures)


def divide(
    rows: Sequence[dict[str, Any]], verified: bool, leaks: Decontaminator
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Best answers to train on, and those to leave out with the reason: wrong where that counts, or a leak."""
    kept, rejected = [], []
    for row in rows:
        leak = leaks.why(row["messages"])
        if leak is None and (row["level"] == _RIGHT or not verified):
            kept.append(row)
        else:
            rejected.append({**row, "why": leak or row["why"]})
    return kept, rejected


def _best_row(task: Task, answers: Sequence[Answer], rewards: Sequence[float]) -> dict[str, Any]:
    best = max(range(len(answers)), key=lambda index: (rewards[index], -index))
    answer = answers[best]
    return {
        "messages": [*task.messages, *answer.clean],
        "tools": task.tools,
        "task": task.id,
        "kind": task.kind,
        "make": "sampled",
        "reward": round(rewards[best], 4),
        "level": answer.level,
        "why": answer.verdict.reason,
    }


def _by_kind(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return dict(Counter(str(row["kind"]) for row in rows))


def judge_figures(answers: Sequence[Sequence[Answer]], rewards: Sequence[Sequence[float]]) -> dict[str, Any]:
    """What the verifiers say of the reward model.

    ``right_mean``: a drawn answer is right; ``right_best``: the best by reward is; ``right_any``: one of K is;
    ``pair_accuracy``: of a right and a wrong answer to one prompt the right one has the higher reward.
    """
    right_best = right_any = pairs = ordered = 0
    total = right = 0
    for found, scores in zip(answers, rewards, strict=True):
        good = [score for answer, score in zip(found, scores, strict=True) if answer.level == _RIGHT]
        bad = [score for answer, score in zip(found, scores, strict=True) if answer.level < _RIGHT]
        total, right = total + len(found), right + len(good)
        right_any += bool(good)
        right_best += bool(good) and (not bad or max(good) > max(bad))
        pairs += len(good) * len(bad)
        ordered += sum(better > worse for better in good for worse in bad)
    prompts = max(len(answers), 1)
    return {
        "prompts": len(answers),
        "answers": total,
        "right_mean": right / max(total, 1),
        "right_best": right_best / prompts,
        "right_any": right_any / prompts,
        "pairs": pairs,
        "pair_accuracy": ordered / pairs if pairs else None,
    }
