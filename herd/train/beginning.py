"""Where training begins: fresh weights of a shape, or a model that somebody made; in whole, or part by part.

    beginning = begin_with(shape, seed=7, length=512)
    beginning = begin_with(Path("Llama-3.1-8B"), seed=7, length=512)

One process takes the whole network.  Processes on a mesh cut a network that has shapes but no values, and then each
asks for its own parts; both receive the same numbers.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from herd.formats.huggingface import huggingface_name, load_transformer, open_transformer
from herd.model.config import ModelConfig
from herd.model.fresh import FreshWeights
from herd.model.transformer import Transformer


class Beginning(Protocol):
    """The weights of a network before its first step, in fp32."""

    shape: ModelConfig

    def whole(self) -> Transformer:
        """The network with all its weights."""

    def fill(self, place: Tensor, name: str, shape: Sequence[int], offset: Sequence[int]) -> None:
        """Fills ``place`` with the part of parameter ``name``, of ``shape`` in whole, that begins at ``offset``."""


class Fresh:
    """Weights drawn from a seed."""

    def __init__(self, shape: ModelConfig, seed: int, induction: bool = True) -> None:
        self.shape, self._seed, self._induction = shape, seed, induction

    def whole(self) -> Transformer:
        """Drawn into a network."""
        model = Transformer(self.shape)
        model.init_weights(self._seed, self._induction)
        return model

    @cached_property
    def _weights(self) -> FreshWeights:
        return FreshWeights(self.shape, self._seed, self._induction)

    def fill(self, place: Tensor, name: str, shape: Sequence[int], offset: Sequence[int]) -> None:
        """Draws the rows before the part too, a block at a time."""
        self._weights.fill(place, name, shape, offset)


class Stored:
    """The weights of a Hugging Face directory, for rows of ``length`` tokens or those that the model knows."""

    def __init__(self, path: Path, length: int) -> None:
        self._path, self._source = path, open_transformer(path)
        known = self._source.config
        self.shape = known.with_context(max(known.max_positions, length), known.rope_scaling)

    def whole(self) -> Transformer:
        """Read into a network."""
        model = load_transformer(self._path, torch.float32)
        model.config = self.shape
        return model

    @torch.no_grad()
    def fill(self, place: Tensor, name: str, shape: Sequence[int], offset: Sequence[int]) -> None:
        """Reads no more than the part; ``HerdError`` names file and tensor where it holds what is no number."""
        where = tuple(slice(begin, begin + size) for begin, size in zip(offset, place.shape, strict=True))
        place.copy_(self._source.read_part(huggingface_name(name), where))


def begin_with(start: ModelConfig | Path, seed: int, length: int) -> Beginning:
    """A fresh network of shape ``start``, or the model in the directory ``start``; its values are not made yet.

    Raises ``HerdError`` where the directory is no language model, or its files do not fit its configuration.
    """
    return Fresh(start, seed) if isinstance(start, ModelConfig) else Stored(start, length)
