"""What a checkpoint is while it moves from one format to another: a source of named tensors, and a sink for them.

Between the formats every tensor goes by its Hugging Face name, in the half-split rotary layout, one at a time, so that
converting takes memory of the order of the largest tensor.  Names, permutations, shards and block types are each
format's own affair, on its own side of this interface.

    source = open_source(Path("Llama-3.1-8B"))                    # herd.formats.convert
    move_tensors(source, sink, Progress())
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from herd.foundation.errors import HerdError
from herd.foundation.files import digest_value
from herd.foundation.progress import Progress
from herd.model.config import ModelConfig
from herd.tokenizer.tokenizer import Tokenizer

EMBEDDING, HEAD, SCORE, NORM = "model.embed_tokens.weight", "lm_head.weight", "score.weight", "model.norm.weight"
FLOAT_TYPES: Mapping[str, torch.dtype] = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
"""The plain types by the names that ``--type`` knows; a format may know others."""
_PIECE = 1 << 20


@dataclass(frozen=True)
class TensorInfo:
    """What is known of a tensor before it is read: its shape, and the type in which ``read`` gives it."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape}"

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in that type."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@dataclass(frozen=True)
class SourceTokenizer:
    """The tokenizer that came with the weights.

    ``load`` gives it (``HerdError`` where Herd cannot read its kind), ``chat_template`` is the Jinja text that came
    with it, and ``files`` maps the names of a Hugging Face directory (``tokenizer.json``, …) to files that may be
    carried over byte for byte; a format that keeps its tokenizer elsewhere leaves ``files`` empty.
    """

    load: Callable[[], Tokenizer]
    chat_template: str | None = None
    files: Mapping[str, Path] = field(default_factory=dict)


class TensorSource(Protocol):
    """An opened checkpoint.  Everything but the values is read and checked when it is opened.

    Opening raises ``HerdError`` with file and tensor for what is missing, surplus, misshapen or half-written.
    """

    path: Path
    config: ModelConfig
    reward: bool
    """Whether it is a reward model (``score.weight`` instead of ``lm_head.weight``)."""
    tensors: Mapping[str, TensorInfo]
    """Exactly the names of ``expected_shapes(config, reward)``: a tied head is not among them."""
    tokenizer: SourceTokenizer | None

    @property
    def token_ids(self) -> Mapping[str, Any]:
        """``bos_token_id``, ``eos_token_id`` and ``pad_token_id``, known without the tokenizer; empty if unknown."""

    def read(self, name: str) -> Tensor:
        """One tensor, whole and in memory of its own or mapped; ``HerdError`` names file and tensor.

        The bytes that a source keeps mapped or cached between two calls are bounded, whatever the size of the model.
        """

    def fingerprint(self) -> str:
        """Says whether the files are still the same (names, sizes, times of change), without reading their values."""


class TensorSink(Protocol):
    """A checkpoint being written at its final path, whole or absent.

    Until ``finish`` everything lies in hidden neighbours of the files to be (``herd.formats.regions``), which a later
    sink for the same path finds again.
    """

    def begin(self, source: TensorSource) -> Collection[str]:
        """Plans the files for ``source`` and returns the names that an interrupted call already wrote.

        Raises ``HerdError`` where the format cannot express the model (a reward model, a rotary scaling, a shape).
        Work left behind for another source, or for other options, is thrown away.
        """

    def write(self, name: str, tensor: Tensor) -> None:
        """Takes one tensor, each name exactly once, in any order; ``HerdError`` where it does not fit the type."""

    def finish(self) -> None:
        """Writes what is not tensors (configuration, tokenizer), flushes, and renames everything into place."""


