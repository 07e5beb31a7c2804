"""Which tensor is stored as which block type, for each name that ``--type`` knows.

The choices are llama.cpp's own for its file types of the same names: vectors stay in float32, the output matrix (the
embedding where it serves as one) never has fewer than six bits, and ``q4_k`` and ``q5_k`` are its medium mixtures, in
which values and the last feed-forward matrix of half the layers have six bits.  A row that is not whole blocks of a
type takes Q8_0, and float32 where not even 32 divides it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from herd.formats.gguf.block_types import BF16, F16, F32, Q4_0, Q4_K, Q5_K, Q6_K, Q8_0, BlockType
from herd.formats.gguf.names import split_layer
from herd.formats.tensors import EMBEDDING, HEAD
from herd.model.config import ModelConfig

_SENSITIVE = ("self_attn.v_proj", "mlp.down_proj")


@dataclass(frozen=True)
class Mixture:
    """The block types of one file type, and its number in the metadata."""

    file_type: int
    matrices: BlockType
    output: BlockType
    sensitive: BlockType | None = None

    def choose(self, name: str, shape: Sequence[int], config: ModelConfig) -> BlockType:
        """The block type of the tensor that Hugging Face calls ``name``."""
        if len(shape) == 1:
            return F32
        wanted = self.matrices
        layer = split_layer(name)
        if name == HEAD or (name == EMBEDDING and config.tied):
            wanted = self.output
        elif self.sensitive and layer and layer[1] in _SENSITIVE and _is_chosen(layer[0], config.layers):
            wanted = self.sensitive
        return next(kind for kind in (wanted, Q8_0, F32) if kind.fits(shape))


def _is_chosen(layer: int, layers: int) -> bool:
    """The first eighth of the layers, the last, and every third between them."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


GGUF_TYPES: Mapping[str, Mixture] = {
    "f32": Mixture(0, F32, F32),
    "f16": Mixture(1, F16, F16),
    "bf16": Mixture(32, BF16, BF16),
    "q8_0": Mixture(7, Q8_0, Q8_0),
    "q6_k": Mixture(18, Q6_K, Q6_K),
    "q5_k": Mixture(17, Q5_K, Q6_K, sensitive=Q6_K),
    "q4_k": Mixture(15, Q4_K, Q6_K, sensitive=Q6_K),
    "q4_0": Mixture(2, Q4_0, Q6_K),
}
"""File types by the names that ``--type`` knows."""
