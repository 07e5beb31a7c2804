"""The paged key-value cache, and attention that reads it.

Shape letters: N tokens of a step, B decoding rows, M pages a row, T = M * page_size, H query heads, K key-value heads,
G = H / K, D head width, P pages, S tokens a page.

A step's tokens lie on one flat axis in three parts: one token for each decoding row, then prompts that start here,
then chunks that go on behind tokens already cached.  ``StepAttention`` is the callable that the transformer asks in
every layer: it writes the new keys and values to their pages and reads what each token may see.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from herd.model.attention import DocumentAttention
from herd.model.config import ModelConfig

if TYPE_CHECKING:
    from herd.infer.window import Window

# Rows of a decoding batch are read in one rectangle as long as the shortest needs at least this share of the longest.
_EVEN = 0.5
# A split must save at least this many pages, or the calls of a second rectangle cost more than it spares.
_WORTH_PAGES = 64


class PagedCache:
    """Keys and values of ``pages`` pages in every layer, as (layers, P, K, S, D), so that a head's page is one run."""

    def __init__(
        self, config: ModelConfig, pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (config.layers, pages, config.kv_heads, page_size, config.head_dim)
        self.keys, self.values = zeros(shape, dtype, device), zeros(shape, dtype, device)
        self.page_size, self.kv_heads, self.head_dim = page_size, config.kv_heads, config.head_dim
        self._scratch: dict[str, Tensor] = {}

    @staticmethod
    def page_bytes(config: ModelConfig, page_size: int, dtype: torch.dtype) -> int:
        """Bytes of one page over all layers, keys and values."""
        return 2 * config.layers * config.kv_heads * page_size * config.head_dim * dtype.itemsize

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copies whole pages in every layer."""
        device = self.keys.device
        source, target = torch.tensor(sources, device=device), torch.tensor(targets, device=device)
        self.keys[:, target] = self.keys[:, source]
        self.values[:, target] = self.values[:, source]

    def rows(self, pages_N: Tensor, offsets_N: Tensor) -> Tensor:
        """Where the heads of each token live in the flat (P * K * S, D) view: (N * K,)."""
        heads_K = torch.arange(self.kv_heads, device=pages_N.device)
        return ((pages_N[:, None] * self.kv_heads + heads_K) * self.page_size + offsets_N[:, None]).flatten()

    def write(self, layer: int, rows: Tensor, k_NKD: Tensor, v_NKD: Tensor) -> None:
        """Stores new keys and values at ``rows``."""
        self.keys[layer].view(-1, self.head_dim).index_copy_(0, rows, k_NKD.reshape(-1, self.head_dim))
        self.values[layer].view(-1, self.head_dim).index_copy_(0, rows, v_NKD.reshape(-1, self.head_dim))

    def head_pages(self, table_BM: Tensor) -> Tensor:
        """Indices of the pages of every head in the (P * K, S * D) view: (B * K * M,)."""
        heads_K = torch.arange(self.kv_heads, device=table_BM.device)
        return (table_BM[:, None, :] * self.kv_heads + heads_K[:, None]).flatten()

    def read(self, layer: int, head_pages: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """Keys and values of whole pages, contiguous (B, K, T, D); valid until the next ``read``."""
        width = self.page_size * self.head_dim
        parts = []
        for name, pool in (("keys", self.keys), ("values", self.values)):
            out = self._buffer(name, len(head_pages), width)
            torch.index_select(pool[layer].view(-1, width), 0, head_pages, out=out)
            parts.append(out.view(batch, self.kv_heads, -1, self.head_dim))
        return parts[0], parts[1]

    def _buffer(self, name: str, rows: int, width: int) -> Tensor:
        """Memory that is used again: fresh pages from the system would cost more than the copy."""
        held = self._scratch.get(name)
        if held is None or len(held) < rows:
            held = self.keys.new_empty((max(rows, 2 * len(held) if held is not None else 0), width))
            self._scratch[name] = held
        return held[:rows]


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, since a weight of zero does not silence a not-a-number in memory nobody wrote yet.

    On the CPU they come from the system's zero pages, so that a pool takes memory only as it fills.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8)).view(dtype).view(shape)


@dataclass
class Chunk:
    """Tokens of one prompt in this step: they stand at ``start`` behind what ``pages`` already hold."""

    pages: Sequence[int]
    start: int
    length: int


@dataclass
class StepPlan:
    """What a step computes, in the order of its flat axis.

    ``table`` (B, M) and ``lengths`` (B,; the new token counted) describe the decoding rows, longest first;
    ``fresh`` are chunks with ``start`` 0 and ``continued`` the others.  With a ``window`` the rows are in its order and
    read from there.
    """

    table: Tensor
    lengths: Tensor
    window: "Window | None" = None
    fresh: list[Chunk] = field(default_factory=list)
    continued: list[Chunk] = field(default_factory=list)

    @property
    def chunks(self) -> list[Chunk]:
        """All chunks in the order of the axis."""
        return self.fresh + self.continued


Read = Callable[[int], tuple[Tensor, Tensor]]
"""Keys and values (B, K, T, D) of a layer."""


class _Rectangle:
    """Decoding rows of similar length, read and attended in one call."""

    def __init__(self, cache: PagedCache, lengths_B: Tensor, longest: int, read: Read) -> None:
        self.cache, self.batch, self.read = cache, len(lengths_B), read
        hidden_BT = torch.arange(longest, device=lengths_B.device) >= lengths_B[:, None]
        mask_BT = torch.zeros(hidden_BT.shape, dtype=cache.keys.dtype, device=lengths_B.device)
        mask_BT.masked_fill_(hidden_BT, -math.inf)
        self.mask = mask_BT[:, None, None, :].expand(-1, cache.kv_heads, 1, -1).flatten(0, 1)

    @classmethod
    def of_pages(cls, cache: PagedCache, table_BM: Tensor, lengths_B: Tensor) -> "_Rectangle":
        """Rows that are gathered from their pages in every layer."""
        head_pages, batch = cache.head_pages(table_BM), len(table_BM)
        longest = table_BM.shape[1] * cache.page_size
        return cls(cache, lengths_B, longest, lambda layer: cache.read(layer, head_pages, batch))

    @classmethod
    def of_window(cls, cache: PagedCache, window: "Window", lengths_B: Tensor) -> "_Rectangle":
        """Rows that lie ready."""
        batch = len(lengths_B)
        return cls(cache, lengths_B, int(lengths_B.max()), lambda layer: window.read(layer, batch))

    def attend(self, layer: int, q_BHD: Tensor) -> Tensor:
        k_BKTD, v_BKTD = self.read(layer)
        queries = q_BHD.reshape(self.batch * self.cache.kv_heads, -1, self.cache.head_dim)
        scores = torch.baddbmm(
            self.mask, queries, k_BKTD.flatten(0, 1).transpose(1, 2), alpha=self.cache.head_dim**-0.5
        )
        return torch.bmm(torch.softmax(scores, dim=-1), v_BKTD.flatten(0, 1)).view(q_BHD.shape)


def _rectangles(cache: PagedCache, plan: StepPlan) -> list[_Rectangle]:
    """Cuts the rows, longest first, into as few rectangles as keep the padding small."""
    if plan.window is not None:
        return [_Rectangle.of_window(cache, plan.window, plan.lengths)]
    needed = [-(-length // cache.page_size) for length in plan.lengths.tolist()]
    found, first = [], 0
    for row in range(1, len(needed) + 1):
        ended = row == len(needed)
        saved = 0 if ended else (len(needed) - row) * (needed[first] - needed[row])
        if ended or (needed[row] < _EVEN * needed[first] and saved >= _WORTH_PAGES):
            found.append(_Rectangle.of_pages(cache, plan.table[first:row, : needed[first]], plan.lengths[first:row]))
            first = row
    return found


class StepAttention:
    """The ``Attend`` of one engine step (paper, sections 4.2.2 and 6)."""

    def __init__(self, cache: PagedCache, plan: StepPlan, positions_N: Tensor) -> None:
        self.cache, self._window = cache, plan.window
        self._rows = cache.rows(*_places(cache, plan, positions_N))
        self._decoding = len(plan.lengths)
        self._rectangles = _rectangles(cache, plan) if self._decoding else []
        self._fresh = sum(chunk.length for chunk in plan.fresh)
        self._documents = DocumentAttention([chunk.length for chunk in plan.fresh]) if plan.fresh else None
        self._continued = [_Continued(cache, chunk) for chunk in plan.continued]

    def __call__(self, layer: int, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor) -> Tensor:
        """Stores this layer's keys and values, and returns the attended values (N, H, D)."""
        self.cache.write(layer, self._rows, k_NKD, v_NKD)
        if self._window is not None:
            self._window.write(layer, k_NKD[: self._decoding], v_NKD[: self._decoding])
        parts, start = [], 0
        for rectangle in self._rectangles:
            parts.append(rectangle.attend(layer, q_NHD[start : start + rectangle.batch]))
            start += rectangle.batch
        if self._documents is not None:
            part = slice(start, start + self._fresh)
            parts.append(self._documents(layer, q_NHD[part], k_NKD[part], v_NKD[part]))
            start += self._fresh
        for chunk in self._continued:
            parts.append(chunk.attend(layer, q_NHD[start : start + chunk.length]))
            start += chunk.length
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Continued:
    """A chunk that also sees what its pages held before this step."""

    def __init__(self, cache: PagedCache, chunk: Chunk) -> None:
        self.cache, self.length, self.total = cache, chunk.length, chunk.start + chunk.length
        device = cache.keys.device
        pages = torch.tensor([list(chunk.pages)[: -(-self.total // cache.page_size)]], device=device)
        self.head_pages = cache.head_pages(pages)
        own_L = torch.arange(chunk.start, self.total, device=device)
        self.mask_LT = torch.arange(self.total, device=device) <= own_L[:, None]

    def attend(self, layer: int, q_LHD: Tensor) -> Tensor:
        keys, values = self.cache.read(layer, self.head_pages, 1)
        out = F.scaled_dot_product_attention(
            q_LHD.transpose(0, 1)[None],
            keys[:, :, : self.total],
            values[:, :, : self.total],
            attn_mask=self.mask_LT,
            enable_gqa=True,
        )
        return out[0].transpose(0, 1)


def _places(cache: PagedCache, plan: StepPlan, positions_N: Tensor) -> tuple[Tensor, Tensor]:
    """Page and offset of every token of the step."""
    size = cache.page_size
    decoding = len(plan.lengths)
    blocks_B = (positions_N[:decoding] // size)[:, None]
    pages = [plan.table.gather(1, blocks_B).squeeze(1)] if decoding else []
    device = positions_N.device
    for chunk in plan.chunks:
        held = torch.tensor(list(chunk.pages), device=device)
        pages.append(held[torch.arange(chunk.start, chunk.start + chunk.length, device=device) // size])
    return torch.cat(pages), positions_N % size
