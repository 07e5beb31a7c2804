"""Leaving in good order when the system asks for it: SIGTERM is remembered until the step is done.

with stop_asked() as stop:
    while not stop.is_set():
        take_step()
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_asked() -> Iterator[threading.Event]:
    """An event that SIGTERM sets inside the block; outside the main thread, where no signal arrives, it stays unset."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
