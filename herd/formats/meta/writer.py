"""Meta's directory as a sink of tensors: a ``consolidated.NN.pth`` for each rank, ``params.json``, ``tokenizer.model``.

A tied head is stored a second time under its own name, as the releases do.
"""

import zlib
from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from herd.formats.meta import params
from herd.formats.meta.layout import META_HEAD, meta_name, rank_shape, split_axis
from herd.formats.meta.torch_file import TorchFileLayout, lay_out
from herd.formats.regions import Region, RegionFiles
from herd.formats.rotary_order import rotated_heads, to_pairs
from herd.formats.tensors import EMBEDDING, TensorInfo, TensorSource, cast, load_tokenizer, raw_bytes
from herd.foundation.errors import HerdError
from herd.foundation.files import digest_value, write_json
from herd.tokenizer.files import RANKS_FILE

_JOURNAL = ".converting.jsonl"


class MetaSink:
    """Writes the directory ``out``; see ``herd.formats.tensors.TensorSink``."""

    def __init__(self, out: Path, dtype: torch.dtype | None = None, ranks: int = 1) -> None:
        """``dtype`` is the type to store, the source's own without it; ``ranks`` the number of files."""
        self._out, self._dtype, self._ranks = out, dtype, ranks

    def begin(self, source: TensorSource) -> Collection[str]:
        """Plans the ranks' files; returns what is already in all of them."""
        self._config = source.config
        self._params = params.params_from_config(source.config)
        self._tokenizer = load_tokenizer(source)
        self._check(source)
        self._types = {name: self._dtype or info.dtype for name, info in source.tensors.items()}
        parts = {
            theirs: TensorInfo(rank_shape(theirs, info.shape, self._ranks), self._types[name])
            for name, info in source.tensors.items()
            for theirs in self._targets(name)
        }
        self._out.mkdir(parents=True, exist_ok=True)
        self._layouts: dict[str, TorchFileLayout] = {}
        for rank in range(self._ranks):
            file = f"consolidated.{rank:02d}.pth"
            self._layouts[file] = lay_out(parts, self._out, file)
        sizes = {file: layout.size for file, layout in self._layouts.items()}
        frames = [[offset, data.hex()] for layout in self._layouts.values() for offset, data in layout.frame.items()]
        plan = digest_value([source.fingerprint(), frames])
        self._files = RegionFiles(self._out, sizes, _JOURNAL, plan)
        for file, layout in self._layouts.items():
            if file not in self._files.done:
                self._files.write(file, [(file, offset, data) for offset, data in layout.frame.items()])
        return self._files.done.keys() & source.tensors.keys()

    def write(self, name: str, tensor: Tensor) -> None:
        """Puts each rank's part of one tensor into its file, and notes its checksum."""
        tensor = cast(name, tensor, self._types[name])
        targets = self._targets(name)
        heads = rotated_heads(name, self._config)
        whole = tensor if heads is None else to_pairs(tensor, heads)
        regions: list[Region] = []
        checksums = {}
        for (file, layout), part in zip(self._layouts.items(), self._divided(targets[0], whole), strict=True):
            data = raw_bytes(part)
            checksums[file] = zlib.crc32(data)
            regions += [(file, layout.offsets[theirs], data) for theirs in targets]
        self._files.write(name, regions, note=checksums)

    def finish(self) -> None:
        """Writes the checksums, moves the files into place, then writes tokenizer and, last, ``params.json``."""
        self._files.flush()
        for file, layout in self._layouts.items():
            regions: list[Region] = []
            for name in self._types:
                checksum = self._files.done[name][file].to_bytes(4, "little")
                regions += [(file, place, checksum) for theirs in self._targets(name) for place in layout.crcs[theirs]]
            self._files.write(f"{file} checksums", regions)
        self._files.finish()
        if self._tokenizer is not None:
            self._tokenizer.save_model(self._out)
        write_json(self._out / params.FILE, self._params)

    def _check(self, source: TensorSource) -> None:
        """Refuses what the format, or so many ranks, cannot express."""
        if source.reward:
            raise HerdError(f"{source.path}: is a reward model, for which Meta's format has no place")
        if self._config.kv_heads % self._ranks:
            raise HerdError(
                f"{source.path}: {self._config.kv_heads} heads of keys cannot be divided among {self._ranks} ranks"
            )
        if self._tokenizer is not None and not self._tokenizer.model_says_all:
            raise HerdError(f"{source.path}: {RANKS_FILE} has no place for control tokens other than Llama 3.1's 256")

    def _targets(self, name: str) -> list[str]:
        """The Meta names of a tensor: two for the embedding of a tied model."""
        return [meta_name(name), META_HEAD] if name == EMBEDDING and self._config.tied else [meta_name(name)]

    def _divided(self, name: str, whole: Tensor) -> list[Tensor]:
        """The ranks' parts of a Meta tensor, each contiguous."""
        axis = split_axis(name)
        if axis is None:
            return [whole] * self._ranks
        return [part.contiguous() for part in whole.chunk(self._ranks, axis)]
