"""The document mask on a GPU: one FlexAttention call a layer, however many documents a batch holds.

    attend = document_attention(batch.lengths, batch.tokens_N.device)

A loop over documents, right on a CPU, would start several kernels for each of them.  Here the kernel is told which
tiles of 128 x 128 pairs hold something to see, and looks at single pairs only where a document's border or the diagonal
cuts a tile: like the loop, it costs the squares of the documents, not that of the row.  The tiles are found once a
batch, from the documents' lengths alone and on the host, so that nothing waits for the GPU.  No GPU has run it yet.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from herd.model.attention import DocumentAttention
from herd.model.layers import Attend
from herd.model.transfer import send
from herd.train.compiled import compiled, compiler_available

TILE = 128


def document_attention(lengths: Sequence[int], device: torch.device) -> Attend:
    """What a token may see of documents of ``lengths`` on the flat axis, as that is computed fastest on ``device``."""
    if not has_tiles(device):
        return DocumentAttention(lengths)
    begins_N = document_begins(lengths)
    return TiledAttention(begins_N, torch.arange(len(begins_N)), len(begins_N), device)


def has_tiles(device: torch.device) -> bool:
    """Whether attention on ``device`` goes by tiles: uncompiled, FlexAttention would make the dense mask."""
    return device.type == "cuda" and compiler_available("cuda") is None


def document_begins(lengths: Sequence[int]) -> Tensor:
    """For every token (N,), the place on the flat axis at which its document begins."""
    sizes = torch.tensor(lengths)
    return (sizes.cumsum(0) - sizes).repeat_interleave(sizes)


class TiledAttention:
    """Attention of N queries over the ``keys`` of a flat axis: query n sees the places from begins_N[n] to places_N[n].

    ``places_N`` are the queries' own places there, which context parallel ranks have only some of.  Both are given on
    the host; queries, keys and values lie on ``device``.
    """

    def __init__(self, begins_N: Tensor, places_N: Tensor, keys: int, device: torch.device) -> None:
        touched, whole = tiles(begins_N, places_N, keys)
        begins_N, places_N = (send(x.int(), device) for x in (begins_N, places_N))

        def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (begins_N[query] <= key) & (key <= places_N[query])

        self.mask = BlockMask.from_kv_blocks(
            *_in_order(send(touched & ~whole, device)),
            *_in_order(send(whole, device)),
            BLOCK_SIZE=TILE,
            mask_mod=visible,
            seq_lengths=(len(places_N), keys),
        )
        self._kernel = _kernel(device.type)

    def __call__(self, layer: int, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor) -> Tensor:
        """Attended values (N, H, D), over keys and values of the whole flat axis; the same in every layer."""
        q_HND, k_KLD, v_KLD = (x.transpose(0, 1)[None] for x in (q_NHD, k_NKD, v_NKD))
        out_HND: Tensor = self._kernel(q_HND, k_KLD, v_KLD, block_mask=self.mask, enable_gqa=True)
        return out_HND[0].transpose(0, 1)


def tiles(begins_N: Tensor, places_N: Tensor, keys: int) -> tuple[Tensor, Tensor]:
    """Two tables (query tiles, key tiles): what may hold a visible pair, and what holds no other and is not cut off."""
    first_QT, last_QT = _in_rows(begins_N), _in_rows(places_N)
    start_K = torch.arange(0, keys, TILE)
    end_K = (start_K + TILE).clamp(max=keys) - 1
    touched_QK = (first_QT.amin(1)[:, None] <= end_K) & (start_K <= last_QT.amax(1)[:, None])
    seen_QK = (first_QT.amax(1)[:, None] <= start_K) & (end_K <= last_QT.amin(1)[:, None])
    uncut_Q = torch.arange(1, len(first_QT) + 1) * TILE <= len(begins_N)
    return touched_QK, seen_QK & uncut_Q[:, None] & (start_K + TILE <= keys)


def _in_rows(x_N: Tensor) -> Tensor:
    """A tile's queries in a row; the last row is filled up with what stands at its end."""
    missing = -len(x_N) % TILE
    return torch.cat([x_N, x_N[-1:].expand(missing)]).view(-1, TILE)


def _in_order(table_QK: Tensor) -> tuple[Tensor, Tensor]:
    """How many key tiles each query tile has, and their numbers, those first; as FlexAttention wants them."""
    counts_Q = table_QK.sum(1, dtype=torch.int32)
    order_QK = table_QK.int().argsort(stable=True, dim=1, descending=True).int()
    return counts_Q[None, None], order_QK[None, None]


@cache
def _kernel(device: str) -> Callable[..., Any]:
    """FlexAttention, compiled once for all numbers of tokens; eager on a CPU, where only tests come."""
    kernel: Callable[..., Any] = flex_attention
    return compiled(kernel, never_eager=True) if device == "cuda" else kernel
