"""How much memory a process holds at most while something runs, for the benchmarks beside this file.

with Held() as held:
    ...
print(held.peak["RssAnon"], held.before["RssAnon"])
"""

import threading
from pathlib import Path

_KINDS = ("VmRSS", "RssAnon", "RssFile")


class Held:
    """Peaks in MiB, sampled: resident memory, and of it what is the process's own and what is pages of files."""

    def __enter__(self) -> "Held":
        self.before = self.peak = held()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.005):
            now = held()
            self.peak = {kind: max(self.peak[kind], now[kind]) for kind in _KINDS}


def held() -> dict[str, float]:
    """What this process holds now, in MiB by kind, as Linux counts it."""
    rows = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    found = dict(row.split(":", 1) for row in rows)
    return {kind: int(found[kind].split()[0]) / 1024 for kind in _KINDS}
