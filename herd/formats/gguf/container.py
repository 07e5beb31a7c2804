"""The GGUF container: header, typed metadata, table of tensors, and their bytes mapped into memory.

    file = GgufFile(Path("model.gguf"))           # reads the header alone
    file.metadata["general.architecture"]         # 'llama'
    file.tensors["output_norm.weight"].shape      # (4096,)
    file.data("output_norm.weight")               # uint8 tensor, a view of the mapped file

Every length in the header is held against the size of the file before anything of that length is made, so that a
damaged file costs a sentence and not the memory.  Versions 2 and 3 are read (they differ in nothing but the byte
order that 3 allows), version 3 is written, little-endian.
"""

import mmap
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from herd.formats.gguf.block_types import BY_NUMBER, NOT_READ, BlockType
from herd.foundation.errors import HerdError

Value = int | float | bool | str | list[str] | np.ndarray
"""What a metadata key holds; numeric arrays are numpy arrays."""

Kind = TypeVar("Kind", int, float, bool, str, list, np.ndarray)

_MAGIC = b"GGUF"
_VERSION = 3
_READABLE = (2, 3)
ALIGNMENT = 32
"""Tensors begin at multiples of this where ``general.alignment`` does not say otherwise."""
_LARGEST_ALIGNMENT = 1 << 20
_MOST_AXES = 4

_BOOL, _STRING, _ARRAY = 7, 8, 9
_SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 10: "<u8", 11: "<i8", 12: "<f8"}
_NUMBERS = {np.dtype(code): number for number, code in _SCALARS.items()}
_SMALLEST_PAIR = 13  # bytes of a key's length, of the value's type and of the shortest value
_SMALLEST_TENSOR = 32  # bytes of a name's length, of one axis and its count, of type and offset


@dataclass(frozen=True)
class StoredTensor:
    """Where and how a tensor is stored: ``shape`` with the contiguous axis last, ``offset`` from the data's begin."""

    name: str
    shape: tuple[int, ...]
    kind: BlockType
    offset: int

    @property
    def size(self) -> int:
        """Bytes of the tensor, without what pads it to the alignment."""
        return self.kind.size(self.shape)


class _Cursor:
    """Reads forward through the header and refuses to step over the end of the file."""

    def __init__(self, path: Path, buffer: mmap.mmap) -> None:
        self.path, self.buffer, self.place = path, buffer, 0

    def left(self) -> int:
        return len(self.buffer) - self.place

    def skip(self, count: int, what: str) -> int:
        """The place of the next ``count`` bytes, which are passed over."""
        if count > self.left():
            raise HerdError(f"{self.path}: {what} reaches beyond the end of the file, which is truncated or damaged")
        self.place += count
        return self.place - count

    def number(self, code: str, what: str) -> int:
        return int(struct.unpack_from(code, self.buffer, self.skip(struct.calcsize(code), what))[0])

    def text(self, what: str) -> str:
        length = self.number("<Q", what)
        start = self.skip(length, what)
        try:
            return self.buffer[start : start + length].decode("utf-8")
        except UnicodeDecodeError:
            raise HerdError(f"{self.path}: {what} is not valid UTF-8") from None

    def array(self, kind: int, count: int, what: str) -> np.ndarray:
        """A numeric array of its own, not a view: it may lie at any address in the file."""
        dtype = np.dtype("<u1" if kind == _BOOL else _SCALARS[kind])
        start = self.skip(count * dtype.itemsize, what)
        values = np.frombuffer(self.buffer, dtype, count, start).copy()
        return values != 0 if kind == _BOOL else values

    def value(self, key: str) -> Value:
        what = f"the value of {key}"
        kind = self.number("<I", what)
        if kind == _STRING:
            return self.text(what)
        if kind == _ARRAY:
            return self._list(key, what)
        self._check_kind(kind, key)
        return self.array(kind, 1, what)[0].item()

    def _list(self, key: str, what: str) -> list[str] | np.ndarray:
        kind, count = self.number("<I", what), self.number("<Q", what)
        if kind == _STRING:
            if count * 8 > self.left():
                raise HerdError(f"{self.path}: {key} promises {count} strings, more than the file has room for")
            return [self.text(what) for _ in range(count)]
        self._check_kind(kind, key)
        return self.array(kind, count, what)

    def _check_kind(self, kind: int, key: str) -> None:
        if kind not in _SCALARS and kind != _BOOL:
            raise HerdError(f"{self.path}: the value of {key} has the unknown type {kind}")


