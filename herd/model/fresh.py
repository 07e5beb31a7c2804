"""The weights that training starts from, for a whole network or for any part of one, in bounded memory.

    weights = FreshWeights(config, seed=7)
    weights.fill(place, "layers.3.ffn.up.weight", shape=(14_336, 4096), offset=(1792, 0))

Every matrix is drawn from a seed of its own, a block of rows at a time, so that neither the order of the parameters nor
the way in which they are cut changes what an element receives: a process that holds a part draws the rows before it
too, and throws them away.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from herd.foundation.seeds import derive
from herd.model.config import ModelConfig
from herd.model.induction import CircuitWeights, has_room

_EMBEDDING_STD = 0.02
_BLOCK = 1 << 20
"""Elements that are drawn at a time, about."""
_GROUP = 16
"""Torch turns uniform numbers into normal ones in groups of so many, so that blocks must begin at such a border."""


class FreshWeights:
    """The starting weights of a transformer of shape ``config``.

    The paper gives no initialisation; ours is normal with variance 1/fan-in, and 0.02 for the embedding; matrices that
    write to the residual stream are further divided by sqrt(2 * layers).  With ``induction``, the default, a shape with
    room for it gets the circuit of the module of that name, and starts by copying; what belongs to the circuit is made
    in whole before a part of it is taken.
    """

    def __init__(self, config: ModelConfig, seed: int, induction: bool = True) -> None:
        self._config, self._seed = config, seed
        self._circuit = CircuitWeights(config, seed, self._draw) if induction and has_room(config) else None

    @torch.no_grad()
    def fill(self, place: Tensor, name: str, shape: Sequence[int], offset: Sequence[int]) -> None:
        """Fills ``place`` with the part of parameter ``name``, of ``shape`` in whole, that begins at ``offset``."""
        first, last = offset[0], offset[0] + len(place)
        columns = [slice(begin, begin + size) for begin, size in zip(offset[1:], place.shape[1:], strict=True)]
        for start, block in self._rows(name, shape):
            if start >= last:
                return
            begin, end = max(start, first), min(start + len(block), last)
            if begin < end:
                place[begin - first : end - first] = block[(slice(begin - start, end - start), *columns)]

    def _rows(self, name: str, shape: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """The parameter from its first row to its last, in blocks, each with the number of its first row."""
        arranged = None if self._circuit is None else self._circuit.whole(name)
        if arranged is not None:
            yield 0, arranged
        elif len(shape) == 1:
            yield 0, torch.ones(shape[0])
        else:
            yield from self._drawn(name, shape)

    def _drawn(self, name: str, shape: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        std = _EMBEDDING_STD if name in ("embedding.weight", "head.weight") else 1 / math.sqrt(shape[1])
        if name.endswith(("attention.out.weight", "ffn.down.weight")):
            std /= math.sqrt(2 * self._config.layers)
        return normal_rows(shape, std, derive(self._seed, "init", name))

    def _draw(self, name: str, shape: Sequence[int]) -> Tensor:
        return torch.cat([block for _, block in self._drawn(name, shape)])


def normal_rows(shape: Sequence[int], std: float, seed: int) -> Iterator[tuple[int, Tensor]]:
    """A matrix of normal numbers in blocks of rows, bit for bit what ``torch.randn(shape)`` draws at once."""
    rows, columns = shape
    at_once = max(_BLOCK // columns // _GROUP, 1) * _GROUP
    starts = list(range(0, rows, at_once))
    if len(starts) > 1 and (rows - starts[-1]) * columns < _GROUP:
        del starts[-1]  # so few numbers would be drawn in another way
    generator = torch.Generator().manual_seed(seed)
    for start, end in zip(starts, [*starts[1:], rows], strict=True):
        yield start, torch.randn((end - start, columns), generator=generator) * std
