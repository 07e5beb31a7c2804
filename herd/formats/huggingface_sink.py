"""A Hugging Face directory as a sink of tensors: safetensors in shards of bounded size, configuration and tokenizer.

A reader knows the directory by its ``config.json``, which is written last.
"""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from herd.formats.huggingface_config import config_to_json
from herd.formats.huggingface_source import INDEX, WEIGHTS
from herd.formats.regions import RegionFiles
from herd.formats.safetensors_file import lay_out
from herd.formats.tensors import SourceTokenizer, TensorInfo, TensorSource, cast, load_tokenizer, raw_bytes
from herd.foundation.files import atomic_path, digest_value, read_json, write_json
from herd.model.config import ModelConfig
from herd.tokenizer import special
from herd.tokenizer.files import JSON_FILE, RANKS_FILE
from herd.tokenizer.sentencepiece import find_pieces
from herd.tokenizer.tokenizer import Tokenizer

_JOURNAL = ".converting.jsonl"
_SHARD_BYTES = 5_000_000_000
_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


class HuggingFaceSink:
    """Writes the directory ``out``; see ``herd.formats.tensors.TensorSink``."""

    def __init__(self, out: Path, dtype: torch.dtype | None = None, shard_bytes: int = _SHARD_BYTES) -> None:
        """``dtype`` is the type to store, the source's own without it; ``shard_bytes`` the most that a file holds."""
        self._out, self._dtype, self._shard_bytes = out, dtype, shard_bytes

    def begin(self, source: TensorSource) -> Collection[str]:
        """Plans the shards; returns what is already in them."""
        self._source = source
        self._tokenizer = load_tokenizer(source)
        self._tensors = {
            name: TensorInfo(info.shape, self._dtype or info.dtype) for name, info in source.tensors.items()
        }
        self._places: dict[str, tuple[str, int]] = {}
        headers: dict[str, bytes] = {}
        sizes: dict[str, int] = {}
        for file, names in _shards(self._tensors, self._shard_bytes).items():
            headers[file], offsets, sizes[file] = lay_out({name: self._tensors[name] for name in names})
            self._places |= {name: (file, offset) for name, offset in offsets.items()}
        plan = digest_value([source.fingerprint(), {file: header.hex() for file, header in headers.items()}])
        self._files = RegionFiles(self._out, sizes, _JOURNAL, plan)
        for file, header in headers.items():
            if file not in self._files.done:
                self._files.write(file, [(file, 0, header)])
        return self._files.done.keys() & self._tensors.keys()

    def write(self, name: str, tensor: Tensor) -> None:
        """Puts one tensor into its shard."""
        file, offset = self._places[name]
        self._files.write(name, [(file, offset, raw_bytes(cast(name, tensor, self._tensors[name].dtype)))])

    def finish(self) -> None:
        """Moves the shards into place, then writes index, tokenizer and, last, ``config.json``."""
        self._files.finish()
        if len({file for file, _ in self._places.values()}) > 1:
            total = sum(info.nbytes for info in self._tensors.values())
            weight_map = {name: self._places[name][0] for name in self._tensors}
            write_json(self._out / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
        if self._source.tokenizer is not None and self._tokenizer is not None:
            _write_tokenizer(self._tokenizer, self._source.tokenizer, self._out)
        stored = next(iter(self._tensors.values())).dtype
        known = self._source.token_ids if self._source.tokenizer is None else None
        write_configuration(self._out, self._source.config, stored, self._source.reward, known)


def write_configuration(
    out: Path, config: ModelConfig, dtype: torch.dtype, reward: bool, token_ids: Mapping[str, Any] | None = None
) -> None:
    """Writes ``generation_config.json``, which a reward model has no use for, and then ``config.json``.

    ``token_ids`` are those that begin, end and pad a text, where they are known.  Else the tokenizer, where there is
    one, is in ``out`` already: SentencePiece's says which they are, all others have Llama 3's.
    """
    ids = dict(token_ids or _token_ids(config, out))
    if not reward:
        write_json(out / "generation_config.json", {"do_sample": True, "temperature": 0.6, "top_p": 0.9} | ids)
    write_json(out / "config.json", config_to_json(config, _DTYPES[dtype], reward, ids))


def copy_files(files: Mapping[str, Path], out: Path) -> None:
    """Copies files into ``out`` under their names, each whole or absent."""
    for name, file in files.items():
        with atomic_path(out / name) as temporary:
            shutil.copyfile(file, temporary)


def _shards(tensors: Mapping[str, TensorInfo], limit: int) -> dict[str, list[str]]:
    """The tensors of each file, in order; a file holds at most ``limit`` bytes, or one tensor."""
    groups: list[list[str]] = []
    room = 0
    for name, info in tensors.items():
        if not groups or info.nbytes > room:
            groups.append([])
            room = limit
        groups[-1].append(name)
        room -= info.nbytes
    if len(groups) == 1:
        return {WEIGHTS: groups[0]}
    return {
        f"model-{number:05d}-of-{len(groups):05d}.safetensors": names for number, names in enumerate(groups, start=1)
    }


def _write_tokenizer(tokenizer: Tokenizer, origin: SourceTokenizer, out: Path) -> None:
    """Carries the files over where they are a Hugging Face directory's, and writes them anew where they are not."""
    if "tokenizer.json" in origin.files:
        copy_files(origin.files, out)
        return
    tokenizer.save(out)
    if origin.chat_template is not None:
        config = out / "tokenizer_config.json"
        write_json(config, read_json(config) | {"chat_template": origin.chat_template})


def _token_ids(config: ModelConfig, out: Path) -> dict[str, Any]:
    if any((out / name).is_file() for name in (RANKS_FILE, JSON_FILE)) and (found := find_pieces(out)) is not None:
        return {"bos_token_id": found.begin, "eos_token_id": found.end}
    # The control tokens close every vocabulary of Llama 3's family (fact sheet, 3.4).
    first = max(config.vocab_size - len(special.SPECIAL_TOKENS), 0)
    id_of = {name: first + place for place, name in enumerate(special.SPECIAL_TOKENS)}
    return {
        "bos_token_id": id_of[special.BEGIN_OF_TEXT],
        "eos_token_id": [id_of[end] for end in (special.END_OF_TEXT, special.END_OF_MESSAGE, special.END_OF_TURN)],
        "pad_token_id": id_of[special.PAD],
    }
