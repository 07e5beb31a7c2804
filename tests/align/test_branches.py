"""A row with one prompt and several responses gives what each response alone gives."""

import torch

from herd.align.branches import (
    BranchAttention,
    Tree,
    encode_tree,
    flatten,
    last_places,
    response_of,
    rows_of,
    source_places,
)
from herd.model.attention import DocumentAttention
from herd.model.transformer import Transformer
from herd.tokenizer.chat import ChatFormat

from .conftest import answer, call, question, result


def trees_of(chat: ChatFormat) -> list[Tree]:
    tools = ["search", "python"]
    first = [call("python", '{"code": "1 + 1"}'), result("completed\n[stdout]2[/stdout]"), answer("2")]
    return [
        encode_tree(chat, question("What is 1 + 1?"), [first, [answer("3")], [answer("I do not know.")]], tools),
        encode_tree(chat, question("Hello!"), [[answer("Hi!")], [answer("No.")]], None),
    ]


def test_every_response_reads_as_if_it_stood_alone_behind_its_prompt(chat: ChatFormat, model: Transformer) -> None:
    trees = trees_of(chat)
    batch = flatten(trees)
    rows = rows_of(batch)
    hidden_NE = model(batch.tokens_N, batch.positions_N, BranchAttention(rows))
    for tree, row in zip(trees, rows, strict=True):
        for branch, start, end in zip(tree.branches, row.starts, row.ends, strict=True):
            alone = torch.tensor(tree.prompt + branch.ids)
            expected_NE = model(alone, torch.arange(len(alone)), DocumentAttention([len(alone)]))
            torch.testing.assert_close(hidden_NE[start:end], expected_NE[len(tree.prompt) :], atol=1e-5, rtol=1e-5)


def test_a_change_in_one_response_moves_no_other(chat: ChatFormat, model: Transformer) -> None:
    trees = trees_of(chat)
    batch = flatten(trees)
    rows = rows_of(batch)
    before_NE = model(batch.tokens_N, batch.positions_N, BranchAttention(rows))
    changed = rows[0].starts[1]
    batch.tokens_N[changed] = 65 if batch.tokens_N[changed] != 65 else 66
    after_NE = model(batch.tokens_N, batch.positions_N, BranchAttention(rows))
    moved = (before_NE - after_NE).abs().amax(1) > 1e-7
    assert set(moved.nonzero().squeeze(1).tolist()) <= set(range(changed, rows[0].ends[1]))
    assert moved[changed]


def test_places_of_sources_and_ends(chat: ChatFormat) -> None:
    trees = trees_of(chat)
    batch = flatten(trees)
    rows = rows_of(batch)
    sources = source_places(rows)
    responses = response_of(rows)
    answers = torch.tensor([token for tree in trees for branch in tree.branches for token in branch.ids])
    assert len(sources) == len(answers) == len(responses)
    first = [int((responses == number).nonzero()[0]) for number in range(5)]
    assert [int(sources[place]) for place in first] == [rows[0].trunk_end - 1] * 3 + [rows[1].trunk_end - 1] * 2
    inner = torch.ones(len(sources), dtype=torch.bool)
    inner[first] = False
    assert torch.equal(batch.tokens_N[sources[inner] + 1], answers[inner])
    assert batch.tokens_N[last_places(rows)].tolist() == [branch.ids[-1] for tree in trees for branch in tree.branches]
