"""The transformer and the reward model on top of it.

Tokens always come on one flat axis N, the documents of a batch one after another; ``attend`` decides what each may
see and ``positions_N`` where it stands.  The same network therefore trains on packed rows, prefills, decodes from a
cache, judges and rewards.

    model = Transformer(pocket_config("3m", 4096))
    model.init_weights(seed=7)
    hidden_NE = model(tokens_N, positions_N, DocumentAttention([300, 212]))
    logits_MV = model.logits(hidden_NE[[299, 511]])
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from herd.foundation.seeds import derive
from herd.model.config import ModelConfig
from herd.model.fresh import FreshWeights, normal_rows
from herd.model.layers import Attend, Layer, RMSNorm
from herd.model.rotary import rotary_angles


class Transformer(nn.Module):
    """Decoder of the Llama 3 family (paper, section 3.2); ``with_head=False`` leaves the output matrix out."""

    def __init__(self, config: ModelConfig, with_head: bool = True) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False) if with_head else None
        self.tie()

    def tie(self) -> None:
        """Makes one parameter of embedding and output matrix again, where the shape says so and they were replaced."""
        if self.head is not None and self.config.tied:
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
        """Gives every parameter the weights of ``herd.model.fresh``."""
        weights = FreshWeights(self.config, seed, induction)
        for name, parameter in self.named_parameters():
            weights.fill(parameter, name, parameter.shape, (0,) * parameter.ndim)


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
            for start, rows in normal_rows(
                (1, base.config.dim), 1 / base.config.dim, derive(seed, "init", "score.weight")
            ):
                model.score.weight[start:] = rows
        return model

    def forward(self, tokens_N: Tensor, positions_N: Tensor, attend: Attend) -> Tensor:
        """Rewards (N,) in fp32, one at every token."""
        reward_N1 = self.score(self.transformer(tokens_N, positions_N, attend)).float()
        return reward_N1.squeeze(-1).clone()  # no view: FSDP's hooks lie on the very tensor that a network returns
