"""Worker processes that end with the process that started them, however it ends.

    with workers(2, "scaling") as pool:
        pool.submit(function, argument).result()

A worker that outlived a killed run would go on writing where the next run already writes.
"""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from herd.foundation.errors import UnfinishedError


@contextmanager
def workers(count: int, what: str) -> Iterator[ProcessPoolExecutor]:
    """A pool of ``count`` fresh interpreters; what has not begun is cancelled when the block is left by an error.

    ``what`` names the work in the ``UnfinishedError`` for a worker that was killed: what others have done is kept.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=end_with_parent) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            raise UnfinishedError(
                f"{what}: a worker process was killed; run again to go on from what is done"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def end_with_parent() -> None:
    """Called in a worker: from now on it ends when its parent does."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is no worker"
    parent.join()
    os._exit(1)
