"""Tensors that are spread over processes, to a directory of safetensors files and back onto any other processes.

Torch's distributed checkpoint plans who writes which slice, each once, and who reads which slices from where.  Its
safetensors storage says in every file's header where its slices lie, so there is no index and nothing is unpickled.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from herd.train.parallel.launch import Alone


def write_slices(tensors: Mapping[str, Tensor], directory: Path, launch: Alone) -> list[Path]:
    """Writes and flushes this process's slices; returns its files.  Every process calls it, in a thread if it likes.

    Raises ``OSError`` on every process where one of them could not write.
    """
    writer = HuggingFaceStorageWriter(str(directory), save_distributed=True)
    with _in_one_sentence():
        dcp.save(dict(tensors), storage_writer=writer, process_group=launch.background)
    return sorted(directory.glob(f"shard-{launch.rank + 1:05d}-*.safetensors"))


def read_slices(places: Mapping[str, Tensor], directory: Path, launch: Alone) -> None:
    """Fills ``places``, whole or spread, by name; every process calls it.  Raises ``OSError`` where one fails."""
    reader = HuggingFaceStorageReader(str(directory))
    with _in_one_sentence():
        dcp.load(dict(places), storage_reader=reader, process_group=launch.background, no_dist=launch.count == 1)


def stored_shapes(directory: Path) -> dict[str, torch.Size]:
    """Shapes of the whole tensors whose slices lie in ``directory``."""
    stored = HuggingFaceStorageReader(str(directory)).read_metadata().state_dict_metadata
    return {name: each.size for name, each in stored.items() if isinstance(each, TensorStorageMetadata)}


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    """The first failure instead of all of them, and no word about a single process being one."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            yield
    except CheckpointException as error:
        rank, (failure, _) = min(error.failures.items())
        raise OSError(f"process {rank}: {failure}") from None
