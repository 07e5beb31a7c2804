"""A GGUF file as a source of tensors: names, row order and values as Hugging Face has them.

    source = GgufSource(Path("model-q4_k.gguf"))
    source.read("model.layers.0.self_attn.q_proj.weight")       # float32, dequantised

Every tensor of a file comes in one type: in the half-precision type of its matrices where the vectors, which GGUF
keeps in float32, are exact in it too, and in float32 otherwise, in which all that is quantised is exact.  Who wants
another type in the end says so beforehand, which spares the memory of the largest tensor in float32.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from herd.formats.gguf.blocks import PLAIN, decode
from herd.formats.gguf.container import GgufFile
from herd.formats.gguf.description import read_config
from herd.formats.gguf.names import ROPE_FACTORS, gguf_name
from herd.formats.gguf.vocabulary import find_token_ids, find_tokenizer
from herd.formats.rotary_order import rotated_heads, to_halves
from herd.formats.tensors import TensorInfo, cast, check_tensors, expected_shapes, fingerprint_of, require_finite


class GgufSource:
    """An opened GGUF file of the llama architecture (``herd.formats.tensors.TensorSource``)."""

    reward = False

    def __init__(self, path: Path, dtype: torch.dtype | None = None) -> None:
        """Checks header, metadata and tensor table; ``HerdError`` names the file and the key or tensor.

        ``dtype`` is the type that every tensor is given in, without it the one that is exact for all of them.
        """
        self.path = path
        self._file = GgufFile(path)
        self.config = read_config(self._file)
        self.tokenizer = find_tokenizer(self._file)
        self.token_ids = find_token_ids(self._file)
        dtype = dtype or _exact_type(self._file)
        found = {
            name: TensorInfo(stored.shape, dtype) for name, stored in self._file.tensors.items() if name != ROPE_FACTORS
        }
        wanted = expected_shapes(self.config, reward=False)
        check_tensors(path, found, {gguf_name(name): shape for name, shape in wanted.items()})
        self.tensors: Mapping[str, TensorInfo] = {name: found[gguf_name(name)] for name in wanted}

    def read(self, name: str) -> Tensor:
        """One tensor; its memory is a private map of the file, or its own where it was dequantised or reordered."""
        stored = self._file.tensors[gguf_name(name)]
        dtype = self.tensors[name].dtype
        tensor = decode(self._file.data(stored.name), stored.kind, dtype).view(stored.shape)
        tensor = cast(stored.name, require_finite(self.path, stored.name, tensor), dtype)
        heads = rotated_heads(name, self.config)
        return to_halves(tensor, heads) if heads else tensor

    def fingerprint(self) -> str:
        """Size and time of change of the file."""
        return fingerprint_of([self.path])


def _exact_type(file: GgufFile) -> torch.dtype:
    matrices = {PLAIN.get(stored.kind, torch.float32) for stored in file.tensors.values() if len(stored.shape) > 1}
    dtype = matrices.pop() if len(matrices) == 1 else torch.float32
    for name, stored in file.tensors.items():
        if len(stored.shape) == 1 and name != ROPE_FACTORS:
            vector = decode(file.data(name), stored.kind)
            if not torch.equal(vector.to(dtype).float(), vector.float()):
                return torch.float32
    return dtype
