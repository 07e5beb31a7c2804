"""The fast encoder for much text, where the extra ``fast`` is installed: ``gigatoken``, held to tiktoken's ids.

    encoder = FastEncoder.of(tokenizer.ranks)       # None where the package, in the version that was compared, is not
    if encoder is not None and encoder.knows(text):
        [ids] = encoder.encode([text])              # the reference's limits on long texts and runs are not its affair

Its ids were compared with tiktoken's on every code point, on megabytes in eight languages and on random text
(``bench/tokenizer_identity.py``).  They differ at letters and numbers so young that the two libraries' tables of
Unicode disagree about them; a text with a character outside the blocks that have long had all of theirs is not known.
"""

import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise

import numpy as np

from herd.tokenizer.files import tokenizer_json

VERSION = "0.10.0"
"""The version that was compared; another one is not used."""
_SETTLED = (
    *((0x0000, 0x052F), (0x0590, 0x085F), (0x0900, 0x0BFF), (0x0D00, 0x10FF), (0x1100, 0x11FF), (0x1E00, 0x2BFF)),
    *((0x2E80, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xFAFF), (0xFE00, 0xFFFF)),
    *((0x1D400, 0x1D7FF), (0x1F000, 0x1FAFF), (0x20000, 0x2A6DF)),
)
"""First and last code points of blocks to which Unicode has added no letter and no number since its version 15."""
_KNOWN = re.compile("[" + "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in _SETTLED) + "]*")


class FastEncoder:
    """Encodes plain text with the pattern of Llama 3, all in the calling thread."""

    def __init__(self, ranks: Mapping[bytes, int]) -> None:
        """Takes seconds for 128,000 ranks, since the merges have to be derived; ``ranks`` map token bytes to ids."""
        import gigatoken

        self._native = gigatoken.Tokenizer.from_json(json.dumps(tokenizer_json(ranks, [])))

    @classmethod
    def of(cls, ranks: Mapping[bytes, int]) -> "FastEncoder | None":
        """The encoder, or None where ``gigatoken`` is not installed in the version whose ids were compared."""
        try:
            return cls(ranks) if version("gigatoken") == VERSION else None
        except PackageNotFoundError:
            return None

    def knows(self, text: str) -> bool:
        """Whether every character is one of whose kind nobody is in doubt."""
        return text.isascii() or _KNOWN.fullmatch(text) is not None

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids of every text, as ``uint32`` arrays; names of control tokens are plain text."""
        import awkward

        found = self._native.encode_batch(list(texts), parallel=False)
        ids = awkward.flatten(found).to_numpy()
        ends = [0, *np.cumsum(awkward.num(found).to_numpy()).tolist()]
        return [ids[begin:end] for begin, end in pairwise(ends)]
