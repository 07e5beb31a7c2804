"""Context parallel training: the ranks of CP share every sequence (paper, section 3.3.2).

The flat axis of a micro-batch is cut into 2 x CP chunks, and rank i takes chunks i and 2 x CP - 1 - i: late tokens see
more than early ones, and each such pair sees equally much.  Keys and values of all ranks are gathered before attention,
for under grouped queries they are small, and then any document mask holds as it does on one process.  Only ``attend``
and the cut of the batch know of it; the network does not.

    share = ContextShare(len(batch.tokens_N), group)
    next_token_loss(model, share.cut_batch(batch), attend=ContextAttention(batch.lengths, share))
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention.bias import causal_lower_right

from herd.foundation.errors import HerdError
from herd.model.attention import DocumentAttention
from herd.model.layers import Attend
from herd.train.batch import Batch
from herd.train.flex import TiledAttention, document_begins, has_tiles

# torch 2.13 gave both a new name and warns of the old one.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def head_tail_chunks(tokens: int, degree: int, rank: int) -> tuple[range, range]:
    """The two chunks of a flat axis of ``tokens`` tokens that a rank takes, the early one first.

    Attention costs each rank the same where all rows of the axis are one document each, whatever their number: a token
    and its mirror image together see as much as any other two.  ``HerdError`` where chunks would not be alike.
    """
    if tokens % (2 * degree):
        raise HerdError(f"cp {degree}: {tokens} tokens cannot be cut into {2 * degree} equal chunks")
    size = tokens // (2 * degree)
    late = 2 * degree - 1 - rank
    return range(rank * size, (rank + 1) * size), range(late * size, (late + 1) * size)


class ContextShare:
    """Which N of the L tokens of the flat axis this process has, and the way to those of the others."""

    def __init__(self, tokens: int, group: dist.ProcessGroup, device: torch.device | None = None) -> None:
        degree = dist.get_world_size(group)
        chunks = [head_tail_chunks(tokens, degree, rank) for rank in range(degree)]
        self.group = group
        self.chunks = chunks[dist.get_rank(group)]
        in_turn = [torch.arange(chunk.start, chunk.stop, device=device) for pair in chunks for chunk in pair]
        self.by_rank_L = torch.cat(in_turn)
        """Places of the flat axis in the order in which a collective holds them, rank after rank."""
        self.by_place_L = self.by_rank_L.argsort()

    def cut(self, whole_L: Tensor) -> Tensor:
        """This process's part of a tensor whose first axis is the flat one."""
        return torch.cat([whole_L[chunk.start : chunk.stop] for chunk in self.chunks])

    def cut_batch(self, batch: Batch) -> Batch:
        """This process's part of a micro-batch; its ``lengths`` stay those of the whole documents."""
        if batch.extra:
            raise HerdError(f"cp: tokens of {', '.join(sorted(batch.extra))} cannot be shared between processes")
        return Batch(self.cut(batch.tokens_N), self.cut(batch.positions_N), self.cut(batch.targets_N), batch.lengths)

    def gather(self, own_NX: Tensor) -> Tensor:
        """The parts of all processes in the order of the flat axis; the backward pass is a reduce-scatter."""
        whole_LX: Tensor = _Gather.apply(own_NX, self)
        return whole_LX


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own_NX: Tensor, share: ContextShare) -> Tensor:
        ctx.share = share
        whole_LX = own_NX.new_empty((len(share.by_rank_L), *own_NX.shape[1:]))
        _all_gather(whole_LX, own_NX.contiguous(), group=share.group)
        return whole_LX.index_select(0, share.by_place_L)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_LX: Tensor) -> tuple[Tensor, None]:
        share = ctx.share
        grad_NX = grad_LX.new_empty((sum(map(len, share.chunks)), *grad_LX.shape[1:]))
        _reduce_scatter(grad_NX, grad_LX.index_select(0, share.by_rank_L), group=share.group)
        return grad_NX, None


