"""Meta's directory as a source of tensors: the parts of all ranks put together, names and rotary order translated."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from herd.formats.mapped import MappedFiles
from herd.formats.meta import params
from herd.formats.meta.layout import DERIVED, META_EMBEDDING, META_HEAD, meta_name, split_axis
from herd.formats.meta.torch_file import describe, open_torch_file
from herd.formats.rotary_order import rotated_heads, to_halves
from herd.formats.tensors import (
    SourceTokenizer,
    TensorInfo,
    check_tensors,
    expected_shapes,
    fingerprint_of,
    require_finite,
)
from herd.foundation.errors import HerdError
from herd.tokenizer.sentencepiece import find_pieces
from herd.tokenizer.tokenizer import Tokenizer

_COMPARED_BYTES = 16 << 20
_TOKENIZER = "tokenizer.model"


class MetaSource:
    """The checkpoint in a directory; see ``herd.formats.tensors.TensorSource``.

    A head that equals the embedding, or is missing, makes the model a tied one: the small Llama 3.2 releases store it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.reward = path, False
        raw = params.read_params(path)
        self._ranks = _rank_files(path)
        self._parts = _describe_alike(self._ranks)
        self._mapped: MappedFiles[dict[str, Tensor]] = MappedFiles(open_torch_file)
        place = f"{path} ({len(self._ranks)} of consolidated.NN.pth)"
        embedding = self._parts.get(META_EMBEDDING)
        if embedding is None or len(embedding.shape) != 2 or not embedding.nbytes:
            raise HerdError(f"{place}: tensor {META_EMBEDDING} is missing, or no matrix")
        self._embedding_axis = 0 if embedding.shape[1] == raw.get("dim") else 1
        found = {name: self._whole(name) for name in self._parts if name != DERIVED}
        tied = META_HEAD not in found or self._head_is_embedding()
        if tied:
            found.pop(META_HEAD, None)
        self.config = params.config_from_params(path / params.FILE, raw, found[META_EMBEDDING].shape[0], tied)
        wanted = expected_shapes(self.config, reward=False)
        check_tensors(place, found, {meta_name(name): shape for name, shape in wanted.items()})
        self.tensors: Mapping[str, TensorInfo] = {name: found[meta_name(name)] for name in wanted}
        self.tokenizer = _tokenizer(path / _TOKENIZER)

    @property
    def token_ids(self) -> Mapping[str, Any]:
        """Those of a SentencePiece tokenizer; ranks say nothing of control tokens."""
        file = self.path / _TOKENIZER
        try:
            found = find_pieces(file) if file.is_file() else None
        except HerdError:  # who leaves a tokenizer behind may do so because it cannot be read
            return {}
        return {} if found is None else {"bos_token_id": found.begin, "eos_token_id": found.end}

    def read(self, name: str) -> Tensor:
        """One tensor, put together from the ranks' parts; what each rank has in full must be the same in all."""
        theirs = meta_name(name)
        axis = self._axis(theirs)
        if axis is None:
            whole = self._same_in_all(theirs)
        elif len(self._ranks) == 1:
            whole = self._part(self._ranks[0], theirs)
        else:
            whole = self._joined(theirs, axis)
        heads = rotated_heads(name, self.config)
        return whole if heads is None else to_halves(whole, heads)

    def fingerprint(self) -> str:
        """Changes with ``params.json`` and the weights."""
        return fingerprint_of([self.path / params.FILE, *self._ranks])

    def _part(self, file: Path, name: str) -> Tensor:
        """One rank's part, mapped; the map of the part before may be gone by then."""
        return require_finite(file, name, self._mapped.get(file, self._parts[name].nbytes)[name])

    def _same_in_all(self, name: str) -> Tensor:
        first = self._part(self._ranks[0], name)
        for file in self._ranks[1:]:
            if not torch.equal(self._part(file, name), first):
                raise HerdError(f"{file}: tensor {name} differs from the one in {self._ranks[0].name}")
        return first

    def _joined(self, name: str, axis: int) -> Tensor:
        """The parts of all ranks side by side, of which only one is mapped at a time."""
        whole = torch.empty(self._whole(name).shape, dtype=self._parts[name].dtype)
        for file, place in zip(self._ranks, whole.chunk(len(self._ranks), axis), strict=True):
            place.copy_(self._part(file, name))
        return whole

    def _axis(self, name: str) -> int | None:
        """Where the ranks' parts are joined; Llama 2 cut the embedding by its dimension."""
        return self._embedding_axis if name == META_EMBEDDING else split_axis(name)

    def _whole(self, name: str) -> TensorInfo:
        """A tensor as it is when the parts of all ranks are put together."""
        part, axis = self._parts[name], self._axis(name)
        ranks = len(self._ranks)
        shape = tuple(size * ranks if place == axis else size for place, size in enumerate(part.shape))
        return TensorInfo(shape, part.dtype)

    def _head_is_embedding(self) -> bool:
        """Whether every rank's head equals its embedding, compared in pieces."""
        part = self._parts[META_HEAD]
        if part != self._parts[META_EMBEDDING]:
            return False
        rows = max(_COMPARED_BYTES * part.shape[0] // part.nbytes, 1)
        for file in self._ranks:
            for start in range(0, part.shape[0], rows):
                tensors = self._mapped.get(file, 2 * _COMPARED_BYTES)
                cut = slice(start, start + rows)
                if not torch.equal(tensors[META_HEAD][cut], tensors[META_EMBEDDING][cut]):
                    return False
        return True


def _rank_files(path: Path) -> list[Path]:
    """The files of ranks 0, 1, …; a hole among them is named."""
    numbers = {
        int(match[1]): file
        for file in path.glob("consolidated.*.pth")
        if (match := re.fullmatch(r"consolidated\.(\d+)\.pth", file.name))
    }
    if not numbers:
        raise HerdError(f"{path}: holds no consolidated.00.pth")
    for rank in range(max(numbers) + 1):
        if rank not in numbers:
            raise HerdError(f"{path / f'consolidated.{rank:02d}.pth'}: is missing, there are files of later ranks")
    return [numbers[rank] for rank in sorted(numbers)]


def _describe_alike(ranks: list[Path]) -> dict[str, TensorInfo]:
    """Shape and type of one rank's part of every tensor; a rank that has others than the first is refused."""
    first = describe(ranks[0])
    for file in ranks[1:]:
        parts = describe(file)
        for name in sorted(first.keys() | parts.keys()):
            if name not in parts:
                raise HerdError(f"{file}: tensor {name} is missing, {ranks[0].name} has it")
            if name not in first:
                raise HerdError(f"{file}: tensor {name} is not in {ranks[0].name}")
            if parts[name] != first[name]:
                raise HerdError(f"{file}: tensor {name} is {parts[name]}, in {ranks[0].name} it is {first[name]}")
    return first


def _tokenizer(file: Path) -> SourceTokenizer | None:
    return SourceTokenizer(lambda: Tokenizer.load(file), files={_TOKENIZER: file}) if file.is_file() else None
