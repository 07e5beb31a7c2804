"""A GGUF file as a sink of tensors: one file with shape, tokenizer, chat template and weights.

    sink = GgufSink(Path("model-q4_k.gguf"), "q4_k")
    move_tensors(source, sink, Progress())

Sizes follow from shapes and types alone, so the file is laid out before the first tensor comes.
"""

from collections.abc import Collection
from pathlib import Path

from torch import Tensor

from herd.formats.gguf.block_types import F32, BlockType
from herd.formats.gguf.blocks import PLAIN, encode
from herd.formats.gguf.container import header_bytes, lay_out, padded
from herd.formats.gguf.description import describe
from herd.formats.gguf.mixture import GGUF_TYPES
from herd.formats.gguf.names import ROPE_FACTORS, gguf_name
from herd.formats.gguf.rotary import rope_factors
from herd.formats.gguf.vocabulary import describe_tokenizer
from herd.formats.regions import RegionFiles
from herd.formats.rotary_order import rotated_heads, to_pairs
from herd.formats.tensors import TensorSource, cast, load_tokenizer, raw_bytes
from herd.foundation.errors import HerdError
from herd.foundation.files import digest_value
from herd.model.config import ModelConfig

_HEADER = "header"
_LARGEST = 65504.0  # of half precision, in which the blocks' scales are kept
_PIECE = 1 << 20


class GgufSink:
    """A GGUF file that is being written (``herd.formats.tensors.TensorSink``)."""

    def __init__(self, path: Path, type: str) -> None:
        """``type`` is one of ``GGUF_TYPES``; another one, or a directory in the file's place, is a ``HerdError``."""
        if type not in GGUF_TYPES:
            raise HerdError(f"--type: GGUF is not written as {type!r}; the types are {', '.join(GGUF_TYPES)}")
        if path.is_dir():
            raise HerdError(f"{path}: is a directory; a GGUF model is one file, such as {path / 'model.gguf'}")
        self.path, self.type = path, type

    def begin(self, source: TensorSource) -> Collection[str]:
        """Lays the file out for ``source`` and returns the tensors that an interrupted call already wrote."""
        if source.reward:
            raise HerdError(f"{source.path}: a reward model has no place in GGUF's llama architecture")
        self._config, mixture = source.config, GGUF_TYPES[self.type]
        kinds = {name: mixture.choose(name, info.shape, source.config) for name, info in source.tensors.items()}
        factors = _factors(source.config)
        table = lay_out(
            [(ROPE_FACTORS, tuple(factor.shape), F32) for factor in factors]
            + [(gguf_name(name), source.tensors[name].shape, kind) for name, kind in kinds.items()]
        )
        metadata = describe(source.config, source.path.resolve().name.removesuffix(".gguf"), mixture.file_type)
        template = source.tokenizer.chat_template if source.tokenizer is not None else None
        metadata |= describe_tokenizer(load_tokenizer(source), template)
        header = header_bytes(metadata, table)
        self._begin = len(header)
        self._table = {stored.name: stored for stored in table}
        length = self._begin + padded(table[-1].offset + table[-1].size)
        plan = digest_value([source.fingerprint(), header.hex()])
        self._files = RegionFiles(self.path.parent, {self.path.name: length}, f".{self.path.name}.convert.jsonl", plan)
        if _HEADER not in self._files.done:
            start = header + b"".join(bytes(raw_bytes(factor)) for factor in factors)
            self._files.write(_HEADER, [(self.path.name, 0, start)])
        return [name for name in source.tensors if name in self._files.done]

    def write(self, name: str, tensor: Tensor) -> None:
        """Takes one tensor by its Hugging Face name; values that its block type cannot hold are a ``HerdError``."""
        stored = self._table[gguf_name(name)]
        heads = rotated_heads(name, self._config)
        data = _encoded(name, to_pairs(tensor, heads) if heads else tensor, stored.kind)
        self._files.write(name, [(self.path.name, self._begin + stored.offset, raw_bytes(data))])

    def finish(self) -> None:
        """Flushes the file and renames it into its place."""
        self._files.finish()


def _factors(config: ModelConfig) -> list[Tensor]:
    """The tensor of rotary divisors, where the model scales its frequencies."""
    if config.rope_scaling is None:
        return []
    return [rope_factors(config.head_dim, config.rope_theta, config.rope_scaling)]


def _encoded(name: str, tensor: Tensor, kind: BlockType) -> Tensor:
    if kind in PLAIN:
        return cast(name, tensor, PLAIN[kind])
    for piece in tensor.reshape(-1).split(_PIECE):
        if not bool((piece.abs() <= _LARGEST).all()):
            raise HerdError(f"tensor {name} holds values that are not finite or too large for {kind.name}")
    return encode(tensor, kind)
