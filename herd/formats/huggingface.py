"""Models in Hugging Face directories: ``config.json``, ``*.safetensors``, ``generation_config.json``, tokenizer files.

Our rotary embedding uses the half-split layout of Hugging Face, so weights move without a permutation; only names
change.  A source is checked name by name and shape by shape before a tensor is read.

    save_model(model, tokenizer_directory, Path("runs/pocket/base-3m"))
    model = load_model(Path("runs/pocket/base-3m"))
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import torch
from safetensors.torch import save_file
from torch import Tensor

from herd.formats.huggingface_config import load_config
from herd.formats.huggingface_sink import HuggingFaceSink, copy_files, write_configuration
from herd.formats.huggingface_source import TOKENIZER_FILES, WEIGHTS, HuggingFaceSource
from herd.formats.tensors import SourceTokenizer, TensorInfo, expected_shapes
from herd.foundation.errors import HerdError
from herd.foundation.files import atomic_path
from herd.model.config import ModelConfig
from herd.model.transformer import RewardModel, Transformer
from herd.tokenizer.tokenizer import Tokenizer

__all__ = ["TOKENIZER_FILES", "load_config", "load_model", "save_model"]

_IN_LAYER = {
    "attention_norm": "input_layernorm",
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn.gate": "mlp.gate_proj",
    "ffn.up": "mlp.up_proj",
    "ffn.down": "mlp.down_proj",
}
_OUTSIDE = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "head.weight": "lm_head.weight",
    "score.weight": "score.weight",
}


def huggingface_name(name: str) -> str:
    """The Hugging Face name of one of our parameters, for a transformer or a reward model."""
    name = name.removeprefix("transformer.")
    match = re.fullmatch(r"layers\.(\d+)\.(.+)\.weight", name)
    if match:
        return f"model.layers.{match[1]}.{_IN_LAYER[match[2]]}.weight"
    return _OUTSIDE[name]


def _parameters(model: Transformer | RewardModel) -> Iterator[tuple[str, Tensor]]:
    """The tensors that a directory holds, by Hugging Face name: a tied head is stored once."""
    for name, parameter in model.named_parameters():  # yields a tied weight once, under the embedding's name
        yield huggingface_name(name), parameter


def save_model(
    model: Transformer | RewardModel, tokenizer_dir: Path | None, out: Path, dtype: torch.dtype | None = None
) -> None:
    """Writes ``model`` to the directory ``out`` (made if absent), with the tokenizer's files where they are given.

    ``dtype`` converts the weights on the way; without it they keep their own.  Every file is whole or absent.
    """
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: parameter.detach().to("cpu", dtype).contiguous() for name, parameter in _parameters(model)}
    with atomic_path(out / WEIGHTS) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors makes files that only their owner can read
        save_file(tensors, temporary, metadata={"format": "pt"})
        temporary.chmod(mode)
    if tokenizer_dir is not None:
        copy_tokenizer(tokenizer_dir, out)
    stored = next(iter(tensors.values())).dtype
    write_configuration(out, model.config, stored, isinstance(model, RewardModel))


def save_weights(
    weights: Iterable[tuple[str, Tensor]], config: ModelConfig, tokenizer_dir: Path | None, out: Path
) -> None:
    """``save_model`` for a language model that is nowhere in whole: its fp32 parameters come one after another.

    Each comes once, by its own name and in any order; at a time, one of them is in memory.  Files hold 5 GB at most.
    """
    out.mkdir(parents=True, exist_ok=True)
    sink = HuggingFaceSink(out)
    sink.begin(_Coming(config, out))
    for name, tensor in weights:
        sink.write(huggingface_name(name), tensor)
    if tokenizer_dir is not None:
        copy_tokenizer(tokenizer_dir, out)
    sink.finish()


class _Coming:
    """The names and shapes of a language model whose values nobody can ask for; each is a checkpoint of its own."""

    reward = False
    tokenizer: SourceTokenizer | None = None
    token_ids: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, config: ModelConfig, path: Path) -> None:
        self.config, self.path = config, path
        self.tensors: Mapping[str, TensorInfo] = {
            name: TensorInfo(shape, torch.float32) for name, shape in expected_shapes(config, reward=False).items()
        }

    def read(self, name: str) -> Tensor:
        """Nothing can be read."""
        raise AssertionError(f"{name} comes by itself")

    def fingerprint(self) -> str:
        """Unlike any other, so that what an earlier writing left is not taken for part of this one."""
        return uuid4().hex


def copy_tokenizer(source: Path, out: Path) -> None:
    """Copies a tokenizer's files; those beside a ``tokenizer.model`` that stands alone are made."""
    if not (source / "tokenizer.json").is_file():
        Tokenizer.load(source).save(out)
    elif source.resolve() != out.resolve():
        copy_files({name: source / name for name in TOKENIZER_FILES if (source / name).is_file()}, out)


def load_model(
    path: Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Transformer | RewardModel:
    """Reads a directory into a ``Transformer``, or a ``RewardModel`` where its architecture says so.

    Weights become ``dtype`` (their stored type without it).  A missing, surplus, misshapen or non-finite tensor is a
    ``HerdError`` that names file and tensor.
    """
    return _read_model(HuggingFaceSource(path), dtype, device)


def _read_model(
    source: HuggingFaceSource, dtype: torch.dtype | None, device: torch.device | str
) -> Transformer | RewardModel:
    model: Transformer | RewardModel
    with torch.device("meta"):
        model = RewardModel(source.config) if source.reward else Transformer(source.config)
    loaded = {
        own: source.read(huggingface_name(own)).to(device=device, dtype=dtype) for own, _ in model.named_parameters()
    }
    _assign(model, loaded)
    return model


def load_transformer(path: Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Transformer:
    """``load_model`` for callers that need a language model; a reward model is refused by name."""
    model = _read_model(open_transformer(path), dtype, device)
    assert isinstance(model, Transformer), "a source that is no reward model's"
    return model


def open_transformer(path: Path) -> HuggingFaceSource:
    """A language model's directory, to read its tensors or parts of them; ``HerdError`` as of ``load_transformer``."""
    source = HuggingFaceSource(path)
    if source.reward:
        raise HerdError(f"{path}: is a reward model, a language model is needed here")
    return source


def _assign(model: Transformer | RewardModel, loaded: dict[str, Tensor]) -> None:
    tied = isinstance(model, Transformer) and model.config.tied
    model.load_state_dict(loaded | ({"head.weight": loaded["embedding.weight"]} if tied else {}), assign=True)
    if isinstance(model, Transformer):
        model.tie()  # assignment gave the two names a parameter each
