"""The transformer and the reward model on top of it.

Tokens always come on one flat axis N, the documents of a batch one after another; ``attend`` decides what each may
see and ``positions_N`` where it stands.  The same network therefore trains on packed rows, prefills, decodes from a
cache, judges and rewards.

    model = Transformer(pocket_config("3m", 4096))
    model.init_weights(seed=7)
    hidden_NE = model(tokens_N, positions_N, DocumentAttention([300, 212]))
    logits_MV = model.logits(hidden_NE[[299, 511]])
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from herd.foundation.seeds import derive
from herd.model.config import ModelConfig
from herd.model.induction import has_room, lay_out_circuit
from herd.model.layers import Attend, Layer, RMSNorm
from herd.model.rotary import rotary_angles

_EMBEDDING_STD = 0.02


class Transformer(nn.Module):
    """Decoder of the Llama 3 family (paper, section 3.2); ``with_head=False`` leaves the output matrix out."""

    def __init__(self, config: ModelConfig, with_head: bool = True) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False) if with_head else None
        if self.head is not None and config.tied:
            self.head.weight = self.embedding.weight

    @property
    def head_weight(self) -> Tensor:
        """The output matrix (V, E); the embedding itself where they are tied."""
        assert self.head is not None, "a network without an output matrix was asked for it"
        return self.head.weight

    def forward(self, tokens_N: Tensor, positions_N: Tensor, attend: Attend) -> Tensor:
        """Hidden states (N, E) after the final norm, for token ids and their positions in their documents."""
        cos_NR, sin_NR = rotary_angles(self.config, positions_N)
        x_NE = self.embedding(tokens_N)
        for layer in self.layers:
            x_NE = layer(x_NE, cos_NR, sin_NR, attend)
        return self.norm(x_NE)

    def logits(self, hidden_ME: Tensor) -> Tensor:
        """Logits (M, V) in fp32 of the hidden states that are asked for."""
        return F.linear(hidden_ME, self.head_weight).float()

    @torch.no_grad()
    def init_weights(self, seed: int, induction: bool = True) -> None:
        """Draws every matrix from its own seed, so that neither order nor sharding changes what a name receives.

        The paper gives no initialisation; ours is normal with variance 1/fan-in, and 0.02 for the embedding; matrices
        that write to the residual stream are further divided by sqrt(2 * layers).  With ``induction``, the default,
        a shape with room for it then gets the circuit of the module of that name, and starts by copying.
        """
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0)
                continue
            std = _EMBEDDING_STD if name in ("embedding.weight", "head.weight") else 1 / math.sqrt(parameter.shape[1])
            if name.endswith(("attention.out.weight", "ffn.down.weight")):
                std /= math.sqrt(2 * self.config.layers)
            _fill_normal(parameter, std, derive(seed, "init", name))
        if induction and has_room(self.config):
            lay_out_circuit(self, seed)


class RewardModel(nn.Module):
    """A transformer that gives every token a scalar; the value at a dialogue's last token is its reward (4.1.2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config, with_head=False)
        self.score = nn.Linear(config.dim, 1, bias=False)

    @classmethod
    def from_transformer(cls, base: Transformer, seed: int) -> "RewardModel":
        """A reward model that starts as a copy of ``base`` with a fresh, small head drawn from ``seed``."""
        model = cls(base.config)
        model.transformer.load_state_dict(
            {name: value for name, value in base.state_dict().items() if name != "head.weight"}
        )
        with torch.no_grad():
            _fill_normal(model.score.weight, 1 / base.config.dim, derive(seed, "init", "score.weight"))
        return model

    def forward(self, tokens_N: Tensor, positions_N: Tensor, attend: Attend) -> Tensor:
        """Rewards (N,) in fp32, one at every token."""
        return self.score(self.transformer(tokens_N, positions_N, attend)).float().squeeze(-1)


def _fill_normal(parameter: Tensor, std: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
