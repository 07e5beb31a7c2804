"""The transformer with its layers' matrices side by side, for models so small that calls cost more than arithmetic.

``Transformer.forward`` stays the one definition: only its layers are exchanged for ones that keep the same contract
with a third of the calls.  Queries, keys and values come from one product, gate and up from another, the weights of
the norms are folded into the matrices behind them, and residuals are added by the product that makes their summand.
The values are those of the plain layers up to rounding; a test ties them together.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from herd.model.layers import Attend, Layer
from herd.model.transformer import Transformer


class _Angles:
    """Cosine and sine for whole heads, (N, 1, D), made once a step and read by every layer."""

    def __init__(self) -> None:
        self._source: Tensor | None = None
        self._cos = self._sin = torch.empty(0)

    def of(self, cos_NR: Tensor, sin_NR: Tensor) -> tuple[Tensor, Tensor]:
        """Widened angles; the sine of a head's first half is negative, as the rotation wants it."""
        if self._source is not cos_NR:
            self._source = cos_NR
            self._cos = torch.cat((cos_NR, cos_NR), dim=-1)[:, None]
            self._sin = torch.cat((-sin_NR, sin_NR), dim=-1)[:, None]
        return self._cos, self._sin


class FusedLayer(nn.Module):
    """``Layer`` in six products and few calls; holds copies of its matrices, not trainable."""

    def __init__(self, layer: Layer, angles: _Angles) -> None:
        super().__init__()
        attention, ffn = layer.attention, layer.ffn
        self.index, self.eps, self._angles = layer.index, layer.attention_norm.eps, angles
        self.head_dim = attention.head_dim
        self.heads = attention.q.out_features // self.head_dim
        self.rotated = self.heads + attention.k.out_features // self.head_dim
        with torch.no_grad():
            qkv = torch.cat((attention.q.weight, attention.k.weight, attention.v.weight))
            self.qkv = qkv * layer.attention_norm.weight
            self.gate_up = torch.cat((ffn.gate.weight, ffn.up.weight)) * layer.ffn_norm.weight
            self.out = attention.out.weight.detach().clone()
            self.down = ffn.down.weight.detach().clone()

    def forward(self, x_NE: Tensor, cos_NR: Tensor, sin_NR: Tensor, attend: Attend) -> Tensor:
        """Residual stream in, residual stream out."""
        shape = x_NE.shape[-1:]
        qkv = F.linear(F.rms_norm(x_NE, shape, eps=self.eps), self.qkv).view(len(x_NE), -1, self.head_dim)
        cos, sin = self._angles.of(cos_NR, sin_NR)
        qk = qkv[:, : self.rotated]
        qk = torch.addcmul(qk * cos, qk.roll(self.head_dim // 2, -1), sin)
        attended_NHD = attend(self.index, qk[:, : self.heads], qk[:, self.heads :], qkv[:, self.rotated :])
        x_NE = torch.addmm(x_NE, attended_NHD.flatten(1), self.out.T)
        gate, up = F.linear(F.rms_norm(x_NE, shape, eps=self.eps), self.gate_up).chunk(2, dim=-1)
        return torch.addmm(x_NE, F.silu(gate).mul_(up), self.down.T)


def fuse(model: Transformer) -> Transformer:
    """A transformer for inference with copies of the layers' weights; embedding, last norm and head are shared."""
    with torch.device("meta"):
        fused = Transformer(model.config)
    fused.embedding, fused.norm, fused.head = model.embedding, model.norm, model.head
    angles = _Angles()
    fused.layers = nn.ModuleList(FusedLayer(layer, angles) for layer in model.layers if isinstance(layer, Layer))
    assert len(fused.layers) == len(model.layers)
    return fused.eval()
