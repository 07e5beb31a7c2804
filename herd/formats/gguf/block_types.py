"""The ways in which GGUF stores the values of a tensor.

A row is cut into blocks of equal size; each block carries its own scale.  The table gives what has to be known to
find and measure a tensor; ``blocks`` and ``k_blocks`` know what the bytes mean.

    Q4_K.size((4096, 4096))     # bytes of a matrix
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BlockType:
    """One storage type: its name and number in the format, and how many values and bytes a block has."""

    name: str
    number: int
    values: int
    bytes: int

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether rows of ``shape`` (last axis contiguous) are whole blocks."""
        return shape[-1] % self.values == 0

    def size(self, shape: Sequence[int]) -> int:
        """Bytes of a tensor of ``shape``, whose rows must be whole blocks."""
        return math.prod(shape) // self.values * self.bytes


F32 = BlockType("F32", 0, 1, 4)
F16 = BlockType("F16", 1, 1, 2)
BF16 = BlockType("BF16", 30, 1, 2)
Q4_0 = BlockType("Q4_0", 2, 32, 18)
Q4_1 = BlockType("Q4_1", 3, 32, 20)
Q5_0 = BlockType("Q5_0", 6, 32, 22)
Q5_1 = BlockType("Q5_1", 7, 32, 24)
Q8_0 = BlockType("Q8_0", 8, 32, 34)
Q4_K = BlockType("Q4_K", 12, 256, 144)
Q5_K = BlockType("Q5_K", 13, 256, 176)
Q6_K = BlockType("Q6_K", 14, 256, 210)

BY_NUMBER = {kind.number: kind for kind in (F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K)}

NOT_READ = {
    **{9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K"},
    **{16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS"},
    **{24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4"},
}
"""Names of types that exist in the format and are not read here, for the sentence that refuses them."""
