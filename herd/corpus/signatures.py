"""MinHash signatures on the disk, in a file of NumPy's: written in parts, and read row by row when they are compared.

    write_signatures(Path("signatures.npy"), parts, (documents, permutations))
    some = StoredSignatures(Path("signatures.npy"))[np.array([3, 17])]

They are read instead of mapped: what was touched of a mapped file counts as the process's own memory until the system
needs it for something else, so that it would grow with the corpus for whoever watches or limits it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Signatures = NDArray[np.uint32]
Rows = NDArray[np.int64]


class SignatureTable(Protocol):
    """Signatures wherever they lie: ``table[rows]`` brings some into memory, shape (len(rows), permutations)."""

    def __getitem__(self, rows: Rows, /) -> Any: ...

    def __len__(self) -> int: ...


class StoredSignatures:
    """The signatures in the file ``path``, of ``shape`` (documents, permutations).

    Raises:
        ValueError: the file holds something else, or less than it says.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"{path}: not signatures")
            shape, by_column, kind = np.lib.format.read_array_header_1_0(file)
            self._start = file.tell()
        if kind != np.dtype("<u4") or by_column or len(shape) != 2:
            raise ValueError(f"{path}: not signatures")
        self.shape = shape
        if path.stat().st_size != self._start + 4 * shape[0] * shape[1]:
            raise ValueError(f"{path}: not as long as its {shape[0]:,} signatures")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Rows) -> Signatures:
        """Some signatures; rows that follow on each other are read at once."""
        found = np.empty((len(rows), self.shape[1]), dtype="<u4")
        firsts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        lasts = [*firsts[1:].tolist(), len(rows)]
        with self._path.open("rb", buffering=0) as file:
            for first, last, row in zip(firsts.tolist(), lasts, rows[firsts].tolist(), strict=False):
                part = found[first:last]
                file.seek(self._start + row * part.strides[0])
                if file.readinto(part.data) != part.nbytes:
                    raise OSError(f"{self._path}: ended early")
        return found


class JoinedSignatures:
    """The signatures of several files as one table, the rows of one file after those of another."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._parts = [StoredSignatures(path) for path in paths]
        self._starts = np.cumsum([0, *map(len, self._parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: Rows) -> Signatures:
        """Some signatures, of whatever files."""
        found = np.empty((len(rows), self._parts[0].shape[1]), dtype=np.uint32)
        home = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(home).tolist():
            here = home == number
            found[here] = self._parts[number][rows[here] - self._starts[number]]
        return found


def write_signatures(path: Path, parts: Iterable[Signatures], shape: tuple[int, int]) -> None:
    """Writes the signatures of all ``parts``, together of ``shape`` (documents, permutations), to one file."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<u4", "fortran_order": False, "shape": shape})
        for part in parts:
            np.ascontiguousarray(part, dtype="<u4").tofile(file)
