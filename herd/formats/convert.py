"""One checkpoint into another format, tensor by tensor: what ``herd convert`` does.

    convert(ConvertConfig(to="meta", type="bf16"), Path("runs/pocket/chat"), Path("chat-meta"), Progress())

Hugging Face directories hold language models and reward models, the other two formats language models only.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from herd.formats.huggingface_sink import HuggingFaceSink
from herd.formats.huggingface_source import HuggingFaceSource
from herd.formats.meta.params import FILE as PARAMS_FILE
from herd.formats.meta.reader import MetaSource
from herd.formats.meta.writer import MetaSink
from herd.formats.tensors import FLOAT_TYPES, TensorSink, TensorSource, move_tensors
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress


class ConvertConfig(Config):
    """Into what, and how."""

    to: Literal["hf", "meta"]
    type: str | None = None
    """The type of the weights, as ``--type`` names it; without it they keep their own."""
    ranks: int = Field(default=1, ge=1)
    """Model-parallel files of Meta's format."""
    shard_bytes: int = Field(default=5_000_000_000, ge=1)
    """The most that one safetensors file holds."""
    tokenizer: bool = True
    """Whether the tokenizer goes along."""


def convert(config: ConvertConfig, source: Path, out: Path, progress: Progress) -> None:
    """Writes the checkpoint ``source`` to the directory ``out``.

    ``HerdError`` names the file and the tensor that hinder it.
    """
    opened = open_source(source)
    if not config.tokenizer:
        opened.tokenizer = None
    move_tensors(opened, _sink(config, out), progress)


def open_source(path: Path) -> TensorSource:
    """Opens a checkpoint of any format, which its files tell; it is checked but for its values."""
    if not path.exists():
        raise HerdError(f"{path}: there is no such file or directory")
    if (path / PARAMS_FILE).is_file() or any(path.glob("consolidated.*.pth")):
        return MetaSource(path)
    return HuggingFaceSource(path)


def _sink(config: ConvertConfig, out: Path) -> TensorSink:
    if config.type is not None and config.type not in FLOAT_TYPES:
        raise HerdError(f"--type {config.type}: {config.to} knows {', '.join(FLOAT_TYPES)}")
    dtype = None if config.type is None else FLOAT_TYPES[config.type]
    if config.to == "meta":
        return MetaSink(out, dtype, config.ranks)
    return HuggingFaceSink(out, dtype, config.shard_bytes)
