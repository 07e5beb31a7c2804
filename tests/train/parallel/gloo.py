"""Forked ranks of a gloo group for the tests; the libraries are imported once, by the process that forks."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist


def on_ranks(count: int, work: Callable[[int], None]) -> None:
    """Calls ``work`` with every rank in a process of its own, and fails where one of them failed."""
    with tempfile.TemporaryDirectory() as place:
        pids = [_fork(rank, count, work, Path(place) / "store") for rank in range(count)]
        failed = [rank for rank, pid in enumerate(pids) if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]
    if failed:
        raise SystemExit(f"ranks {failed} of {count} failed")


def _fork(rank: int, count: int, work: Callable[[int], None], store: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        if count > 1:
            dist.init_process_group("gloo", store=dist.FileStore(str(store), count), rank=rank, world_size=count)
        work(rank)
        if count > 1:
            dist.barrier()
            dist.destroy_process_group()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)
