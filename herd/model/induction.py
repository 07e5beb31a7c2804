"""Starting weights from which a small network copies before its first step: the induction circuit is laid out in them.

To answer from a page a model has to copy what it never saw before, and for that it needs *induction heads* (Olsson et
al. 2022): heads of the first layers tell every token what stood before it, and a head of a later layer looks for the
place where the same was said already, and repeats what followed there.  Training finds this circuit late: not within
the millions of tokens that a pocket model gets (measurements in ``docs/notebook.md``).  The architecture stays
Llama's; only what training starts from is arranged, and training is free to change it:

- The residual stream is cut into a direction that every embedding shares, so that queries and keys have something
  constant to hold on to, three small *memories*, and the rest, in which the embeddings differ.
- Layer 0: one head attends to the token before and writes a sketch of it into the first memory, a second head does
  the same with the token before that.  Both share keys and values, and differ in how far the query is turned.
- Layer 1: a head attends to the token before and hands its second memory on: it becomes this token's third.
- Layer 2: the first head looks for a token whose memories hold the present token and the two before it, the second
  for the present token and the one before it.  They compare on rotary pairs so slow that distance does not matter, and
  repeat what they find; three tokens in agreement outweigh any number of places that share two.
- All else that writes to the residual stream starts at zero.

What a head repeats becomes a prediction through a tied output matrix, so the circuit is laid out in tied models only,
and needs three layers and two query heads to a key-value head.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from herd.foundation.seeds import derive
from herd.model.config import ModelConfig

MEAN = 1.5
"""Length of what embeddings share, against 1 for what is a token's own."""
_EMBEDDING_STD = 0.25
"""Of an embedding's elements; small ones would be overrun by the optimiser's first steps, and the circuit with them."""
_FINAL_NORM = 8.0
"""A tied head would start sure that every token repeats itself: logits of sqrt(dim); this is what they start at."""
_NEIGHBOUR_PAIRS = 6
"""Rotary pairs by which a neighbour is found; with two, many far positions would look like it."""
_NEIGHBOUR_LOGIT = 40.0
"""Of each of these pairs."""
_SLOW = 1 / 1000
"""Radians a token below which a rotary pair serves to compare what stands far apart."""
_MEMORIES = 3
_MATCH = 14.0
"""Logit of one token in agreement."""
_COPY = 0.6
"""What each head adds of the token that it found, against 1 for a normed one."""


@dataclass(frozen=True)
class Circuit:
    """Orthonormal directions of the residual stream, and how a token is sketched in a memory.

    ``shared_E`` is the embeddings' common part, ``content_DE`` what a head repeats, ``own_RE`` all in which embeddings
    differ (content included), ``memories_SME`` the memories, ``sketch_MD`` makes of content what a memory holds.
    """

    shared_E: Tensor
    content_DE: Tensor
    own_RE: Tensor
    memories_SME: Tensor
    sketch_MD: Tensor


def has_room(config: ModelConfig) -> bool:
    """Whether the circuit fits a shape."""
    return config.tied and config.layers >= 3 and config.heads >= 2 * config.kv_heads and _memory_size(config) > 0


def _slow_pairs(config: ModelConfig) -> list[int]:
    return [pair for pair, frequency in enumerate(_frequencies(config)) if frequency < _SLOW]


def _memory_size(config: ModelConfig) -> int:
    """Dimensions of each memory: a third of the slow ones of a head, if the stream has room for all beside content."""
    return min(2 * len(_slow_pairs(config)), config.dim - 1 - config.head_dim) // _MEMORIES


def draw_circuit(config: ModelConfig, seed: int) -> Circuit:
    """Draws the directions of a shape that ``has_room``."""
    size, width = _memory_size(config), config.head_dim
    rows_EE = torch.linalg.qr(_normal((config.dim, config.dim), derive(seed, "circuit", "directions")))[0]
    shared_1E, memories_ME, own_RE = rows_EE.split([1, _MEMORIES * size, config.dim - 1 - _MEMORIES * size])
    sketch_DD = torch.linalg.qr(_normal((width, width), derive(seed, "circuit", "sketch")))[0]
    return Circuit(shared_1E[0], own_RE[:width], own_RE, memories_ME.unflatten(0, (_MEMORIES, size)), sketch_DD[:size])


