"""Hugging Face directories: ``config.json``, ``*.safetensors``, ``generation_config.json``, tokenizer files.

Our rotary embedding uses the half-split layout of Hugging Face, so weights move without a permutation; only names
change.  A source is checked name by name and shape by shape before a tensor is read.

    save_model(model, tokenizer_directory, Path("runs/pocket/base-3m"))
    model = load_model(Path("runs/pocket/base-3m"))
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from herd.formats.huggingface_config import config_to_json, is_reward_model, load_config, read_config
from herd.foundation.errors import HerdError
from herd.foundation.files import atomic_path, read_json, write_json
from herd.model.config import ModelConfig
from herd.model.transformer import RewardModel, Transformer

__all__ = ["TOKENIZER_FILES", "load_config", "load_model", "save_model"]

TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_SPECIALS = 256
# Offsets among the 256 special tokens, which close every vocabulary of the family (fact sheet, 3.4).
_BEGIN, _STOPS, _PAD = 0, (1, 8, 9), 4
_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}

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
    stored = next(iter(tensors.values())).dtype
    reward = isinstance(model, RewardModel)
    with atomic_path(out / _WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    if tokenizer_dir is not None:
        copy_tokenizer(tokenizer_dir, out)
    if not reward:
        write_json(out / "generation_config.json", _generation_config(model.config))
    write_json(out / "config.json", config_to_json(model.config, _DTYPES[stored], reward, _token_ids(model.config)))


def copy_tokenizer(source: Path, out: Path) -> None:
    """Copies a tokenizer's files; a source without ``tokenizer.json`` is a ``HerdError``."""
    if not (source / "tokenizer.json").is_file():
        raise HerdError(f"{source}: holds no tokenizer.json, so it is not a tokenizer's directory")
    for name in TOKENIZER_FILES:
        if (source / name).is_file() and source.resolve() != out.resolve():
            with atomic_path(out / name) as temporary:
                shutil.copyfile(source / name, temporary)


def _token_ids(config: ModelConfig) -> dict[str, Any]:
    first = max(config.vocab_size - _SPECIALS, 0)
    return {
        "bos_token_id": first + _BEGIN,
        "eos_token_id": [first + stop for stop in _STOPS],
        "pad_token_id": first + _PAD,
    }


def _generation_config(config: ModelConfig) -> dict[str, Any]:
    return {"do_sample": True, "temperature": 0.6, "top_p": 0.9} | _token_ids(config)


def load_model(
    path: Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Transformer | RewardModel:
    """Reads a directory into a ``Transformer``, or a ``RewardModel`` where its architecture says so.

    Weights become ``dtype`` (their stored type without it).  A missing, surplus, misshapen or non-finite tensor is a
    ``HerdError`` that names file and tensor.
    """
    raw = read_config(path)
    config = load_config(path)
    model: Transformer | RewardModel
    with torch.device("meta"):
        model = RewardModel(config) if is_reward_model(raw) else Transformer(config)
    files = _tensor_files(path)
    wanted = dict(_parameters(model))
    _check_names(path, set(wanted), set(files), config.tied)
    own_names = {huggingface_name(name): name for name, _ in model.named_parameters()}
    loaded: dict[str, Tensor] = {}
    for name, tensor in _read_tensors(path, files, wanted, device):
        loaded[own_names[name]] = tensor if dtype is None else tensor.to(dtype)
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


def _tensor_files(path: Path) -> dict[str, Path]:
    """Which file holds which tensor."""
    if (path / _INDEX).is_file():
        index = read_json(path / _INDEX)
        weight_map = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(weight_map, dict):
            raise HerdError(f"{path / _INDEX}: has no weight_map")
        for name, file in weight_map.items():
            if not (path / file).is_file():
                raise HerdError(f"{path / file}: is missing, the index places tensor {name} there")
        return {name: path / file for name, file in weight_map.items()}
    weights = path / _WEIGHTS
    if not weights.is_file():
        raise HerdError(f"{path}: holds neither {_WEIGHTS} nor {_INDEX}")
    with _open(weights) as source:
        return dict.fromkeys(source.keys(), weights)


def _open(file: Path, device: torch.device | str = "cpu") -> Any:
    try:
        return safe_open(file, framework="pt", device=str(device))
    except (SafetensorError, OSError) as error:
        raise HerdError(f"{file}: not readable as safetensors ({error})") from None


def _check_names(path: Path, wanted: set[str], found: set[str], tied: bool) -> None:
    if tied:
        found = found - {"lm_head.weight"}
    found = {name for name in found if not name.endswith("rotary_emb.inv_freq")}  # derived, stored by old releases
    for missing in sorted(wanted - found):
        raise HerdError(f"{path}: tensor {missing} is missing")
    for surplus in sorted(found - wanted):
        raise HerdError(f"{path}: tensor {surplus} has no place in the model that config.json describes")


def _read_tensors(
    path: Path, files: dict[str, Path], wanted: dict[str, Tensor], device: torch.device | str
) -> Iterator[tuple[str, Tensor]]:
    for file in sorted({files[name] for name in wanted}):
        with _open(file, device) as source:
            held = set(source.keys())
            for name in (name for name in wanted if files[name] == file):
                if name not in held:
                    raise HerdError(f"{file}: tensor {name} is missing, though the index places it there")
                found = tuple(source.get_slice(name).get_shape())
                if found != tuple(wanted[name].shape):
                    raise HerdError(
                        f"{file}: tensor {name} has shape {found}, config.json asks for {tuple(wanted[name].shape)}"
                    )
                tensor = source.get_tensor(name)
                if not tensor.is_floating_point():
                    raise HerdError(f"{file}: tensor {name} is {tensor.dtype}, not a floating-point type")
                if not bool(torch.isfinite(tensor).all()):
                    raise HerdError(f"{file}: tensor {name} holds values that are not finite")
                yield name, tensor
