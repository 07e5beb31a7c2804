"""Workers end with their parent, and one that was killed is told in a sentence."""

import os
import signal
import subprocess
import sys
import time

import pytest

from herd.foundation.errors import HerdError
from herd.foundation.workers import workers

_PARENT = """
import os, time
from herd.foundation.workers import workers
with workers(1, "test") as pool:
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 60).result()
"""


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_does_not_outlive_a_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert _lives(worker)
        parent.kill()
        deadline = time.monotonic() + 20
        while _lives(worker):
            assert time.monotonic() < deadline, "the worker is still there"
            time.sleep(0.05)


def test_a_killed_worker_is_a_sentence_and_what_has_not_begun_is_cancelled() -> None:
    began = time.monotonic()
    with (
        pytest.raises(HerdError, match="scaling: a worker process was killed; run again"),
        workers(1, "scaling") as pool,
    ):
        os.kill(pool.submit(os.getpid).result(), signal.SIGKILL)
        for _ in range(3):
            pool.submit(time.sleep, 30).result()
    assert time.monotonic() - began < 20


def test_an_error_of_the_work_is_raised_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), workers(1, "test") as pool:
        later = [pool.submit(divmod, 1, 0), *(pool.submit(time.sleep, 0.5) for _ in range(8))]
        later[0].result()
    assert any(future.cancelled() for future in later)
