"""The parts of one layer: RMSNorm, the attention projections, SwiGLU (paper, section 3.2; no biases anywhere).

A layer is cut in two at attention: ``project`` makes queries, keys and values, ``merge`` takes what attention read.
What lies between is the context's affair (documents in training, a cache in decoding), and because the two halves
hold no Python decision, they are also the regions that ``herd.train`` compiles.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from herd.model.config import ModelConfig
from herd.model.rotary import rotate


class Attend(Protocol):
    """What a token may see: the caller's rule, called once per layer."""

    def __call__(self, layer: int, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor) -> Tensor:
        """Returns the attended values, (N, H, D), for rotated queries and keys."""


class RMSNorm(nn.Module):
    """x / rms(x) * weight, the division in fp32 whatever the type of x."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x_NE: Tensor) -> Tensor:
        """Normalises the last axis."""
        x = x_NE.float()
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
        return x.to(x_NE.dtype) * self.weight


class Attention(nn.Module):
    """The four matrices of grouped-query attention."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q = nn.Linear(config.dim, width, bias=False)
        self.k = nn.Linear(config.dim, kv_width, bias=False)
        self.v = nn.Linear(config.dim, kv_width, bias=False)
        self.out = nn.Linear(width, config.dim, bias=False)

    def project(self, x_NE: Tensor, cos_NR: Tensor, sin_NR: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (N, H, D), keys and values (N, K, D); queries and keys are rotated to their positions."""
        shape = (x_NE.shape[0], -1, self.head_dim)
        q_NHD, k_NKD, v_NKD = self.q(x_NE).view(shape), self.k(x_NE).view(shape), self.v(x_NE).view(shape)
        return rotate(q_NHD, cos_NR, sin_NR), rotate(k_NKD, cos_NR, sin_NR), v_NKD


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.dim, config.ffn_dim, bias=False)
        self.up = nn.Linear(config.dim, config.ffn_dim, bias=False)
        self.down = nn.Linear(config.ffn_dim, config.dim, bias=False)

    def forward(self, x_NE: Tensor) -> Tensor:
        """Applies the block to every token."""
        return self.down(F.silu(self.gate(x_NE)) * self.up(x_NE))


class Layer(nn.Module):
    """One pre-norm layer: x + attention(norm(x)), then x + ffn(norm(x))."""

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.index = index
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = Attention(config)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)
        self.ffn = FeedForward(config)

    def project(self, x_NE: Tensor, cos_NR: Tensor, sin_NR: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The half before attention: rotated queries and keys, and values."""
        return self.attention.project(self.attention_norm(x_NE), cos_NR, sin_NR)

    def merge(self, x_NE: Tensor, attended_NHD: Tensor) -> Tensor:
        """The half after attention: output matrix, residual, feed-forward, residual."""
        x_NE = x_NE + self.attention.out(attended_NHD.flatten(1))
        return x_NE + self.ffn(self.ffn_norm(x_NE))

    def forward(self, x_NE: Tensor, cos_NR: Tensor, sin_NR: Tensor, attend: Attend) -> Tensor:
        """Residual stream in, residual stream out."""
        q_NHD, k_NKD, v_NKD = self.project(x_NE, cos_NR, sin_NR)
        return self.merge(x_NE, attend(self.index, q_NHD, k_NKD, v_NKD))
