"""What a token of a training batch may see: its own document, up to itself.

A dense mask over a packed row costs the square of the row; documents cost only the sum of their own squares.  So each
document goes through a causal attention call of its own, and neighbours of the same length share one.  Gathering
similar lengths into padded rectangles was measured too and won nothing on a CPU.
"""

from collections.abc import Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from herd.foundation.errors import HerdError


class DocumentAttention:
    """Causal attention inside each of the consecutive documents of the flat axis, nothing across them (section 3.2).

    ``lengths`` are the documents' tokens in order; their sum is N.  Cost is that of the documents alone, however
    long the row in which they are packed, and the result is that of every document alone.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        if not lengths or min(lengths) < 1:
            raise HerdError(f"documents need at least one token each, got lengths {list(lengths)[:8]}")
        self.lengths = list(lengths)
        self._runs = [(len(list(run)), length) for length, run in groupby(self.lengths)]
        self._sizes = [count * length for count, length in self._runs]

    def __call__(self, layer: int, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor) -> Tensor:
        """Attended values (N, H, D); the same in every layer."""
        q, k, v = (x.split(self._sizes) for x in (q_NHD, k_NKD, v_NKD))
        return torch.cat([_causal(*parts) for parts in zip(q, k, v, self._runs, strict=True)])


def _causal(q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor, run: tuple[int, int]) -> Tensor:
    """Causal attention of a run of (count, length) documents, each on its own."""
    q_BHLD, k_BKLD, v_BKLD = (x.unflatten(0, run).transpose(1, 2) for x in (q_NHD, k_NKD, v_NKD))
    out_BHLD = F.scaled_dot_product_attention(q_BHLD, k_BKLD, v_BKLD, is_causal=True, enable_gqa=True)
    return out_BHLD.transpose(1, 2).flatten(0, 1)


def document_positions(lengths: Sequence[int]) -> Tensor:
    """Positions (N,) of consecutive documents, each counted from zero."""
    return torch.cat([torch.arange(length) for length in lengths])
