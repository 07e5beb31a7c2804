"""The reward model learns a ranking, is indifferent to the order in a row, and its loss is the formula's."""

import random
from pathlib import Path

import torch

from herd.align.branches import flatten
from herd.align.comparisons import STRENGTHS, Comparison, encode_rankings
from herd.align.reward import RankingSource, RewardConfig, ranking_loss, response_rewards, reward
from herd.formats.huggingface import load_model
from herd.foundation.files import read_json, write_jsonl
from herd.foundation.progress import Progress
from herd.model.transformer import RewardModel, Transformer
from herd.tokenizer.chat import ChatFormat
from herd.train.schedule import OptimizerConfig

from .conftest import answer, question


def rows(count: int) -> list[dict]:
    """Answers that repeat the word of the question are best, those that only begin with it middling."""
    chance = random.Random(5)
    found = []
    for _ in range(count):
        word = "".join(chance.choices("abcdefgh", k=4))
        edited, chosen, rejected = f"{word}!", f"{word[:2]}?", "??"
        found.append(
            {
                "prompt": question(word),
                "edited": [answer(edited)],
                "chosen": [answer(chosen)],
                "rejected": [answer(rejected)],
                "strength": "significantly better",
            }
        )
    return found


def test_the_loss_is_the_formula_over_all_pairs(chat: ChatFormat, model: Transformer) -> None:
    comparisons = [
        Comparison(row["prompt"], row["chosen"], row["rejected"], row["edited"], [], STRENGTHS[0]) for row in rows(3)
    ]
    trees, dropped = encode_rankings(chat, comparisons, 500)
    assert not any(dropped.values())
    judge = RewardModel.from_transformer(model, seed=1)
    source = RankingSource(trees, 4096, epochs=1, seed=3)
    [batch] = source.batches(0)
    parts = ranking_loss(judge, batch)
    expected = 0.0
    for tree in trees:
        best, middle, worst = response_rewards(judge, flatten([tree]))
        for margin in (best - middle, best - worst, middle - worst):
            expected += torch.log1p(torch.exp(-margin)).item()
    assert parts.weight == 9
    torch.testing.assert_close(parts.total_sum.item(), expected, rtol=1e-4, atol=1e-4)


def test_the_stage_learns_the_ranking(base: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "preferences.jsonl", rows(80))
    out = tmp_path / "reward"
    out.mkdir()
    optimizer = OptimizerConfig(learning_rate=3e-3, schedule="linear", final_fraction=0.0)
    config = RewardConfig(epochs=8, tokens_per_step=1000, optimizer=optimizer, held_out=0.2, compile="off")
    reward(config, base, [tmp_path / "preferences.jsonl"], out, Progress.silent())
    stats = read_json(out / "stats.json")
    assert stats["rankings"] == 64
    assert stats["held_out_pairs"] == 48
    assert stats["flops"] > stats["training"]["flops"]
    assert stats["held_out_accuracy"] > 0.9
    assert isinstance(load_model(out), RewardModel)


def test_weak_comparisons_without_an_edit_are_left_out(chat: ChatFormat) -> None:
    row = rows(1)[0]
    weak = Comparison(row["prompt"], row["chosen"], row["rejected"], None, [], "marginally better")
    edited = Comparison(row["prompt"], row["chosen"], row["rejected"], row["edited"], [], "marginally better")
    trees, dropped = encode_rankings(chat, [weak, edited], 500)
    assert dropped["weak"] == 1
    assert [len(tree.branches) for tree in trees] == [2]
