"""One checkpoint into another format, tensor by tensor: what ``herd convert`` does.

    convert(ConvertConfig(to="meta", type="bf16"), Path("runs/pocket/chat"), Path("chat-meta"), Progress())

Hugging Face directories hold language models and reward models, the other two formats language models only.
"""

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from herd.formats.gguf.reader import GgufSource
from herd.formats.gguf.writer import GgufSink
from herd.formats.huggingface_sink import HuggingFaceSink
from herd.formats.huggingface_source import HuggingFaceSource
from herd.formats.meta.params import FILE as PARAMS_FILE
from herd.formats.meta.reader import MetaSource
from herd.formats.meta.writer import MetaSink
from herd.formats.tensors import EMBEDDING, FLOAT_TYPES, TensorSink, TensorSource, move_tensors
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress

GGUF_SUFFIX = ".gguf"
_GGUF_FILE = "model.gguf"


class ConvertConfig(Config):
    """Into what, and how."""

    to: Literal["hf", "meta", "gguf"]
    type: str | None = None
    """The type of the weights, as ``--type`` names it; without it they keep their own."""
    ranks: int = Field(default=1, ge=1)
    """Into how many model-parallel files Meta's format divides the tensors."""
    shard_bytes: int = Field(default=5_000_000_000, ge=1)
    """The most that one safetensors file holds."""
    tokenizer: bool = True
    """Whether the tokenizer goes along."""


def convert(config: ConvertConfig, source: Path, out: Path, progress: Progress) -> None:
    """Writes the checkpoint ``source`` to ``out``: a directory, or a file where its name ends in ``.gguf``.

    An interrupted call goes on where it was.  ``HerdError`` names the file and the tensor that hinder it.
    """
    opened = open_source(source, FLOAT_TYPES.get(config.type or ""))
    if not config.tokenizer:
        opened.tokenizer = None
    move_tensors(opened, _open_sink(config, opened, out), progress)


def open_source(path: Path, dtype: torch.dtype | None = None) -> TensorSource:
    """Opens a checkpoint of any format, which its files tell; all but its values is checked.

    ``dtype`` is the type that is wanted in the end, which saves memory where the source is quantised.
    """
    if path.is_file():
        return GgufSource(path, dtype)
    if not path.is_dir():
        raise HerdError(f"{path}: there is no such file or directory")
    if (path / PARAMS_FILE).is_file() or any(path.glob("consolidated.*.pth")):
        return MetaSource(path)
    found = sorted(path.glob(f"*{GGUF_SUFFIX}"))
    if found and not (path / "config.json").is_file():
        if len(found) > 1:
            raise HerdError(f"{path}: holds {len(found)} GGUF files; name one of them, such as {found[0]}")
        return GgufSource(found[0], dtype)
    return HuggingFaceSource(path)


def _open_sink(config: ConvertConfig, source: TensorSource, out: Path) -> TensorSink:
    if config.to == "gguf":
        file = out if out.suffix == GGUF_SUFFIX else out / _GGUF_FILE
        return GgufSink(file, config.type or _type_of(source))
    if config.type is not None and config.type not in FLOAT_TYPES:
        raise HerdError(
            f"--type: {config.to} is not written as {config.type!r}; the types are {', '.join(FLOAT_TYPES)}"
        )
    dtype = None if config.type is None else FLOAT_TYPES[config.type]
    if config.to == "meta":
        return MetaSink(out, dtype, config.ranks)
    return HuggingFaceSink(out, dtype, config.shard_bytes)


def _type_of(source: TensorSource) -> str:
    stored = source.tensors[EMBEDDING].dtype
    return next(name for name, dtype in FLOAT_TYPES.items() if dtype == stored)
