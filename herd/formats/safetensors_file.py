"""One safetensors file: what it holds, its tensors one by one, and the header of one that is yet to be filled.

The format: eight bytes with the header's length, a JSON header that gives every tensor's type, shape and place, then
the bytes of the tensors without a gap.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from herd.formats.tensors import TensorInfo
from herd.foundation.errors import HerdError

_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_TYPES = {name: dtype for dtype, name in _NAMES.items()}
_ALIGNMENT = 8


def open_safetensors(file: Path) -> Any:
    """The file, mapped into memory; ``HerdError`` where it is cut off or no safetensors file."""
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise HerdError(f"{file}: not readable as safetensors ({error})") from None


def describe(file: Path) -> dict[str, TensorInfo]:
    """Shape and type of every tensor of a file; types that no Llama model is stored in raise ``HerdError``."""
    source = open_safetensors(file)
    found = {}
    for name in source.keys():  # noqa: SIM118 - no mapping, it only has this method
        part = source.get_slice(name)
        if part.get_dtype() not in _TYPES:
            raise HerdError(f"{file}: tensor {name} is of type {part.get_dtype()}, none of {', '.join(_TYPES)}")
        found[name] = TensorInfo(tuple(part.get_shape()), _TYPES[part.get_dtype()])
    return found


def lay_out(tensors: Mapping[str, TensorInfo]) -> tuple[bytes, dict[str, int], int]:
    """The bytes before the first tensor, every tensor's offset in the file, and the file's length.

    Wider types come first, so that every tensor is aligned to its own type.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offsets, end = {}, 0
    for name in sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize):
        info = tensors[name]
        offsets[name], end = end, end + info.nbytes
        header[name] = {
            "dtype": _NAMES[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [offsets[name], end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    start = len(text).to_bytes(8, "little") + text
    return start, {name: len(start) + offset for name, offset in offsets.items()}, len(start) + end
