"""Choosing the next token: for all running requests at once, and for each as if it were alone.

Every request has its own stream of random numbers, a pure function of (seed, step), so that neither the batch nor
the order of requests changes an answer.  The choice itself reads the cumulative distribution in the vocabulary's
order: rounding differences between batch sizes then move a boundary by a millionth, where a sorted order would swap
tokens.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from herd.foundation.errors import HerdError

if TYPE_CHECKING:
    from herd.infer.grammar import Grammar

# Nucleus and top-k are read off the largest values; only a row whose nucleus is wider is sorted as a whole.
_CANDIDATES = 64


@dataclass(frozen=True)
class Sampling:
    """What a request asks for; temperature and top-p default to those of the paper's reference sampler (section 11).

    ``temperature`` 0 is greedy.  ``top_k`` 0 is off; it is applied before ``top_p``.  ``seed`` None: the engine's
    configured seed (a server draws one per request).  ``stop_ids`` None: the tokenizer's.  ``stop``: strings that
    end the answer and are not part of its text.  ``logprobs`` None: none; k: each token's natural log-probability
    under the model itself (before temperature, filters and grammar) and those of the k likeliest tokens.
    """

    max_tokens: int = 256
    temperature: float = 0.6
    top_p: float = 0.9
    top_k: int = 0
    seed: int | None = None
    stop_ids: tuple[int, ...] | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    grammar: "Grammar | None" = None

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise HerdError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not (0 <= self.temperature <= 100):
            raise HerdError(f"temperature must lie between 0 and 100, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise HerdError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if self.top_k < 0:
            raise HerdError(f"top_k must not be negative, got {self.top_k}")
        if self.logprobs is not None and self.logprobs < 0:
            raise HerdError(f"logprobs must not be negative, got {self.logprobs}")
        if any(not stop for stop in self.stop):
            raise HerdError("a stop string must not be empty")


def uniform(seeds_B: np.ndarray, steps_B: np.ndarray) -> np.ndarray:
    """Random numbers in [0, 1) with 32 bits, one per (seed, step): the SplitMix64 generator used as a counter."""
    z = seeds_B.astype(np.uint64) + (steps_B.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(32)).astype(np.float64) * 2.0**-32


def _thresholds(probs_BV: Tensor, top_p_B: Tensor, top_k_B: Tensor, candidates: int) -> tuple[Tensor, Tensor]:
    """Smallest probability that stays in each row, and whether ``candidates`` values were enough to know it."""
    largest_BC = probs_BV.topk(candidates, dim=-1).values
    sums_BC = largest_BC.cumsum(-1)
    vocabulary = probs_BV.shape[1]
    last_k_B1 = torch.where(top_k_B > 0, top_k_B, vocabulary).clamp(max=vocabulary)[:, None] - 1
    reachable_B1 = last_k_B1.clamp(max=candidates - 1)
    total_B1 = torch.where(last_k_B1 < candidates, sums_BC.gather(1, reachable_B1), 1.0)
    # The nucleus is the shortest run of the largest values that reaches top_p of the mass.
    wanted_B1 = top_p_B[:, None] * total_B1
    last_p_B1 = (sums_BC < wanted_B1).sum(-1, keepdim=True)
    last_B1 = torch.minimum(last_p_B1, reachable_B1).clamp(max=candidates - 1)
    enough_B = (top_k_B == 0) | (top_k_B <= candidates) | (candidates == vocabulary)
    known_B = enough_B & (torch.minimum(last_p_B1, last_k_B1) < candidates).squeeze(1)
    return largest_BC.gather(1, last_B1), known_B


def _filter(probs_BV: Tensor, top_p_B: Tensor, top_k_B: Tensor) -> Tensor:
    """Sets to zero what lies outside top-k and the nucleus."""
    vocabulary = probs_BV.shape[1]
    threshold_B1, known_B = _thresholds(probs_BV, top_p_B, top_k_B, min(_CANDIDATES, vocabulary))
    open_B = (top_p_B >= 1) & (top_k_B == 0)
    wide_B = ~(known_B | open_B)
    if bool(wide_B.any()):
        threshold_B1[wide_B] = _thresholds(probs_BV[wide_B], top_p_B[wide_B], top_k_B[wide_B], vocabulary)[0]
    threshold_B1 = threshold_B1.masked_fill(open_B[:, None], 0.0)
    return probs_BV.masked_fill(probs_BV < threshold_B1, 0.0)


def choose(logits_BV: Tensor, temperature_B: Tensor, top_p_B: Tensor, top_k_B: Tensor, uniform_B: Tensor) -> Tensor:
    """Token ids (B,) for logits (B, V) in fp32; rows of temperature 0 take the largest, the first of equals.

    ``uniform_B`` (fp64, in [0, 1)) decides the others by the inverse of the cumulative distribution.
    """
    greedy_B = temperature_B <= 0
    if bool(greedy_B.all()):
        return logits_BV.argmax(-1)
    temperature_B = temperature_B.masked_fill(greedy_B, 1.0).clamp(min=1e-4)
    probs_BV = torch.softmax(logits_BV / temperature_B[:, None], dim=-1)
    if bool(((top_p_B < 1) | (top_k_B > 0)).any()):
        probs_BV = _filter(probs_BV, top_p_B, top_k_B)
    sums_BV = probs_BV.cumsum(-1, dtype=torch.float64)
    # Strictly above the target: a token without probability is never chosen, and u < 1 keeps the last one in reach.
    chosen_B = torch.searchsorted(sums_BV, uniform_B[:, None] * sums_BV[:, -1:], right=True).squeeze(1)
    if bool(greedy_B.any()):
        chosen_B = torch.where(greedy_B, logits_BV.argmax(-1), chosen_B)
    return chosen_B
