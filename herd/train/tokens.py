"""Reading token shards: memory-mapped, so that a shard may be larger than memory.

shard = TokenShard(tokens / "train" / "general.bin")
len(shard), shard.tokens, shard.document(7)
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from herd.foundation.errors import HerdError
from herd.foundation.files import read_json
from herd.train.shards import META_FILE


class TokenShard:
    """The documents of one split and domain, as the stage ``tokenize`` writes them."""

    def __init__(self, path: Path) -> None:
        """Opens ``<domain>.bin`` with its index; ``HerdError`` if a file is missing or their sizes disagree."""
        self.path = path
        self.name = path.stem
        dtype = np.dtype(read_json(path.parents[1] / META_FILE)["dtype"]).newbyteorder("<")
        self.offsets: np.ndarray = _load(path.with_name(f"{self.name}.index.npy"))
        """Place of each document's first token, and the end of the last: documents + 1 numbers."""
        expected = int(self.offsets[-1]) * dtype.itemsize
        size = path.stat().st_size if path.is_file() else -1
        if size != expected:
            raise HerdError(f"{path}: has {max(size, 0)} bytes where its index asks for {expected}")
        self._ids: np.ndarray = np.memmap(path, dtype=dtype, mode="r") if expected else np.empty(0, dtype=dtype)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def tokens(self) -> int:
        """Tokens of all documents, begin and end tokens included."""
        return int(self.offsets[-1])

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of every document."""
        return np.diff(self.offsets)

    @cached_property
    def quality(self) -> np.ndarray:
        """The corpus' quality score of every document."""
        return _load(self.path.with_name(f"{self.name}.quality.npy"))

    @cached_property
    def ids(self) -> list[str]:
        """The corpus' identifier of every document: the way back from a token to its source."""
        return self.path.with_name(f"{self.name}.ids.txt").read_text(encoding="utf-8").split("\n")[:-1]

    def document(self, number: int) -> np.ndarray:
        """The ids of one document, from its begin token to its end token; a view into the file."""
        if not 0 <= number < len(self):
            raise HerdError(f"{self.path}: has {len(self)} documents, there is no document {number}")
        return self._ids[self.offsets[number] : self.offsets[number + 1]]

    def stretch(self, start: int, end: int) -> np.ndarray:
        """The ids from place ``start`` to ``end`` of the whole shard, across documents."""
        return self._ids[start:end]

    def piece(self, number: int, start: int, end: int) -> np.ndarray:
        """The ids ``start`` to ``end`` of one document."""
        first = self.offsets[number]
        return self._ids[first + start : first + end]


def open_shards(tokens: Path, split: str = "train") -> dict[str, TokenShard]:
    """All shards of one split by domain, in the order of their names; ``HerdError`` if there is none."""
    shards = {path.stem: TokenShard(path) for path in sorted((tokens / split).glob("*.bin"))}
    if not shards:
        raise HerdError(f"{tokens / split}: holds no token shard")
    return shards


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise HerdError(f"{path}: not readable as an array ({error})") from None