def _normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class CircuitWeights:
    """The parameters that the circuit is laid out in, one at a time, as the module's docstring says.

    ``draw`` gives a matrix by name and shape as any other network has it.
    """

    def __init__(self, config: ModelConfig, seed: int, draw: Callable[[str, Sequence[int]], Tensor]) -> None:
        self._config, self._seed, self._draw = config, seed, draw
        self._circuit = draw_circuit(config, seed)
        self._scale = _EMBEDDING_STD * math.sqrt(config.dim)
        self._attention: tuple[int, Matrices] | None = None

    def whole(self, name: str) -> Tensor | None:
        """A parameter in whole; None where it is the same as in any other network."""
        config = self._config
        if name == "embedding.weight":
            return self._embedding()
        if name == "norm.weight":
            return torch.full((config.dim,), _FINAL_NORM / math.sqrt(config.dim) / self._scale)
        match = re.fullmatch(r"layers\.(\d+)\.(attention|ffn)\.(q|k|v|out|down)\.weight", name)
        if match is None:
            return None
        layer, matrix = int(match[1]), match[3]
        if layer < len(_ARRANGE) and matrix != "down":
            return self._arranged(layer)[matrix]
        columns = {"out": config.dim, "down": config.ffn_dim}.get(matrix)
        return None if columns is None else torch.zeros(config.dim, columns)

    def _embedding(self) -> Tensor:
        circuit = self._circuit
        shape = (self._config.vocab_size, len(circuit.own_RE))
        # In place, for with a large vocabulary this is the largest matrix of all.
        x_VE = _normal(shape, derive(self._seed, "circuit", "embedding")) @ circuit.own_RE
        return x_VE.div_(math.sqrt(len(circuit.own_RE))).add_(MEAN * circuit.shared_E).mul_(self._scale)

    def _arranged(self, layer: int) -> "Matrices":
        """The four matrices of one of the first layers; those of the last one that was asked for are kept."""
        if self._attention is None or self._attention[0] != layer:
            config = self._config
            rows = {"q": config.dim, "k": config.kv_heads * config.head_dim, "v": config.kv_heads * config.head_dim}
            matrices = {
                name: self._draw(f"layers.{layer}.attention.{name}.weight", (count, config.dim))
                for name, count in rows.items()
            }
            matrices["out"] = torch.zeros(config.dim, config.dim)
            _ARRANGE[layer](config, self._circuit, matrices, self._scale)
            self._attention = layer, matrices
        return self._attention[1]


Matrices = dict[str, Tensor]
"""Those of one layer's attention, ``q``, ``k``, ``v`` and ``out``."""


def _remember(config: ModelConfig, circuit: Circuit, matrices: Matrices, scale: float) -> None:
    """Layer 0: the first two heads write sketches of the two tokens before into the memories, each of length 1."""
    heads = _heads_of(config, matrices)
    shared, content = _normed_sizes(config, circuit, memories=0)
    sketched = content * math.sqrt(len(circuit.sketch_MD) / config.head_dim)
    heads.v_DE.copy_(circuit.content_DE)
    _look_back(config, circuit, heads, shared)
    for memory_ME, (_, out_ED) in zip(circuit.memories_SME, heads.pairs, strict=False):
        out_ED.copy_(scale / sketched * memory_ME.T @ circuit.sketch_MD)


def _hand_on(config: ModelConfig, circuit: Circuit, matrices: Matrices, scale: float) -> None:
    """Layer 1: the first head takes the second memory of the token before for this token's third."""
    heads = _heads_of(config, matrices)
    shared, _ = _normed_sizes(config, circuit, memories=2)
    _, second_ME, third_ME = circuit.memories_SME
    size = len(second_ME)
    heads.v_DE.copy_(_rows(config, (list(range(size)), second_ME)))
    _look_back(config, circuit, heads, shared)
    (_, out_ED), _ = heads.pairs
    out_ED[:, :size] = scale * MEAN / shared * third_ME.T


