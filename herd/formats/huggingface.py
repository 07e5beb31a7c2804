"""Models in Hugging Face directories: ``config.json``, ``*.safetensors``, ``generation_config.json``, tokenizer files.

Our rotary embedding uses the half-split layout of Hugging Face, so weights move without a permutation; only names
change.  A source is checked name by name and shape by shape before a tensor is read.

    save_model(model, tokenizer_directory, Path("runs/pocket/base-3m"))
    model = load_model(Path("runs/pocket/base-3m"))
"""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from herd.formats.huggingface_config import load_config
from herd.formats.huggingface_sink import copy_files, write_configuration
from herd.formats.huggingface_source import TOKENIZER_FILES, WEIGHTS, HuggingFaceSource
from herd.foundation.errors import HerdError
from herd.foundation.files import atomic_path
from herd.model.transformer import RewardModel, Transformer

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
        save_file(tensors, temporary, metadata={"format": "pt"})
    if tokenizer_dir is not None:
        copy_tokenizer(tokenizer_dir, out)
    stored = next(iter(tensors.values())).dtype
    write_configuration(out, model.config, stored, isinstance(model, RewardModel))


def copy_tokenizer(source: Path, out: Path) -> None:
    """Copies a tokenizer's files; a source without ``tokenizer.json`` is a ``HerdError``."""
    if not (source / "tokenizer.json").is_file():
        raise HerdError(f"{source}: holds no tokenizer.json, so it is not a tokenizer's directory")
    if source.resolve() != out.resolve():
        copy_files({name: source / name for name in TOKENIZER_FILES if (source / name).is_file()}, out)


def load_model(
    path: Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Transformer | RewardModel:
    """Reads a directory into a ``Transformer``, or a ``RewardModel`` where its architecture says so.

    Weights become ``dtype`` (their stored type without it).  A missing, surplus, misshapen or non-finite tensor is a
    ``HerdError`` that names file and tensor.
    """
    source = HuggingFaceSource(path)
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
    model = load_model(path, dtype, device)
    if not isinstance(model, Transformer):
        raise HerdError(f"{path}: is a reward model, a language model is needed here")
    return model


def _assign(model: Transformer | RewardModel, loaded: dict[str, Tensor]) -> None:
    tied = isinstance(model, Transformer) and model.config.tied
    model.load_state_dict(loaded | ({"head.weight": loaded["embedding.weight"]} if tied else {}), assign=True)
    if isinstance(model, Transformer) and model.head is not None and tied:
        model.head.weight = model.embedding.weight  # assignment gave the two names a parameter each
