"""Seeds derived from one number and a path of names, so that no two uses of chance share a stream by accident.

``derive(7, "sft", "round-1")`` is the same on every machine and for ever: it is a digest, not a hash of the process.
"""

import hashlib
import random

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on ``seed`` and on every name in order."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def random_from(seed: int, *names: str | int) -> random.Random:
    """Python's generator, seeded by ``derive``: for choosing and shuffling objects."""
    return random.Random(derive(seed, *names))


def numpy_from(seed: int, *names: str | int) -> np.random.Generator:
    """NumPy's counter-based Philox generator, seeded by ``derive``: for arrays."""
    return np.random.Generator(np.random.Philox(derive(seed, *names)))
