"""Curation as dataframe programs on Daft: the same plan embedded on one machine and, through Ray, on a cluster.

Opened by ``herd.corpus.engine``; needs the extra ``cluster``.  Only names of portions and rows of near-duplicates pass
through the driver.  Texts and signatures stay in files that all nodes read.
"""

import os
import pickle
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from herd.corpus.dedup import DedupConfig, Families, are_alike, band_keys, candidates
from herd.corpus.signatures import JoinedSignatures, Rows
from herd.foundation.errors import HerdError

# Daft reads these when it is imported: no bar of its own, which stalls on Ray, and no word to anybody.
os.environ |= {"DAFT_PROGRESS_BAR": "0", "DAFT_ANALYTICS_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}

import daft
from daft import DataType, Series, col

Item = TypeVar("Item")
Result = TypeVar("Result")

_ROWS_AT_A_TIME = 1 << 14
_BUCKETS_AT_A_TIME = 1 << 14
_MEETING = {"band": DataType.uint16(), "key": DataType.uint64(), "row": DataType.int64()}
_PAIR = {"one": DataType.int64(), "other": DataType.int64()}


class DaftEngine:
    """Daft in this process (``daft``) or on Ray (``ray``: the cluster at ``address``, or one started here)."""

    def __init__(self, kind: str, address: str | None, processes: int) -> None:
        self._processes = processes if kind == "daft" else None  # in a cluster each node has its own number of cores
        self._place = f"the Ray cluster at {address}" if address else kind
        if kind == "ray":
            _join_cluster(address)
        with suppress(ValueError):  # a process has one runner; that it was set before is no fault
            daft.set_runner_ray(address, noop_if_initialized=True) if kind == "ray" else daft.set_runner_native()
        if (begun := daft.get_or_infer_runner_type()) != {"daft": "native", "ray": "ray"}[kind]:
            raise HerdError(f"engine.kind {kind}: this process has begun on another one of Daft's engines ({begun})")

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """The results in the order of the items, each item alone in a batch.

        Raises:
            HerdError: what the function raised, or that the cluster lost the work.
        """
        work = daft.cls(_Mapped, use_process=True, max_concurrency=self._processes)(function)
        frame = daft.from_pydict({"number": list(range(len(items))), "item": [pickle.dumps(item) for item in items]})
        frame = frame.into_batches(1).select(col("number"), work(col("item")).alias("result"))
        waiting: dict[int, Any] = {}
        following = 0
        for row in self._rows(frame):
            waiting[row["number"]] = pickle.loads(row["result"])  # noqa: S301  written by this run's own processes
            while following in waiting:
                result, problem = waiting.pop(following)
                if problem is not None:
                    raise HerdError(problem)
                following += 1
                yield result

    def families(self, signatures: Sequence[Path], earlier: Rows, rows: Rows, config: DedupConfig) -> tuple[Rows, Rows]:
        """The families: rows that share a key of a band are grouped, compared, and joined here by their pairs."""
        known = Families(rows)
        if not len(rows):
            return known.result()
        first, every = int(rows[0]), np.concatenate([earlier, rows])
        slices = [every[start : start + _ROWS_AT_A_TIME] for start in range(0, len(every), _ROWS_AT_A_TIME)]
        meetings = _batched(partial(_meetings, signatures, config), _MEETING, 1)
        pairs = _batched(partial(_alike, signatures, first, config.similarity), _PAIR, _BUCKETS_AT_A_TIME)
        frame = daft.from_pydict({"rows": Series.from_arrow(pa.array(slices, pa.list_(pa.int64())))})
        frame = frame.into_batches(1).select(meetings(col("rows")).alias("meeting")).explode("meeting")
        frame = frame.select(col("meeting").unnest()).groupby("band", "key")
        frame = frame.agg(col("row").list_agg().alias("rows"), col("row").max().alias("last"))
        frame = frame.where((col("rows").list_count() > 1) & (col("last") >= first))
        frame = frame.select(pairs(col("rows")).alias("pair")).explode("pair")
        frame = frame.where(col("pair").not_null()).select(col("pair").unnest()).distinct()
        found = [(row["one"], row["other"]) for row in self._rows(frame)]
        known.add(np.array(found, dtype=np.int64).reshape(-1, 2))
        return known.result()

    def _rows(self, frame: daft.DataFrame) -> Iterator[dict[str, Any]]:
        try:
            yield from frame.iter_rows()
        except HerdError:
            raise
        except Exception as error:  # Daft and Ray have many errors of their own for a plan that cannot be finished
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise HerdError(f"{self._place}: the work ended early ({said[-1]})") from error


def _join_cluster(address: str | None) -> None:
    try:
        import ray
    except ImportError as error:
        raise HerdError(f"engine.kind ray: {error}; the extra cluster brings it") from None
    host, _, port = (address or "").rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        raise HerdError(f"engine.address {address}: no Ray cluster answers there ({error})") from None


class _Mapped:
    """A function over items in Daft's processes, which take plain bytes; a user's mistake comes back as a sentence."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    @daft.method.batch(return_dtype=DataType.binary(), batch_size=1)
    def __call__(self, items: Series) -> list[bytes]:
        return [pickle.dumps(self._one(pickle.loads(item))) for item in items.to_pylist()]  # noqa: S301  as above

    def _one(self, item: Any) -> tuple[Any, str | None]:
        try:
            return self._function(item), None
        except HerdError as error:
            return None, str(error)


def _batched(function: Callable[[Series], pa.Array], fields: dict[str, DataType], rows: int) -> Any:
    return daft.func.batch(return_dtype=DataType.list(DataType.struct(fields)), batch_size=rows)(function)


def _meetings(signatures: Sequence[Path], config: DedupConfig, slices: Series) -> pa.Array:
    """For each slice of rows, the band and the key of every bucket that one of them lies in."""
    opened, lengths = JoinedSignatures(signatures), []
    found = [(np.empty(0, np.uint16), np.empty(0, np.uint64), np.empty(0, np.int64))]  # a batch may be empty
    for rows in slices.to_pylist():
        own = opened[np.array(rows, dtype=np.int64)]
        keys = [band_keys(own, band, config) for band in range(config.bands)]
        bands = np.repeat(np.arange(config.bands, dtype=np.uint16), len(rows))
        found.append((bands, np.concatenate(keys), np.tile(np.array(rows, dtype=np.int64), config.bands)))
        lengths.append(len(bands))
    return _lists(_MEETING, [np.concatenate(column) for column in zip(*found, strict=True)], lengths)


def _alike(signatures: Sequence[Path], first: int, similarity: float, buckets: Series) -> pa.Array:
    """For each bucket of rows, the pairs of near-duplicates in it of which the second is ``first`` or after it."""
    lists = [np.sort(np.array(rows, dtype=np.int64)) for rows in buckets.to_pylist()]
    rows = np.concatenate([np.empty(0, dtype=np.int64), *lists])
    bucket = np.repeat(np.arange(len(lists), dtype=np.uint64), np.array([len(one) for one in lists], dtype=np.int64))
    opened, found = JoinedSignatures(signatures), [np.empty((0, 2), dtype=np.int64)]
    for places in candidates(np.arange(len(rows)), bucket):
        places = places[rows[places[:, 1]] >= first]
        found.append(places[are_alike(opened, rows[places], similarity)])
    pairs = np.concatenate(found)
    home = bucket[pairs[:, 0]].astype(np.int64)
    pairs = rows[pairs[np.argsort(home, kind="stable")]]
    return _lists(_PAIR, [pairs[:, 0], pairs[:, 1]], np.bincount(home, minlength=len(lists)).tolist())


def _lists(fields: dict[str, DataType], columns: list[np.ndarray], lengths: list[int]) -> pa.Array:
    """An array of lists of structures, of the lengths given, from their columns."""
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int32)
    structures = pa.StructArray.from_arrays([pa.array(column) for column in columns], names=list(fields))
    return pa.ListArray.from_arrays(offsets, structures)