def expected_shapes(config: ModelConfig, reward: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of every tensor of a model, in the order of the network; a tied head is not listed."""
    width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (config.vocab_size, config.dim)}
    for layer in range(config.layers):
        for name, shape in {
            "input_layernorm": (config.dim,),
            "self_attn.q_proj": (width, config.dim),
            "self_attn.k_proj": (kv_width, config.dim),
            "self_attn.v_proj": (kv_width, config.dim),
            "self_attn.o_proj": (config.dim, width),
            "post_attention_layernorm": (config.dim,),
            "mlp.gate_proj": (config.ffn_dim, config.dim),
            "mlp.up_proj": (config.ffn_dim, config.dim),
            "mlp.down_proj": (config.dim, config.ffn_dim),
        }.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    shapes[NORM] = (config.dim,)
    if reward:
        shapes[SCORE] = (1, config.dim)
    elif not config.tied:
        shapes[HEAD] = (config.vocab_size, config.dim)
    return shapes


def check_tensors(place: Path | str, found: Mapping[str, TensorInfo], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """``HerdError`` that names the first tensor which is missing, surplus or misshapen in the checkpoint ``place``."""
    for missing in sorted(set(wanted) - set(found)):
        raise HerdError(f"{place}: tensor {missing} is missing")
    for surplus in sorted(set(found) - set(wanted)):
        raise HerdError(f"{place}: tensor {surplus} has no place in the model that the configuration describes")
    for name, shape in wanted.items():
        if found[name].shape != shape:
            raise HerdError(f"{place}: tensor {name} has shape {found[name].shape}, the configuration asks for {shape}")


def require_finite(place: Path, name: str, tensor: Tensor) -> Tensor:
    """``tensor`` itself; ``HerdError`` where it holds a NaN or an infinity.

    It is looked at piece by piece: the test of a whole tensor would take several times its memory.
    """
    for piece in tensor.reshape(-1).split(_PIECE):
        if not bool(torch.isfinite(piece).all()):
            raise HerdError(f"{place}: tensor {name} holds values that are not finite")
    return tensor


def cast(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """``tensor`` as ``dtype``, contiguous; ``HerdError`` where a finite value becomes infinite on the way."""
    if tensor.dtype == dtype:
        return tensor.contiguous()
    converted = tensor.to(dtype).contiguous()
    for piece in converted.reshape(-1).split(_PIECE):
        if not bool(torch.isfinite(piece).all()):
            raise HerdError(f"tensor {name} holds values that are too large for {dtype}; choose a wider --type")
    return converted


def raw_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor, without a copy."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def load_tokenizer(source: TensorSource) -> Tokenizer | None:
    """The tokenizer that came with the weights, or None; ``HerdError`` where it cannot be read or does not fit them."""
    if source.tokenizer is None:
        return None
    try:
        tokenizer = source.tokenizer.load()
    except HerdError as error:
        raise HerdError(f"{error}; --without-tokenizer leaves it behind") from None
    check_tokenizer(tokenizer, source.config, source.path)
    return tokenizer


def check_tokenizer(tokenizer: Tokenizer, config: ModelConfig, place: Path) -> None:
    """``HerdError`` unless every row of the embedding has its token: control tokens are counted from the end."""
    if tokenizer.vocab_size != config.vocab_size:
        raise HerdError(
            f"{place}: the tokenizer has {tokenizer.vocab_size} tokens, the embedding ({EMBEDDING}) {config.vocab_size}"
            " rows; give the right tokenizer, or leave it behind with --without-tokenizer"
        )


def fingerprint_of(files: Iterable[Path]) -> str:
    """A digest of the names, sizes and times of change of ``files``."""
    seen = {str(file.resolve()): (file.stat().st_size, file.stat().st_mtime_ns) for file in files}
    return digest_value(seen)


def move_tensors(source: TensorSource, sink: TensorSink, progress: Progress) -> None:
    """Brings every tensor of ``source`` into ``sink`` and finishes it, going on from what an earlier call wrote."""
    done = sink.begin(source)
    total = sum(info.nbytes for info in source.tensors.values()) / 1e6
    with progress.task(f"converting {source.path.name}", total, "MB") as task:
        for name, info in source.tensors.items():
            if name not in done:
                sink.write(name, source.read(name))
            task.note(name)
            task.advance(info.nbytes / 1e6)
    sink.finish()
