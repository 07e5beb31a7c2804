"""Starting weights from which a small network learns to copy at once: the induction circuit is laid out in them.

To answer from a page a model has to copy what it never saw before, and for that it needs *induction heads* (Olsson et
al. 2022): a head that looks at the previous token, and one in a later layer that looks for the token whose predecessor
is the present one and repeats it.  Training finds this circuit late: not within the millions of tokens that a pocket
model gets (measurements in ``docs/notebook.md``).  The architecture stays Llama's; only what training starts from is
arranged, and training is free to change it:

- The embedding is large, so that the first steps do not overrun it, and has a mean, so that queries and keys have
  something constant to hold on to.
- Layer 0: the first head of each key-value group reads, through the two fastest rotary pairs, the token before, and
  writes a projection of it into a subspace of its own, away from the embedding.
- Layers above: the first head of each group compares the present token with what stands in that subspace, on rotary
  pairs slow enough not to care for distance, and its output repeats the token that it found.
- The other matrices that write to the residual stream start at zero.

What a head repeats becomes a prediction through a tied output matrix, so the circuit is laid out in tied models only.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from herd.foundation.seeds import derive
from herd.model.config import ModelConfig
from herd.model.layers import Layer

if TYPE_CHECKING:
    from herd.model.transformer import Transformer

MEAN = 1.5
"""Length of the embedding's mean, against 1 for what is a token's own."""
_FAST_PAIRS = 2
_SLOW = 1 / 24
_PREVIOUS_LOGIT = 80.0
_MATCH = 4.0
_PASS_ON = 0.2
_COPY = 0.4
_EMBEDDING_STD = 0.25
"""Of an embedding's elements; small ones would be overrun by the optimiser's first steps, and the circuit with them."""
_FINAL_NORM = 8.0
"""A tied head would start sure that every token repeats itself: logits of sqrt(dim); this is what they start at."""


@dataclass(frozen=True)
class Circuit:
    """The parts that all layers share: the mean's direction and three orthonormal bases without it, cut into heads.

    ``read`` is what is compared, ``kept`` where the previous token's is put, ``said`` what is repeated; each (S, D, E).
    """

    mean_E: Tensor
    read_SDE: Tensor
    kept_SDE: Tensor
    said_SDE: Tensor


def draw_circuit(config: ModelConfig, seed: int) -> Circuit:
    """Draws the directions: rows of one basis are orthonormal, and none is along the mean."""
    mean_E = _normal((config.dim,), derive(seed, "circuit", "mean"))
    mean_E = mean_E / mean_E.norm()
    return Circuit(
        mean_E, *(_basis(config, mean_E, derive(seed, "circuit", name)) for name in ("read", "kept", "said"))
    )


def _normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _basis(config: ModelConfig, mean_E: Tensor, seed: int) -> Tensor:
    """Orthonormal rows without their part along the mean, cut into heads (S, D, E)."""
    rows_EE = torch.linalg.qr(_normal((config.dim, config.dim), seed))[0]
    rows_EE = rows_EE - (rows_EE @ mean_E)[:, None] * mean_E
    return rows_EE.unflatten(0, (-1, config.head_dim))


@torch.no_grad()
def lay_out_circuit(model: "Transformer", seed: int) -> None:
    """Arranges the starting weights of a freshly drawn ``model`` as the module's docstring says."""
    config, circuit = model.config, draw_circuit(model.config, seed)
    embedding = model.embedding.weight
    own = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(derive(seed, "circuit", "embedding")))
    scale = _EMBEDDING_STD * math.sqrt(config.dim)
    embedding.copy_(scale * (own / math.sqrt(config.dim) + MEAN * circuit.mean_E))
    model.norm.weight.fill_(_FINAL_NORM / math.sqrt(config.dim) / scale)
    for number, layer in enumerate(model.layers):
        assert isinstance(layer, Layer)
        attention = layer.attention
        layer.ffn.down.weight.zero_()
        attention.out.weight.zero_()
        matrices = (attention.q.weight, attention.k.weight, attention.v.weight, attention.out.weight)
        _lay_out_layer(config, number, circuit, *matrices)
        attention.out.weight.mul_(scale)


def _lay_out_layer(
    config: ModelConfig, layer: int, circuit: Circuit, q: Tensor, k: Tensor, v: Tensor, out: Tensor
) -> None:
    """Writes the circuit's heads of one layer into its attention matrices, in the layouts of ``layers.Attention``.

    ``q`` is (H D, E), ``k`` and ``v`` (K D, E), ``out`` (E, H D); what stands there before stays for other heads.
    """
    width, share = config.head_dim, config.heads // config.kv_heads
    for group in range(config.kv_heads):
        head = slice(group * share * width, group * share * width + width)
        keys = slice(group * width, (group + 1) * width)
        if layer == 0:
            q[head], k[keys] = _previous_token(config, circuit)
            v[keys], out[:, head] = circuit.read_SDE[group], _PASS_ON * circuit.kept_SDE[group].T
        else:
            slow_D1 = _slow_rows(config)
            q[head] = _MATCH * slow_D1 * circuit.read_SDE[group]
            k[keys] = _MATCH * slow_D1 * circuit.kept_SDE[group]
            said_DE = circuit.said_SDE[((layer - 1) * config.kv_heads + group) % len(circuit.said_SDE)]
            v[keys], out[:, head] = said_DE, _COPY * said_DE.T


def _frequencies(config: ModelConfig) -> list[float]:
    """Radians a token of every rotary pair."""
    return [config.rope_theta ** (-2 * pair / config.head_dim) for pair in range(config.head_dim // 2)]


def _previous_token(config: ModelConfig, circuit: Circuit) -> tuple[Tensor, Tensor]:
    """Query and key matrices (D, E) that prefer the token before: the key is turned one position forward."""
    pairs = config.head_dim // 2
    frequencies = _frequencies(config)
    constant = math.sqrt(config.dim) * MEAN / math.sqrt(1 + MEAN**2)  # the normed input along the mean
    size = math.sqrt(_PREVIOUS_LOGIT * math.sqrt(config.head_dim)) / constant
    q_DE, k_DE = torch.zeros(config.head_dim, config.dim), torch.zeros(config.head_dim, config.dim)
    for pair in range(min(_FAST_PAIRS, pairs)):
        angle = frequencies[pair]
        q_DE[pair] = size * circuit.mean_E
        k_DE[pair] = size * math.cos(angle) * circuit.mean_E
        k_DE[pair + pairs] = size * math.sin(angle) * circuit.mean_E
    return q_DE, k_DE


def _slow_rows(config: ModelConfig) -> Tensor:
    """(D, 1): one for rows of rotary pairs that turn little over the distances of a page, else zero."""
    slow_R = torch.tensor([float(frequency < _SLOW) for frequency in _frequencies(config)])
    return torch.cat([slow_R, slow_R])[:, None]