class ContextAttention:
    """``DocumentAttention`` for a process that has its share of the tokens: what each token may see is the same.

    ``lengths`` are the documents of the whole flat axis.  In a chunk only the first document can have begun before it;
    the rest of the chunk is documents that begin inside, the last of them perhaps cut off.  A GPU takes both chunks in
    one call.
    """

    def __init__(self, lengths: Sequence[int], share: ContextShare) -> None:
        ends = list(accumulate(lengths))
        if not ends or ends[-1] != len(share.by_rank_L):
            raise HerdError(f"documents of {sum(lengths)} tokens do not fill a flat axis of {len(share.by_rank_L)}")
        self.share, device = share, share.by_rank_L.device
        self._attend: Attend
        if has_tiles(device):
            begins_L, places_L = document_begins(lengths), torch.arange(ends[-1])
            self._attend = TiledAttention(share.cut(begins_L), share.cut(places_L), ends[-1], device)
        else:
            self._attend = _TwoChunks([_ChunkAttention(lengths, ends, chunk) for chunk in share.chunks])

    def __call__(self, layer: int, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor) -> Tensor:
        """Attended values (N, H, D) of this process's N tokens; the same in every layer."""
        both_LXD = self.share.gather(torch.cat([k_NKD, v_NKD], dim=1))  # one collective for the two
        return self._attend(layer, q_NHD, *both_LXD.chunk(2, dim=1))


class _TwoChunks:
    """The early half of the queries with one chunk's attention, the late half with the other's."""

    def __init__(self, chunks: Sequence["_ChunkAttention"]) -> None:
        self._chunks = chunks

    def __call__(self, layer: int, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor) -> Tensor:
        """Attended values (N, H, D), over keys and values of the whole axis."""
        halves = zip(self._chunks, q_NHD.chunk(2), strict=True)
        return torch.cat([attend(layer, q_CHD, k_NKD, v_NKD) for attend, q_CHD in halves])


class _ChunkAttention:
    """Causal attention of one chunk's queries inside their documents, over keys and values of the whole axis."""

    def __init__(self, lengths: Sequence[int], ends: Sequence[int], chunk: range) -> None:
        self.chunk = chunk
        pieces = [
            (max(end - length, chunk.start), min(end, chunk.stop))
            for length, end in zip(lengths, ends, strict=True)
            if end > chunk.start and end - length < chunk.stop
        ]
        first = next(end - length for length, end in zip(lengths, ends, strict=True) if end > chunk.start)
        # Keys from the document's begin on serve the part of it that lies in this chunk.
        self.continued = (first, pieces.pop(0)[1]) if first < chunk.start else None
        self.begun = DocumentAttention([stop - start for start, stop in pieces]) if pieces else None

    def __call__(self, layer: int, q_CHD: Tensor, k_LKD: Tensor, v_LKD: Tensor) -> Tensor:
        """Attended values (C, H, D)."""
        parts, begin = [], self.chunk.start
        if self.continued is not None:
            first, begin = self.continued
            queries = begin - self.chunk.start
            parts.append(_continue(q_CHD[:queries], k_LKD[first:begin], v_LKD[first:begin]))
            q_CHD = q_CHD[queries:]
        if self.begun is not None:
            rest = slice(begin, self.chunk.stop)
            parts.append(self.begun(layer, q_CHD, k_LKD[rest], v_LKD[rest]))
        return torch.cat(parts)


def _continue(q_QHD: Tensor, k_SKD: Tensor, v_SKD: Tensor) -> Tensor:
    """Causal attention of a document's last tokens over the whole of it."""
    q_HQD, k_KSD, v_KSD = (x.transpose(0, 1)[None] for x in (q_QHD, k_SKD, v_SKD))
    bias = causal_lower_right(len(q_QHD), len(k_SKD))
    out_HQD = F.scaled_dot_product_attention(q_HQD, k_KSD, v_KSD, attn_mask=bias, enable_gqa=True)
    return out_HQD[0].transpose(0, 1)
