"""Dialogues as batches: golden masks, packed equals alone, a batch without a target, a run that learns its answers."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from herd.align.examples import DialogueSource, Example, encode_dialogue, encode_dialogues, fill_steps, pack
from herd.align.sft import SftConfig, sft, upsampled
from herd.formats.huggingface import load_model
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, write_jsonl
from herd.foundation.progress import Progress
from herd.model.loss import IGNORE
from herd.model.transformer import Transformer
from herd.tokenizer.chat import ChatFormat
from herd.train.batch import next_token_loss
from herd.train.schedule import OptimizerConfig

from .conftest import answer, call, question, result

DIALOGUES = [
    {"messages": [*question("Hello!"), answer("Hi!")]},
    {
        "messages": [
            *question("What is 6 * 7?"),
            call("python", '{"code": "6 * 7"}'),
            result("completed\n[stdout]42[/stdout]"),
            answer("42"),
        ],
        "tools": ["python"],
    },
]


def test_targets_are_what_the_assistant_says_and_nothing_else(chat: ChatFormat) -> None:
    example = encode_dialogue(chat, DIALOGUES[1])
    learnt = [target for target in example.targets if target != IGNORE]
    assert chat.tokenizer.decode(learnt) == "<|python_tag|>6 * 7<|eom_id|>42<|eot_id|>"
    for place, target in enumerate(example.targets[:-1]):
        assert target in (IGNORE, example.tokens[place + 1])


def test_packed_dialogues_lose_what_each_loses_alone(chat: ChatFormat, model: Transformer) -> None:
    examples = [encode_dialogue(chat, row) for row in [*DIALOGUES, *DIALOGUES[::-1]]]
    packed = next_token_loss(model, pack(examples))
    alone = [next_token_loss(model, pack([example])) for example in examples]
    assert packed.weight == sum(parts.weight for parts in alone)
    torch.testing.assert_close(packed.total_sum, sum(parts.total_sum for parts in alone), rtol=1e-5, atol=1e-4)


def test_a_batch_without_a_target_loses_nothing_and_has_a_gradient(model: Transformer) -> None:
    parts = next_token_loss(model, pack([Example([1, 2, 3], [IGNORE] * 3)]))
    parts.total_sum.backward()
    assert parts.total_sum.item() == 0
    assert parts.weight == 0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


def test_long_and_silent_dialogues_are_left_out_and_counted(chat: ChatFormat) -> None:
    rows = [*DIALOGUES, {"messages": question("Nobody answers.")}, {"messages": [*question("x" * 500), answer("y")]}]
    examples, dropped = encode_dialogues(chat, rows, longest=300)
    assert len(examples) == 2
    assert dropped == {"too long": 1, "nothing to learn": 1}


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 80), st.integers(1, 3))
def test_every_epoch_reads_everything_once_in_steps_that_fit(sizes: list[int], limit: int, epochs: int) -> None:
    steps = fill_steps(sizes, limit, epochs, seed=1)
    read = [item for step in steps for item in step]
    for epoch in range(epochs):
        assert sorted(read[epoch * len(sizes) : (epoch + 1) * len(sizes)]) == list(range(len(sizes)))
    assert all(len(step) == 1 or sum(sizes[item] for item in step) <= limit for step in steps)
    assert steps == fill_steps(sizes, limit, epochs, seed=1)


def test_no_dialogue_is_a_mistake_of_the_user() -> None:
    with pytest.raises(HerdError, match="no dialogue"):
        DialogueSource([], 100, 1, 0)


def test_finetuning_learns_its_dialogues(base: Path, tmp_path: Path, chat: ChatFormat) -> None:
    write_jsonl(tmp_path / "dialogues.jsonl", DIALOGUES)
    out = tmp_path / "chat"
    out.mkdir()
    optimizer = OptimizerConfig(learning_rate=1e-2, schedule="linear", final_fraction=0.0)
    config = SftConfig(epochs=60, tokens_per_step=400, optimizer=optimizer, compile="off")
    sft(config, base, [tmp_path / "dialogues.jsonl"], out, Progress.silent())
    stats = read_json(out / "stats.json")
    assert stats["dialogues"] == 2
    assert stats["training"]["closing_loss"] < 0.2
    assert json.loads((out / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    tuned = load_model(out)
    parts = next_token_loss(tuned, pack([encode_dialogue(chat, row) for row in DIALOGUES]))
    assert parts.total_sum.item() / parts.weight < 0.2


def test_rare_kinds_are_read_several_times_and_common_ones_once() -> None:
    rows = [
        {"kind": "lookup", "messages": [{"role": "user", "content": "Hello!"}], "number": number}
        for number in range(97)
    ]
    rows += [
        {"kind": "talk", "messages": [{"role": "user", "content": "Hello!"}], "number": number} for number in range(2)
    ]
    rows.append({"kind": "refuse", "messages": [{"role": "user", "content": "Hello!"}], "number": 0})
    found = upsampled(rows, least_share=0.04, most_copies=3)
    assert [row for row in found if row["kind"] == "lookup"] == rows[:97]
    assert sum(row["kind"] == "talk" for row in found) == 4
    assert sum(row["kind"] == "refuse" for row in found) == 3
    assert upsampled(rows, least_share=0, most_copies=8) == rows
    unnamed = [{"messages": [{"role": "user", "content": "Hello!"}]}] * 3
    assert upsampled(unnamed, least_share=0.05, most_copies=8) == unnamed
