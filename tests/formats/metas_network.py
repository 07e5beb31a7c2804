"""A small forward pass in the convention of Meta's releases, written from its description and of no code of Herd's.

Heads are seen as complex numbers, two neighbouring dimensions each, and turned by multiplication; weights go by the
names of ``consolidated.00.pth`` and shapes by those of ``params.json``.
"""

import math
from typing import Any

import torch

Weights = dict[str, torch.Tensor]

# How each tensor is cut among model-parallel ranks.
BY_ROWS = ("tok_embeddings", "output", "wq", "wk", "wv", "w1", "w3")
BY_COLUMNS = ("wo", "w2")


def stretched(frequency: float, factor: float) -> float:
    """A frequency after the scaling of Llama 3.1, by its wavelength."""
    wavelength = 2 * math.pi / frequency
    if wavelength < 8192 / 4:
        return frequency
    if wavelength > 8192:
        return frequency / factor
    smooth = (8192 / wavelength - 1) / (4 - 1)
    return (1 - smooth) * frequency / factor + smooth * frequency


def turns(params: dict[str, Any], length: int, factor: float) -> torch.Tensor:
    """Unit complex numbers (length, head_dim / 2)."""
    width = params["dim"] // params["n_heads"]
    frequencies = [params["rope_theta"] ** (-2 * pair / width) for pair in range(width // 2)]
    if params.get("use_scaled_rope"):
        frequencies = [stretched(frequency, factor) for frequency in frequencies]
    angles = torch.outer(torch.arange(length, dtype=torch.float64), torch.tensor(frequencies, dtype=torch.float64))
    return torch.polar(torch.ones_like(angles), angles)


def normed(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return weight * x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def attended(x: torch.Tensor, layer: Weights, params: dict[str, Any], turn: torch.Tensor) -> torch.Tensor:
    length, heads = len(x), params["n_heads"]
    groups = heads // (params.get("n_kv_heads") or heads)

    def split(name: str) -> torch.Tensor:
        return (x @ layer[name].T).view(length, -1, params["dim"] // heads)

    def turned(heads_in: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(heads_in.reshape(*heads_in.shape[:2], -1, 2))
        return torch.view_as_real(pairs * turn[:, None]).flatten(2)

    q, k = turned(split("attention.wq")), turned(split("attention.wk")).repeat_interleave(groups, 1)
    v = split("attention.wv").repeat_interleave(groups, 1)
    scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(torch.ones(length, length).tril() == 0, -math.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1) @ layer["attention.wo"].T


@torch.no_grad()
def logits(params: dict[str, Any], weights: Weights, tokens: torch.Tensor, factor: float = 8.0) -> torch.Tensor:
    """Logits (length, vocabulary), in double precision."""
    weights = {name: tensor.double() for name, tensor in weights.items()}
    x = weights["tok_embeddings.weight"][tokens]
    turn = turns(params, len(tokens), factor)
    for number in range(params["n_layers"]):
        start = f"layers.{number}."
        layer = {
            name.removeprefix(start).removesuffix(".weight"): tensor
            for name, tensor in weights.items()
            if name.startswith(start)
        }
        x = x + attended(normed(x, layer["attention_norm"], params["norm_eps"]), layer, params, turn)
        hidden = normed(x, layer["ffn_norm"], params["norm_eps"])
        gate, up = hidden @ layer["feed_forward.w1"].T, hidden @ layer["feed_forward.w3"].T
        x = x + (gate * gate.sigmoid() * up) @ layer["feed_forward.w2"].T
    return normed(x, weights["norm.weight"], params["norm_eps"]) @ weights["output.weight"].T


def divided(weights: Weights, ranks: int) -> list[Weights]:
    """Each rank's part of every tensor."""
    return [{name: _part(name, tensor, ranks, rank) for name, tensor in weights.items()} for rank in range(ranks)]


def joined(parts: list[Weights]) -> Weights:
    """The inverse of ``divided``."""
    whole = {}
    for name, first in parts[0].items():
        kind = name.split(".")[-2]
        if kind in BY_ROWS or kind in BY_COLUMNS:
            whole[name] = torch.cat([part[name] for part in parts], 0 if kind in BY_ROWS else 1)
        else:
            whole[name] = first
    return whole


def _part(name: str, tensor: torch.Tensor, ranks: int, rank: int) -> torch.Tensor:
    kind = name.split(".")[-2]
    if kind not in BY_ROWS and kind not in BY_COLUMNS:
        return tensor
    axis = 0 if kind in BY_ROWS else 1
    step = tensor.shape[axis] // ranks
    return tensor.narrow(axis, rank * step, step).clone()


def random_weights(params: dict[str, Any], ffn: int, seed: int) -> Weights:
    """Weights of the scale that a network starts with."""
    dim, vocabulary = params["dim"], params["vocab_size"]
    kv = dim // params["n_heads"] * (params.get("n_kv_heads") or params["n_heads"])
    shapes = {"tok_embeddings": (vocabulary, dim), "norm": (dim,), "output": (vocabulary, dim)}
    for number in range(params["n_layers"]):
        for name, shape in {
            "attention_norm": (dim,),
            "attention.wq": (dim, dim),
            "attention.wk": (kv, dim),
            "attention.wv": (kv, dim),
            "attention.wo": (dim, dim),
            "ffn_norm": (dim,),
            "feed_forward.w1": (ffn, dim),
            "feed_forward.w2": (dim, ffn),
            "feed_forward.w3": (ffn, dim),
        }.items():
            shapes[f"layers.{number}.{name}"] = shape
    chance = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        draw = torch.randn(shape, generator=chance)
        weights[f"{name}.weight"] = 1 + 0.1 * draw if len(shape) == 1 else draw / math.sqrt(shape[1])
    return weights
