"""Where curation computes: in processes of this machine, or as a dataframe program on Daft, embedded or in a cluster.

    with open_engine(EngineConfig(kind="ray", address="10.0.0.1:6379"), workers=4) as engine:
        tallies = list(engine.map(prepare, portions))

An engine does the two things that grow with the corpus and need many machines: it maps a function over portions of
pages, and it finds the families of near-duplicates, within a snapshot and with earlier ones.  Every engine gives the
same result, so the choice is one of speed alone.  In a cluster all nodes must see pages, earlier corpora and output
under the same paths, and have Herd installed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from pydantic import Field, model_validator

from herd.corpus.dedup import DedupConfig, families_against
from herd.corpus.signatures import JoinedSignatures, Rows
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.workers import workers

Item = TypeVar("Item")
Result = TypeVar("Result")


class EngineConfig(Config):
    """``local``: processes of this machine; ``daft``: Daft embedded; ``ray``: Daft on Ray, a cluster by its address."""

    kind: Literal["local", "daft", "ray"] = "local"
    address: str | None = Field(default=None, description="of a Ray cluster, host:port or auto; none starts one here")

    @model_validator(mode="after")
    def _an_address_is_rays(self) -> "EngineConfig":
        if self.address is not None and self.kind != "ray":
            raise ValueError(f"an address is that of a Ray cluster, and kind is {self.kind}")
        return self


class Engine(Protocol):
    """What curation asks of the machines it runs on."""

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """The results in the order of the items; the function may run in another process or on another machine."""
        ...

    def families(self, signatures: Sequence[Path], earlier: Rows, rows: Rows, config: DedupConfig) -> tuple[Rows, Rows]:
        """As ``herd.corpus.dedup.families_against``, of files of signatures, their rows numbered one after another."""
        ...


class LocalEngine:
    """This machine: as many processes as asked for where there is more than one item."""

    def __init__(self, processes: int) -> None:
        self._processes = processes

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """The results in the order of the items."""
        if self._processes <= 1 or len(items) <= 1:
            yield from map(function, items)
            return
        with workers(self._processes, "curate") as pool:
            yield from pool.map(function, items)

    def families(self, signatures: Sequence[Path], earlier: Rows, rows: Rows, config: DedupConfig) -> tuple[Rows, Rows]:
        """The families, one partition of a band's buckets in memory at a time, the rest beside the last file."""
        return families_against(JoinedSignatures(signatures), earlier, rows, config, signatures[-1].parent)


@contextmanager
def open_engine(config: EngineConfig, processes: int) -> Iterator[Engine]:
    """The engine of ``config``; ``processes`` is how many work at a time on this machine.

    Raises:
        HerdError: Daft or Ray is not installed, no cluster answers, or this process has begun on another engine.
    """
    if config.kind == "local":
        yield LocalEngine(processes)
        return
    try:
        from herd.corpus.dataframes import DaftEngine
    except ImportError as error:
        raise HerdError(f"engine.kind {config.kind}: {error}; the extra cluster brings it") from None
    yield DaftEngine(config.kind, config.address, processes)