def _look_back(config: ModelConfig, circuit: Circuit, heads: "_Heads", shared: float) -> None:
    """Queries and keys by which the first head attends to the token before and the second to the one before that."""
    half = config.head_dim // 2
    pairs = list(range(min(_NEIGHBOUR_PAIRS, half)))
    turned = [pair + half for pair in pairs]
    size = math.sqrt(_NEIGHBOUR_LOGIT * math.sqrt(config.head_dim)) / shared
    heads.k_DE.copy_(_rows(config, (pairs, size * circuit.shared_E)))
    for back, (q_DE, _) in enumerate(heads.pairs, start=1):
        angles = back * torch.tensor(_frequencies(config))[pairs, None]
        cosines, sines = size * angles.cos() * circuit.shared_E, size * angles.sin() * circuit.shared_E
        q_DE.copy_(_rows(config, (pairs, cosines), (turned, -sines)))


def _repeat(config: ModelConfig, circuit: Circuit, matrices: Matrices, scale: float) -> None:
    """Layer 2: a head that matches three tokens and one that matches two; both repeat the content that they find."""
    heads = _heads_of(config, matrices)
    shared, content = _normed_sizes(config, circuit, memories=_MEMORIES)
    memories_SME = circuit.memories_SME * MEAN / shared  # a memory's part of the normed stream becomes 1
    sketched = content * math.sqrt(len(circuit.sketch_MD) / config.head_dim)
    said_SME = torch.stack([circuit.sketch_MD @ circuit.content_DE / sketched, *memories_SME[:-1]])
    slow = [row for pair in _slow_pairs(config) for row in (pair, pair + config.head_dim // 2)]
    places = [slow[number::_MEMORIES][: len(circuit.sketch_MD)] for number in range(_MEMORIES)]
    size = math.sqrt(_MATCH * math.sqrt(config.head_dim))
    heads.k_DE.copy_(_rows(config, *zip(places, size * memories_SME, strict=True)))
    heads.v_DE.copy_(circuit.content_DE)
    for matched, (q_DE, out_ED) in zip((3, 2), heads.pairs, strict=True):
        q_DE.copy_(_rows(config, *zip(places[:matched], size * said_SME[:matched], strict=True)))
        out_ED.copy_(_COPY * scale * circuit.content_DE.T)


_ARRANGE = (_remember, _hand_on, _repeat)
"""What is done to the attention of the first layers."""


def _rows(config: ModelConfig, *blocks: tuple[list[int], Tensor]) -> Tensor:
    """A matrix (D, E) that is zero but for the rows that are given."""
    matrix_DE = torch.zeros(config.head_dim, config.dim)
    for rows, block in blocks:
        matrix_DE[rows] = block
    return matrix_DE


@dataclass(frozen=True)
class _Heads:
    """Views of an attention's matrices: its first key-value head, and query and output of that head's first two."""

    k_DE: Tensor
    v_DE: Tensor
    pairs: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


def _heads_of(config: ModelConfig, matrices: Matrices) -> _Heads:
    first, second = slice(0, config.head_dim), slice(config.head_dim, 2 * config.head_dim)
    q, out = matrices["q"], matrices["out"]
    return _Heads(
        matrices["k"][first],
        matrices["v"][first],
        ((q[first], out[:, first]), (q[second], out[:, second])),
    )


def _normed_sizes(config: ModelConfig, circuit: Circuit, memories: int) -> tuple[float, float]:
    """Length, after the norm, of the shared part and of a token's content, with so many memories of length 1."""
    size = math.sqrt(config.dim / (1 + MEAN**2 + memories))
    return MEAN * size, size * math.sqrt(config.head_dim / len(circuit.own_RE))


def _frequencies(config: ModelConfig) -> list[float]:
    """Radians a token of every rotary pair."""
    return [config.rope_theta ** (-2 * pair / config.head_dim) for pair in range(config.head_dim // 2)]
