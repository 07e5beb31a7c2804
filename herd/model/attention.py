"""What a token of a training batch may see: its own document, up to itself.

A dense mask over a packed row costs the square of the row; documents cost only the sum of their own squares.  So the
documents are gathered into groups of similar length, each group is padded at its end to a rectangle and goes through
one causal attention call.  Padding at the end is exact: a real token never looks at what comes after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from herd.foundation.errors import HerdError

# A document joins a group whose longest member is at most this many times its own length: a quarter more rows
# to read against one call to the kernel less.
_PADDING = 1.25


@dataclass(frozen=True)
class _Group:
    """Documents that share one call: their indices and the length to which they are padded."""

    documents: list[int]
    length: int


def _group(lengths: Sequence[int]) -> list[_Group]:
    groups: list[_Group] = []
    for document in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if groups and groups[-1].length <= _PADDING * lengths[document]:
            groups[-1].documents.append(document)
        else:
            groups.append(_Group([document], lengths[document]))
    return groups


class _Pack(torch.autograd.Function):
    """Tokens to padded rows; the gradient of padding is dropped, which is exact because nothing real reads it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return x.index_select(0, there)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (back,) = ctx.saved_tensors
        return grad.index_select(0, back), None, None


class _Unpack(torch.autograd.Function):
    """Padded rows to tokens; the gradient of padding is zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        ctx.rows = len(x)
        return x.index_select(0, back)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (back,) = ctx.saved_tensors
        return grad.new_zeros(ctx.rows, *grad.shape[1:]).index_copy_(0, back, grad), None


def _causal(q_BLHD: Tensor, k_BLKD: Tensor, v_BLKD: Tensor) -> Tensor:
    out_BHLD = F.scaled_dot_product_attention(
        q_BLHD.transpose(1, 2), k_BLKD.transpose(1, 2), v_BLKD.transpose(1, 2), is_causal=True, enable_gqa=True
    )
    return out_BHLD.transpose(1, 2)


class DocumentAttention:
    """Causal attention inside each of the consecutive documents of the flat axis, nothing across them (section 3.2).

    ``lengths`` are the documents' tokens in order; their sum is N.  Cost is that of the documents alone, however
    long the row in which they are packed.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        if not lengths or min(lengths) < 1:
            raise HerdError(f"documents need at least one token each, got lengths {list(lengths)[:8]}")
        self.lengths = list(lengths)
        self._groups = _group(self.lengths)
        self._even = all(length == self.lengths[0] for length in self.lengths)
        self._there: Tensor | None = None
        self._back: Tensor | None = None

    def __call__(self, layer: int, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor) -> Tensor:
        """Attended values (N, H, D); the same in every layer."""
        if self._even:
            shape = (len(self.lengths), self.lengths[0])
            return _causal(*(x.unflatten(0, shape) for x in (q_NHD, k_NKD, v_NKD))).flatten(0, 1)
        there, back = self._indices(q_NHD.device)
        parts = [self._split(_Pack.apply(x, there, back)) for x in (q_NHD, k_NKD, v_NKD)]
        out = torch.cat([_causal(q, k, v).flatten(0, 1) for q, k, v in zip(*parts, strict=True)])
        return _Unpack.apply(out, back)

    def _split(self, x: Tensor) -> list[Tensor]:
        sizes = [len(group.documents) * group.length for group in self._groups]
        return [
            part.unflatten(0, (len(group.documents), group.length))
            for part, group in zip(x.split(sizes), self._groups, strict=True)
        ]

    def _indices(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rows of the grouped, padded axis by their token, and tokens by their row; padding repeats the first token."""
        if self._there is None or self._back is None or self._there.device != device:
            lengths = torch.tensor(self.lengths)
            starts = lengths.cumsum(0) - lengths
            there, back, row = [], torch.empty(int(lengths.sum()), dtype=torch.int64), 0
            for group in self._groups:
                offsets = torch.arange(group.length)
                for document in group.documents:
                    start, length = int(starts[document]), self.lengths[document]
                    there.append(torch.where(offsets < length, start + offsets, 0))
                    back[start : start + length] = row + offsets[:length]
                    row += group.length
            self._there, self._back = torch.cat(there).to(device), back.to(device)
        return self._there, self._back


def document_positions(lengths: Sequence[int]) -> Tensor:
    """Positions (N,) of consecutive documents, each counted from zero."""
    return torch.cat([torch.arange(length) for length in lengths])
