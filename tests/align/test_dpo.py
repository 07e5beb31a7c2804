"""The DPO loss against a formula written apart, with every answer run alone and through plain autograd."""

import math
from pathlib import Path

import torch
from torch import Tensor

from herd.align.branches import Tree, encode_tree
from herd.align.dpo import DpoConfig, DpoLoss, dpo, pair_batch, reference_log_probs
from herd.foundation.files import read_json, write_jsonl
from herd.foundation.progress import Progress
from herd.model.attention import DocumentAttention
from herd.model.transformer import Transformer
from herd.tokenizer.chat import ChatFormat
from herd.train.schedule import OptimizerConfig

from .conftest import answer, call, question, result

PAIRS = [
    (
        question("What is 6 * 7?"),
        [call("python", '{"code": "6 * 7"}'), result("42"), answer("42")],
        [answer("I guess 41.")],
    ),
    (question("Hello!"), [answer("Hi! Ask me.")], [answer("No.")]),
]


def pairs(chat: ChatFormat) -> list[Tree]:
    return [encode_tree(chat, prompt, [better, worse], ["python"]) for prompt, better, worse in PAIRS]


def alone(model: Transformer, tree: Tree, index: int) -> Tensor:
    """log p of the content tokens of one answer, by a whole forward pass and a plain log-softmax."""
    branch = tree.branches[index]
    tokens = torch.tensor(tree.prompt + branch.ids)
    hidden = model(tokens, torch.arange(len(tokens)), DocumentAttention([len(tokens)]))
    log_probs = torch.log_softmax(hidden @ model.head_weight.T, -1)
    start = len(tree.prompt)
    places = [start + place for place, counts in enumerate(branch.content) if counts]
    return torch.stack([log_probs[place - 1, tokens[place]] for place in places])


def expected_loss(model: Transformer, reference: list[tuple[float, float]], trees: list[Tree]) -> Tensor:
    total = torch.zeros(())
    for tree, (chosen, rejected) in zip(trees, reference, strict=True):
        better, worse = alone(model, tree, 0), alone(model, tree, 1)
        margin = 0.1 * ((better.sum() - chosen) - (worse.sum() - rejected))
        total = total + torch.log1p(torch.exp(-margin)) - 0.2 * better.mean()
    return total


def test_loss_and_gradient_are_those_of_the_formula(chat: ChatFormat, model: Transformer) -> None:
    trees = pairs(chat)
    reference = [(-30.0, -41.5), (-60.0, -17.0)]
    batch = pair_batch(trees)
    batch.extra["reference_P2"] = torch.tensor(reference)
    parts = DpoLoss(beta=0.1, nll=0.2)(model, batch)
    parts.total_sum.backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    expected = expected_loss(model, reference, trees)
    expected.backward()
    torch.testing.assert_close(parts.total_sum, expected, rtol=1e-5, atol=1e-5)
    assert parts.weight == 2
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-3, atol=1e-5)


def test_terminators_and_tool_results_do_not_count(chat: ChatFormat) -> None:
    batch = pair_batch(pairs(chat)[:1])
    first = batch.extra["response_M"] == 0
    counted = batch.extra["answer_M"][first & batch.extra["content_M"]].tolist()
    assert chat.tokenizer.decode(counted) == "<|python_tag|>6 * 742"


def test_at_the_start_the_loss_is_ln_2_and_the_nll(chat: ChatFormat, model: Transformer) -> None:
    trees = pairs(chat)
    batch = pair_batch(trees)
    batch.extra["reference_P2"] = reference_log_probs(model, trees, 4096, Progress.silent())
    parts = DpoLoss(beta=0.1, nll=0.0)(model, batch)
    assert math.isclose(parts.total_sum.item(), 2 * math.log(2), rel_tol=1e-4)


def test_the_stage_prefers_the_better_answers(base: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": prompt, "chosen": better, "rejected": worse, "tools": ["python"], "strength": "better"}
        for prompt, better, worse in PAIRS
    ]
    weak = {**rows[1], "strength": "slightly better"}
    write_jsonl(tmp_path / "preferences.jsonl", [*rows, weak])
    out = tmp_path / "dpo"
    out.mkdir()
    config = DpoConfig(epochs=10, optimizer=OptimizerConfig(learning_rate=2e-3, schedule="constant"), compile="off")
    dpo(config, base, [tmp_path / "preferences.jsonl"], out, Progress.silent())
    stats = read_json(out / "stats.json")
    assert stats["pairs"] == 2
    assert stats["dropped"]["weak"] == 1
    assert stats["accuracy"] == 1.0
    assert stats["mean_gain_better"] > stats["mean_gain_worse"] + 1
