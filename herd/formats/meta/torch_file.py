"""One ``.pth`` file: a dictionary of tensors, opened without running what it says, or laid out to be filled.

Such a file is a zip archive, uncompressed: ``data.pkl`` names the tensors, ``data/0``, ``data/1`` … hold their bytes.
PyTorch can write the archive of tensors that do not exist yet; we keep everything but the room for their bytes, which
are then written where they belong, tensor by tensor.
"""

import pickle
import struct
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from herd.formats.tensors import FLOAT_TYPES, TensorInfo
from herd.foundation.errors import HerdError

_LOCAL_HEADER = struct.Struct("<26xHH")
_CENTRAL_ENTRY = struct.Struct("<28xHHH12x")
_CRC_IN_DESCRIPTOR, _CRC_IN_ENTRY = 4, 16
_DESCRIPTOR_MARK = b"PK\x07\x08"


def open_torch_file(file: Path) -> dict[str, Tensor]:
    """The tensors of a file, mapped; ``HerdError`` where it is cut off, or holds anything but plain tensors."""
    try:
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise HerdError(f"{file}: refused, since it holds code or objects beside tensors") from None
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0] if str(error) else type(error).__name__
        raise HerdError(f"{file}: not readable as a PyTorch checkpoint, it may be cut off ({reason})") from None
    if not isinstance(found, dict):
        raise HerdError(f"{file}: holds no dictionary of tensors")
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise HerdError(f"{file}: {name!r} is no tensor")
        if tensor.dtype not in FLOAT_TYPES.values():
            raise HerdError(f"{file}: tensor {name} is of type {tensor.dtype}, none of {', '.join(FLOAT_TYPES)}")
    return found


def describe(file: Path) -> dict[str, TensorInfo]:
    """Shape and type of every tensor of a file."""
    return {name: TensorInfo(tuple(tensor.shape), tensor.dtype) for name, tensor in open_torch_file(file).items()}


@dataclass(frozen=True)
class TorchFileLayout:
    """A file that is yet to be filled.

    ``frame`` holds the bytes between the tensors by their offset, ``offsets`` where each tensor's bytes belong, and
    ``crcs`` the two places of each that its CRC-32 (little-endian, four bytes) is to be written to.
    """

    size: int
    frame: Mapping[int, bytes]
    offsets: Mapping[str, int]
    crcs: Mapping[str, tuple[int, int]]


def lay_out(tensors: Mapping[str, TensorInfo], folder: Path, name: str) -> TorchFileLayout:
    """Plans the file ``name``; for a moment a sparse file of its size lies in ``folder``."""
    with FakeTensorMode():
        planned = {key: torch.empty(info.shape, dtype=info.dtype) for key, info in tensors.items()}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as scratch:
        file = Path(scratch) / name
        with torch.serialization.skip_data(materialize_fake_tensors=True):
            torch.save(planned, file)
        return _look_at(file, tensors)


def _look_at(file: Path, tensors: Mapping[str, TensorInfo]) -> TorchFileLayout:
    """Finds the tensors' places in an archive: storage ``data/N`` belongs to the N-th tensor that was saved."""
    with zipfile.ZipFile(file) as archive, file.open("rb") as source:
        folder = archive.namelist()[0].partition("/")[0]
        source.seek(archive.start_dir)
        entries = _central_entries(archive, source.read())
        offsets, crcs, frame, position = {}, {}, {}, 0
        for number, (name, info) in enumerate(tensors.items()):
            record = archive.getinfo(f"{folder}/data/{number}")
            source.seek(record.header_offset)
            offsets[name] = record.header_offset + 30 + sum(_LOCAL_HEADER.unpack(source.read(_LOCAL_HEADER.size)))
            end = offsets[name] + info.nbytes
            source.seek(end)
            assert record.file_size == info.nbytes, "PyTorch reserved another size"
            assert source.read(4) == _DESCRIPTOR_MARK, "the archive is not laid out as expected"
            crcs[name] = (end + _CRC_IN_DESCRIPTOR, entries[record.filename] + _CRC_IN_ENTRY)
            source.seek(position)
            frame[position] = source.read(offsets[name] - position)
            position = end
        source.seek(position)
        frame[position] = source.read()
        return TorchFileLayout(position + len(frame[position]), frame, offsets, crcs)


def _central_entries(archive: zipfile.ZipFile, directory: bytes) -> dict[str, int]:
    """Where in the file each record's entry of the central directory begins."""
    places, position = {}, 0
    for record in archive.infolist():
        places[record.filename] = archive.start_dir + position
        position += 46 + sum(_CENTRAL_ENTRY.unpack_from(directory, position))
    return places
