"""Decoding rows laid out one after another, kept from step to step.

Pages save memory but must be gathered before a matrix product can read them, in every layer of every step; on a CPU
that took as long as attention itself.  While the running outputs are of similar length and few enough, the window
keeps their keys and values contiguous: a step then only appends, and a row is gathered once, when its output starts.
The pages stay the truth; the window may be dropped at any time.
"""

import numpy as np
import torch
from torch import Tensor

from herd.infer.cache import PagedCache, zeros

# The window pays while at least this share of its rectangle holds tokens.
_FULL = 0.4
_SLACK = 64


class Window:
    """Keys and values (layers, rows, K, T, D) of the running outputs; at most ``budget`` bytes."""

    def __init__(self, cache: PagedCache, rows: int, budget: int) -> None:
        self._cache, self._budget = cache, budget
        self._owners = np.full(rows, -1, dtype=np.int64)
        self._used = 0
        self._capacity = 0
        self._keys = self._values = cache.keys.new_empty(0)
        self._write_rows = self._keys

    def arrange(
        self, decoding: np.ndarray, owners: np.ndarray, lengths: np.ndarray, table: np.ndarray
    ) -> np.ndarray | None:
        """Brings the slots ``decoding`` into the window and returns them in its order, or None if it would not pay.

        ``owners`` (unlike slots, never used twice), ``lengths`` (tokens cached so far) and ``table`` (pages) are those
        of the slots, in the same order.
        """
        batch, longest = len(decoding), int(lengths.max(initial=0)) + 1
        if not batch or lengths.sum() < _FULL * batch * longest or not self._make_room(longest):
            self._owners[:] = -1
            return None
        row_of = {owner: row for row, owner in enumerate(self._owners[:batch].tolist()) if owner >= 0}
        order = np.full(batch, -1, dtype=np.int64)
        newcomers = []
        for index, owner in enumerate(owners.tolist()):
            row = row_of.get(owner)
            if row is None:
                newcomers.append(index)
            else:
                order[row] = index
        for row, index in zip(np.flatnonzero(order < 0).tolist(), newcomers, strict=True):
            order[row] = index
            self._fill(row, table[index], int(lengths[index]))
        self._owners[:batch] = owners[order]
        self._owners[batch:] = -1
        self._place(lengths[order], longest)
        return decoding[order]

    def _make_room(self, longest: int) -> bool:
        """Grows the rows where needed; False if that would break the budget."""
        if longest <= self._capacity:
            return True
        layers, _, heads, _, width = self._cache.keys.shape
        capacity = -(-(longest * 5 // 4 + _SLACK) // self._cache.page_size) * self._cache.page_size
        shape = (layers, len(self._owners), heads, capacity, width)
        if 2 * int(np.prod(shape)) * self._cache.keys.dtype.itemsize > self._budget:
            return False
        dtype, device = self._cache.keys.dtype, self._cache.keys.device
        self._keys, self._values = zeros(shape, dtype, device), zeros(shape, dtype, device)
        self._capacity = capacity
        self._owners[:] = -1
        return True

    def _fill(self, row: int, pages: np.ndarray, length: int) -> None:
        size = self._cache.page_size
        held = torch.from_numpy(pages[: -(-length // size)]).to(self._keys.device)
        for own, pool in ((self._keys, self._cache.keys), (self._values, self._cache.values)):
            pages_LKMSD = pool.index_select(1, held).transpose(1, 2)
            own[:, row, :, : len(held) * size] = pages_LKMSD.flatten(2, 3)

    def _place(self, lengths: np.ndarray, longest: int) -> None:
        heads = self._cache.kv_heads
        rows_BK = np.arange(len(lengths))[:, None] * heads + np.arange(heads)
        rows = torch.from_numpy((rows_BK * self._capacity + lengths[:, None]).ravel())
        self._write_rows = rows.to(self._keys.device)
        self._used = longest

    def write(self, layer: int, k_BKD: Tensor, v_BKD: Tensor) -> None:
        """Appends the keys and values of this step's token to every row."""
        width = self._cache.head_dim
        self._keys[layer].view(-1, width).index_copy_(0, self._write_rows, k_BKD.reshape(-1, width))
        self._values[layer].view(-1, width).index_copy_(0, self._write_rows, v_BKD.reshape(-1, width))

    def read(self, layer: int, batch: int) -> tuple[Tensor, Tensor]:
        """Keys and values (B, K, T, D) of all rows, as views."""
        return self._keys[layer, :batch, :, : self._used], self._values[layer, :batch, :, : self._used]