class GgufFile:
    """A file's metadata and tensor table; the tensors' bytes stay on disk until they are looked at."""

    def __init__(self, path: Path) -> None:
        """Reads the header; any damage, and any version that is not known, is a ``HerdError``."""
        self.path = path
        with _map(path) as buffer:
            self._read_header(_Cursor(path, buffer))

    def _read_header(self, cursor: _Cursor) -> None:
        path = self.path
        self.version = _read_version(cursor)
        tensors = _read_count(cursor, "tensors", _SMALLEST_TENSOR)
        pairs = _read_count(cursor, "metadata keys", _SMALLEST_PAIR)
        self.metadata: dict[str, Value] = {}
        for _ in range(pairs):
            key = cursor.text("the name of a metadata key")
            if key in self.metadata:
                raise HerdError(f"{path}: the metadata key {key} stands there twice")
            self.metadata[key] = cursor.value(key)
        self.alignment = self._read_alignment()
        table = [_read_tensor(cursor) for _ in range(tensors)]
        self._begin = cursor.place + -cursor.place % self.alignment
        self.tensors = self._checked(table, len(cursor.buffer) - self._begin)

    def _read_alignment(self) -> int:
        alignment = self.get("general.alignment", int, ALIGNMENT)
        if not 8 <= alignment <= _LARGEST_ALIGNMENT or alignment & (alignment - 1):
            raise HerdError(f"{self.path}: general.alignment is {alignment}, it must be a power of two, 8 to 2^20")
        return alignment

    def _checked(self, table: list[StoredTensor], room: int) -> dict[str, StoredTensor]:
        """The table by name: every tensor inside the ``room`` after the header, aligned, and none upon another."""
        end, before = 0, ""
        for info in sorted(table, key=lambda info: info.offset):
            place = f"{self.path}: tensor {info.name}"
            if info.offset % self.alignment:
                raise HerdError(f"{place} begins at byte {info.offset}, not at a multiple of {self.alignment}")
            if info.offset + info.size > room:
                raise HerdError(f"{place} reaches beyond the end of the file, which is truncated or damaged")
            if info.offset < end:
                raise HerdError(f"{place} lies upon tensor {before}")
            end, before = info.offset + info.size, info.name
        by_name: dict[str, StoredTensor] = {}
        for info in table:
            if info.name in by_name:
                raise HerdError(f"{self.path}: two tensors bear the name {info.name}")
            by_name[info.name] = info
        return by_name

    def data(self, name: str) -> Tensor:
        """The bytes of a tensor as a flat uint8 view of the mapped file, which is unmapped with the last view.

        The map is private, so that writing to the view cannot change the file.
        """
        info = self.tensors[name]
        start = self._begin + info.offset
        before = start % mmap.ALLOCATIONGRANULARITY
        buffer = _map(self.path, start - before, before + info.size)
        return torch.frombuffer(buffer, dtype=torch.uint8, count=info.size, offset=before)

    def get(self, key: str, kind: type[Kind], default: Kind | None = None) -> Kind:
        """The value of ``key``; ``HerdError`` if it is of another kind, or absent and without a default."""
        value = self.metadata.get(key, default)
        if value is None:
            raise HerdError(f"{self.path}: the metadata key {key} is missing")
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise HerdError(f"{self.path}: {key} holds {type(value).__name__}, {kind.__name__} is needed")
        return value


def _map(path: Path, start: int = 0, length: int = 0) -> mmap.mmap:
    """The file, or ``length`` bytes of it; the whole is only read, a part may be written to in memory."""
    try:
        with path.open("rb") as source:
            access = mmap.ACCESS_COPY if length else mmap.ACCESS_READ
            return mmap.mmap(source.fileno(), length, access=access, offset=start)
    except OSError as error:
        raise HerdError(f"{path}: not readable ({error.strerror})") from None
    except ValueError:
        raise HerdError(f"{path}: is empty or was cut short, so it is not a whole GGUF file") from None


