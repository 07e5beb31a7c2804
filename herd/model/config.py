"""The shape of a model: what has to be known to build it, count it and plan it.

No tensor is made here, so importing it is cheap.  ``PRESETS`` holds the published shapes (paper, Table 3, and the
configurations of the releases); ``pocket_config`` the sizes that are raised on two CPU cores.
"""

from dataclasses import dataclass, replace

from herd.foundation.errors import HerdError


@dataclass(frozen=True)
class RopeScaling:
    """How Llama 3.1 stretches the rotary frequencies beyond the length of initial pre-training (release, not paper)."""

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192

    def __post_init__(self) -> None:
        if self.factor < 1 or self.original_max_positions < 1 or not 0 < self.low_freq_factor < self.high_freq_factor:
            raise HerdError(f"rope_scaling: {self} needs factor >= 1 and 0 < low_freq_factor < high_freq_factor")


@dataclass(frozen=True)
class ModelConfig:
    """The shape of one network; impossible shapes raise ``HerdError`` with the numbers in the sentence."""

    vocab_size: int
    dim: int
    layers: int
    heads: int
    kv_heads: int
    ffn_dim: int
    rope_theta: float = 500_000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5
    max_positions: int = 8192
    tied: bool = False

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "dim",
            "layers",
            "heads",
            "kv_heads",
            "ffn_dim",
            "max_positions",
            "rope_theta",
            "norm_eps",
        ):
            if getattr(self, name) <= 0:
                raise HerdError(f"model: {name} is {getattr(self, name)}, it must be positive")
        if self.dim % self.heads:
            raise HerdError(f"model: dim {self.dim} is not divisible by heads {self.heads}")
        if self.heads % self.kv_heads:
            raise HerdError(f"model: heads {self.heads} is not divisible by kv_heads {self.kv_heads}")
        if self.head_dim % 2:
            raise HerdError(f"model: head dimension {self.head_dim} (dim / heads) is odd, rotary embedding turns pairs")

    @property
    def head_dim(self) -> int:
        """Dimension of one attention head."""
        return self.dim // self.heads

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer: four attention matrices, three feed-forward matrices, two norms."""
        attention = 2 * self.dim * self.head_dim * (self.heads + self.kv_heads)
        return attention + 3 * self.dim * self.ffn_dim + 2 * self.dim

    @property
    def parameters(self) -> int:
        """All parameters; a tied output matrix counts once."""
        embeddings = self.vocab_size * self.dim * (1 if self.tied else 2)
        return self.layers * self.layer_parameters + self.dim + embeddings

    def non_embedding_parameters(self) -> int:
        """Parameters without the input embedding and the output matrix."""
        return self.layers * self.layer_parameters + self.dim

    def matmul_parameters(self) -> int:
        """Parameters that every token is multiplied with: layers and output matrix, not lookup or norms."""
        return self.layers * (self.layer_parameters - 2 * self.dim) + self.vocab_size * self.dim

    def flops_per_token(self, length: int) -> float:
        """Training FLOPs (forward and backward) of one token in a document of ``length`` tokens.

        Six for every multiplied parameter, and for attention the causal half of 12 * layers * dim * length.
        """
        return 6.0 * self.matmul_parameters() + 6.0 * self.layers * self.dim * length

    def forward_flops(self, tokens: int, seen: float) -> float:
        """FLOPs of reading or writing ``tokens`` tokens, a third of what training on them takes.

        ``seen`` counts what they attend to, each token itself included: n (n + 1) / 2 for a document of n tokens.
        """
        return 2.0 * self.matmul_parameters() * tokens + 4.0 * self.layers * self.dim * seen

    def with_context(self, max_positions: int, scaling: RopeScaling | None) -> "ModelConfig":
        """The same network for another context length."""
        return replace(self, max_positions=max_positions, rope_scaling=scaling)


_LLAMA_31 = RopeScaling(factor=8.0)
_LLAMA_32 = RopeScaling(factor=32.0)
_LONG = 131_072


def _llama(dim: int, layers: int, heads: int, ffn_dim: int, **other: object) -> ModelConfig:
    shape: dict[str, object] = {"vocab_size": 128_256, "kv_heads": 8} | other
    return ModelConfig(dim=dim, layers=layers, heads=heads, ffn_dim=ffn_dim, **shape)  # type: ignore[arg-type]


PRESETS: dict[str, ModelConfig] = {
    "llama-3.1-8b": _llama(4096, 32, 32, 14_336, rope_scaling=_LLAMA_31, max_positions=_LONG),
    "llama-3.1-70b": _llama(8192, 80, 64, 28_672, rope_scaling=_LLAMA_31, max_positions=_LONG),
    "llama-3.1-405b": _llama(16_384, 126, 128, 53_248, rope_scaling=_LLAMA_31, max_positions=_LONG),
    "llama-3.2-1b": _llama(2048, 16, 32, 8192, rope_scaling=_LLAMA_32, max_positions=_LONG, tied=True),
    "llama-3.2-3b": _llama(3072, 28, 24, 8192, rope_scaling=_LLAMA_32, max_positions=_LONG, tied=True),
    "llama-3-8b": _llama(4096, 32, 32, 14_336),
    "llama-3-70b": _llama(8192, 80, 64, 28_672),
    "llama-2-7b": _llama(4096, 32, 32, 11_008, vocab_size=32_000, kv_heads=32, rope_theta=10_000.0, max_positions=4096),
}

# Named by their parameters at a vocabulary of 4,096.  Heads are wide and few: reading a tool's answer needs induction
# heads, and what those can tell apart grows with the rotary pairs that turn slowly enough for a page.
_POCKET: dict[str, tuple[int, int, int, int, int]] = {  # dim, layers, heads, kv_heads, ffn_dim
    "0.5m": (64, 4, 2, 1, 192),
    "0.8m": (96, 4, 2, 1, 256),
    "1m": (128, 4, 2, 1, 256),
    "1.5m": (160, 4, 2, 1, 288),
    "2m": (192, 4, 2, 1, 384),
    "3m": (256, 4, 4, 2, 448),
    "6m": (320, 5, 4, 2, 640),
}
POCKET_SIZES = tuple(_POCKET)


def pocket_config(name: str, vocab_size: int, max_positions: int = 2048) -> ModelConfig:
    """A pocket shape with tied embeddings for a vocabulary of ``vocab_size``; unknown names raise ``HerdError``."""
    if name not in _POCKET:
        raise HerdError(f"there is no pocket size {name!r}; the sizes are {', '.join(_POCKET)}")
    dim, layers, heads, kv_heads, ffn_dim = _POCKET[name]
    return ModelConfig(
        vocab_size=vocab_size,
        dim=dim,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        ffn_dim=ffn_dim,
        max_positions=max_positions,
        tied=True,
    )
