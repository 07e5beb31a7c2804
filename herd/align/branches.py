"""A prompt and several responses in one row, where every response sees the prompt and none sees another.

The paper concatenates the prompt and its responses, in random order, into one row (section 4.1.2). Here the row is a
tree: the prompt is the trunk, the responses branch off its end, each counts its positions from there, and attention
follows the branches. The values are those of every prompt and response alone, at the cost of one prompt
(tests/align/test_branches.py), so the order of the responses cannot matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from herd.align.examples import encode_messages
from herd.foundation.errors import HerdError
from herd.model.config import ModelConfig
from herd.model.loss import IGNORE
from herd.tokenizer.chat import ChatFormat, Message
from herd.train.batch import Batch


@dataclass(frozen=True)
class Branch:
    """The tokens of a response: what the assistant says (``trained``), and that without terminators (``content``)."""

    ids: list[int]
    trained: list[bool]
    content: list[bool]


@dataclass(frozen=True)
class Tree:
    """A prompt, up to and with the header of the answer, and the responses to it."""

    prompt: list[int]
    branches: list[Branch]

    @property
    def size(self) -> int:
        """Tokens of the row."""
        return len(self.prompt) + sum(len(branch.ids) for branch in self.branches)

    def forward_flops(self, shape: ModelConfig) -> float:
        """What a network of this shape takes to read the row once."""
        trunk, lengths = len(self.prompt), [len(branch.ids) for branch in self.branches]
        seen = trunk * (trunk + 1) / 2 + sum(length * trunk + length * (length + 1) / 2 for length in lengths)
        return shape.forward_flops(self.size, seen)


def encode_tree(
    chat: ChatFormat, prompt: Sequence[Message], responses: Sequence[Sequence[Message]], tools: Sequence[Any] | None
) -> Tree:
    """Encodes a prompt and its responses, each of which begins with the assistant and may hold calls and their results.

    Raises ``HerdError`` for what the chat encoder refuses, and for a response without a token: what it is worth could
    be read nowhere.
    """
    trunk = chat.encode(prompt, tools=tools, open_assistant=True).ids
    branches = []
    for response in responses:
        whole = encode_messages(chat, [*prompt, *response], tools)
        assert whole.ids[: len(trunk)] == trunk, "the chat encoder's prompt is not a prefix of the dialogue"
        start = len(trunk)
        if len(whole.ids) == start:
            raise HerdError("a response holds no token")
        branches.append(Branch(whole.ids[start:], whole.mask[start:], whole.content_mask[start:]))
    return Tree(trunk, branches)


@dataclass(frozen=True)
class Row:
    """Where a tree lies on the flat axis: its trunk, and ``starts[b]`` to ``ends[b]`` for branch ``b``."""

    begin: int
    trunk_end: int
    starts: list[int]
    ends: list[int]

    @property
    def end(self) -> int:
        """The first place after the row."""
        return self.ends[-1]


def lay_out(trunks: Sequence[int], branches: Sequence[Sequence[int]]) -> list[Row]:
    """The places of trees that follow one another, from the lengths of their trunks and of their branches."""
    rows, place = [], 0
    for trunk, lengths in zip(trunks, branches, strict=True):
        ends = [place + trunk + end for end in accumulate(lengths)]
        rows.append(Row(place, place + trunk, [end - length for end, length in zip(ends, lengths, strict=True)], ends))
        place = ends[-1]
    return rows


def flatten(trees: Sequence[Tree]) -> Batch:
    """Trees on the flat axis; ``extra`` holds their shapes, from which ``rows_of`` finds the places again.

    ``targets_N`` holds no target: a token at a fork has several successors, so losses gather their own
    (``response_places``).
    """
    tokens: list[int] = []
    positions: list[int] = []
    for tree in trees:
        trunk = len(tree.prompt)
        tokens += tree.prompt
        positions += range(trunk)
        for branch in tree.branches:
            tokens += branch.ids
            positions += range(trunk, trunk + len(branch.ids))
    shapes = {
        "trunk_T": [len(tree.prompt) for tree in trees],
        "forks_T": [len(tree.branches) for tree in trees],
        "branch_R": [len(branch.ids) for tree in trees for branch in tree.branches],
    }
    return Batch(
        tokens_N=torch.tensor(tokens),
        positions_N=torch.tensor(positions),
        targets_N=torch.full((len(tokens),), IGNORE),
        lengths=[tree.size for tree in trees],
        extra={name: torch.tensor(values) for name, values in shapes.items()},
    )


def rows_of(batch: Batch) -> list[Row]:
    """The places of the trees in a batch that ``flatten`` made."""
    lengths = iter(batch.extra["branch_R"].tolist())
    branches = [list(islice(lengths, forks)) for forks in batch.extra["forks_T"].tolist()]
    return lay_out(batch.extra["trunk_T"].tolist(), branches)


class BranchAttention:
    """Attention along the branches of trees: causal in the trunk and in each branch, and from a branch to its trunk."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._masks: list[Tensor] | None = None

    def __call__(self, layer: int, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor) -> Tensor:
        """Attended values (N, H, D); the same rule in every layer."""
        if self._masks is None:
            self._masks = [_mask(row).to(q_NHD.device) for row in self._rows]
        parts = [
            self._attend(mask, *(x[row.begin : row.end] for x in (q_NHD, k_NKD, v_NKD)))
            for row, mask in zip(self._rows, self._masks, strict=True)
        ]
        return torch.cat(parts)

    @staticmethod
    def _attend(mask: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q_1HTD, k_1KTD, v_1KTD = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        out_1HTD = F.scaled_dot_product_attention(q_1HTD, k_1KTD, v_1KTD, attn_mask=mask, enable_gqa=True)
        return out_1HTD.squeeze(0).transpose(0, 1)


def _mask(row: Row) -> Tensor:
    """What each token of a row may see (T, T): true where it may."""
    size, trunk = row.end - row.begin, row.trunk_end - row.begin
    branch_T = torch.full((size,), -1)
    for number, (start, end) in enumerate(zip(row.starts, row.ends, strict=True)):
        branch_T[start - row.begin : end - row.begin] = number
    same = branch_T[:, None] == branch_T[None, :]
    to_trunk = (torch.arange(size) < trunk)[None, :]
    return (same | to_trunk) & torch.ones(size, size, dtype=torch.bool).tril()


def last_places(rows: Sequence[Row]) -> Tensor:
    """The place of every response's last token, in order: where the reward is read."""
    return torch.tensor([end - 1 for row in rows for end in row.ends])


def source_places(rows: Sequence[Row]) -> Tensor:
    """For every token of every response, in order, the place whose hidden state predicts it.

    The first token of each response is predicted by the end of the prompt, which they share.
    """
    places: list[int] = []
    for row in rows:
        for start, end in zip(row.starts, row.ends, strict=True):
            places += [row.trunk_end - 1, *range(start, end - 1)]
    return torch.tensor(places)


def response_of(rows: Sequence[Row]) -> Tensor:
    """For every token of every response, in order, the number of its response."""
    lengths = [end - start for row in rows for start, end in zip(row.starts, row.ends, strict=True)]
    return torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
