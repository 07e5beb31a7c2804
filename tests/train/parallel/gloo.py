"""Forked ranks of a gloo group for the tests; the libraries are imported once, by the process that forks."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist

from herd.train.parallel.launch import Alone, launched

Work = Callable[[int], None]


def on_ranks(count: int, work: Work) -> None:
    """Calls ``work`` with every rank in a process of its own, and fails where one of them failed."""
    with tempfile.TemporaryDirectory() as place:
        store = Path(place) / "store"

        def in_group(rank: int) -> None:
            if count > 1:
                dist.init_process_group("gloo", store=dist.FileStore(str(store), count), rank=rank, world_size=count)
            work(rank)
            if count > 1:
                dist.barrier()
                dist.destroy_process_group()

        on_forks(count, in_group)


def launched_ranks(count: int, work: Callable[[Alone], None]) -> None:
    """Calls ``work`` in as many processes, each with its launch, as if torchrun had started them."""

    def in_launch(rank: int) -> None:
        with launched() as launch:
            work(launch)

    on_forks(count, as_launched(count, in_launch))


def as_launched(count: int, work: Work) -> Work:
    """``work`` in the environment that torchrun, which keeps the store, gives to a process of ``count``."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def in_environment(rank: int) -> None:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
        work(rank)

    return in_environment


def on_forks(count: int, work: Work) -> None:
    """Calls ``work`` with every rank in a process of its own, and fails where one of them failed."""
    pids = [_fork(rank, work) for rank in range(count)]
    failed = [rank for rank, pid in enumerate(pids) if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]
    if failed:
        raise SystemExit(f"ranks {failed} of {count} failed")


def _fork(rank: int, work: Work) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work(rank)
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)