def _read_version(cursor: _Cursor) -> int:
    start = cursor.skip(min(4, cursor.left()), "the magic")
    if cursor.buffer[start : start + 4] != _MAGIC:
        raise HerdError(f"{cursor.path}: does not begin with {_MAGIC.decode()}, so it is not a GGUF file")
    version = cursor.number("<I", "the version")
    if version not in _READABLE:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        if swapped in _READABLE:
            raise HerdError(f"{cursor.path}: is a big-endian GGUF file, only little-endian ones are read")
        raise HerdError(f"{cursor.path}: is GGUF version {version}; versions 2 and 3 are read")
    return version


def _read_count(cursor: _Cursor, what: str, smallest: int) -> int:
    count = cursor.number("<Q", f"the number of {what}")
    if count * smallest > len(cursor.buffer):
        raise HerdError(f"{cursor.path}: promises {count} {what}, more than a file of its size has room for")
    return count


def _read_tensor(cursor: _Cursor) -> StoredTensor:
    name = cursor.text("the name of a tensor")
    what = f"the entry of tensor {name}"
    axes = cursor.number("<I", what)
    if not 1 <= axes <= _MOST_AXES:
        raise HerdError(f"{cursor.path}: tensor {name} has {axes} axes, 1 to {_MOST_AXES} are allowed")
    shape = tuple(reversed([cursor.number("<Q", what) for _ in range(axes)]))
    number, offset = cursor.number("<I", what), cursor.number("<Q", what)
    if number not in BY_NUMBER:
        kind = NOT_READ.get(number, "unknown")
        raise HerdError(f"{cursor.path}: tensor {name} is stored as type {number} ({kind}), which is not read here")
    if 0 in shape or not BY_NUMBER[number].fits(shape):
        raise HerdError(f"{cursor.path}: tensor {name} of shape {shape} cannot be stored as {BY_NUMBER[number].name}")
    return StoredTensor(name, shape, BY_NUMBER[number], offset)


def lay_out(tensors: Iterable[tuple[str, tuple[int, ...], BlockType]]) -> list[StoredTensor]:
    """Places tensors one after another, each at the next multiple of the alignment."""
    table: list[StoredTensor] = []
    offset = 0
    for name, shape, kind in tensors:
        table.append(StoredTensor(name, shape, kind, offset))
        offset += padded(kind.size(shape))
    return table


def padded(size: int) -> int:
    """``size`` rounded up to the alignment."""
    return size + -size % ALIGNMENT


def header_bytes(metadata: Mapping[str, Value], table: list[StoredTensor]) -> bytes:
    """The file up to its first tensor: version 3, metadata, table, padding."""
    out = bytearray(_MAGIC + struct.pack("<IQQ", _VERSION, len(table), len(metadata)))
    for key, value in metadata.items():
        out += _text_bytes(key) + _value_bytes(value)
    for info in table:
        axes = [*reversed(info.shape)]
        out += _text_bytes(info.name) + struct.pack(f"<I{len(axes)}Q", len(axes), *axes)
        out += struct.pack("<IQ", info.kind.number, info.offset)
    return bytes(out.ljust(padded(len(out)), b"\0"))


def _text_bytes(text: str) -> bytes:
    encoded = text.encode("utf-8")
    return struct.pack("<Q", len(encoded)) + encoded


def _value_bytes(value: Value) -> bytes:
    """Type and value: whole numbers as unsigned 32 bits where they fit, as the format's readers expect."""
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value) if 0 <= value < 1 << 32 else struct.pack("<Iq", 11, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text_bytes(value)
    if isinstance(value, list):
        return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(_text_bytes(text) for text in value)
    kind = _BOOL if value.dtype == np.bool_ else _NUMBERS[value.dtype.newbyteorder("<")]
    return struct.pack("<IIQ", _ARRAY, kind, len(value)) + value.astype(value.dtype.newbyteorder("<")).tobytes()
