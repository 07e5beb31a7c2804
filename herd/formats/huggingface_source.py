"""A Hugging Face directory as a source of tensors: one safetensors file, or several with their index.

Names and shapes of every tensor are checked against ``config.json`` when the directory is opened; values when they
are read.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from herd.formats.huggingface_config import is_reward_model, load_config, read_config
from herd.formats.mapped import MappedFiles
from herd.formats.safetensors_file import describe, open_safetensors
from herd.formats.tensors import (
    HEAD,
    SourceTokenizer,
    TensorInfo,
    check_tensors,
    expected_shapes,
    fingerprint_of,
    require_finite,
)
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json
from herd.tokenizer.tokenizer import Tokenizer

TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


class HuggingFaceSource:
    """The checkpoint in a directory; see ``herd.formats.tensors.TensorSource``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        raw = read_config(path)
        self.config = load_config(path)
        self.reward = is_reward_model(raw)
        wanted = expected_shapes(self.config, self.reward)
        self._files = {name: file for name, file in _places(path).items() if not self._is_derived(name)}
        described = {file: describe(file) for file in sorted(set(self._files.values()))}
        found: dict[str, TensorInfo] = {}
        for name, file in self._files.items():
            if name not in described[file]:
                raise HerdError(f"{file}: tensor {name} is missing, though the index places it there")
            found[name] = described[file][name]
        check_tensors(path, found, wanted)
        self.tensors: Mapping[str, TensorInfo] = {name: found[name] for name in wanted}
        self.tokenizer = _tokenizer(path)
        self.token_ids = _token_ids(path, raw)
        self._mapped: MappedFiles[Any] = MappedFiles(open_safetensors)

    def read(self, name: str) -> Tensor:
        """One tensor, mapped."""
        file = self._files[name]
        tensor = self._mapped.get(file, self.tensors[name].nbytes).get_tensor(name)
        return require_finite(file, name, tensor)

    def read_part(self, name: str, where: tuple[slice, ...]) -> Tensor:
        """The part of a tensor between the ends of ``where``, one slice for each of its dimensions."""
        file, info = self._files[name], self.tensors[name]
        size = math.prod(part.stop - part.start for part in where) * info.dtype.itemsize
        part: Tensor = self._mapped.get(file, size).get_slice(name)[where]
        return require_finite(file, name, part)

    def _is_derived(self, name: str) -> bool:
        """A head stored beside the embedding that it is tied to, and the frequencies that old releases stored."""
        tied_head = name == HEAD and self.config.tied and not self.reward
        return tied_head or name.endswith("rotary_emb.inv_freq")

    def fingerprint(self) -> str:
        """Changes with the configuration, the index and the weights."""
        return fingerprint_of([self.path / "config.json", *sorted(set(self._files.values()))])


def _places(path: Path) -> dict[str, Path]:
    """Which file holds which tensor."""
    if (path / INDEX).is_file():
        index = read_json(path / INDEX)
        weight_map = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(weight_map, dict):
            raise HerdError(f"{path / INDEX}: has no weight_map")
        for name, file in weight_map.items():
            if not isinstance(file, str) or Path(file).name != file:
                raise HerdError(f"{path / INDEX}: tensor {name} is placed in {file!r}, which is not a file's name")
            if not (path / file).is_file():
                raise HerdError(f"{path / file}: is missing, the index places tensor {name} there")
        return {name: path / file for name, file in weight_map.items()}
    if (path / WEIGHTS).is_file():
        return dict.fromkeys(open_safetensors(path / WEIGHTS).keys(), path / WEIGHTS)
    raise HerdError(f"{path}: holds neither {WEIGHTS} nor {INDEX}")


def _token_ids(path: Path, raw: Mapping[str, Any]) -> dict[str, Any]:
    """What the configuration says, and before it ``generation_config.json``, which often names more ends."""
    file = path / "generation_config.json"
    generation = read_json(file) if file.is_file() else {}
    said = {**raw, **generation} if isinstance(generation, dict) else raw
    return {name: said[name] for name in TOKEN_IDS if said.get(name) is not None}


def _tokenizer(path: Path) -> SourceTokenizer | None:
    files = {name: path / name for name in TOKENIZER_FILES if (path / name).is_file()}
    if not files.keys() & {"tokenizer.model", "tokenizer.json"}:
        return None
    return SourceTokenizer(lambda: Tokenizer.load(path), _chat_template(files), files)


def _chat_template(files: dict[str, Path]) -> str | None:
    """The template of one's own file, which newer releases have, or of ``tokenizer_config.json``."""
    if "chat_template.jinja" in files:
        try:
            return files["chat_template.jinja"].read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise HerdError(f"{files['chat_template.jinja']}: is not UTF-8 text") from None
    if "tokenizer_config.json" not in files:
        return None
    raw = read_json(files["tokenizer_config.json"])
    template = raw.get("chat_template") if isinstance(raw, dict) else None
    return template if isinstance(template, str) else None
