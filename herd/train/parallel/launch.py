"""The processes that ``torchrun`` started, brought together for the length of a ``with`` block.

    with launched(patience=600) as launch:
        train(config, model, source, loss, out, progress, processes=processes, launch=launch)

A launch knows rank and device, exchanges small values, watches over the collectives, and lets process 0 tell the
others where it works.  What becomes of the model on these processes is ``herd.train.processes``' affair.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta

import torch
import torch.distributed as dist

from herd.foundation.errors import HerdError, Interrupted, ToldError
from herd.train.parallel.watch import Watch

_NOTHING = "-"


class Alone:
    """A process that was started without others; the base of one that was not."""

    rank = 0
    count = 1
    device: torch.device = torch.device("cpu")
    background: dist.ProcessGroup | None = None
    """The group of the thread that writes checkpoints while the next steps run."""

    def within(self, collective: str) -> AbstractContextManager[object]:
        """Around whatever waits for other processes; a sentence names those that do not come."""
        return nullcontext()

    def exchange(self, values: Sequence[float], why: str = "the exchange of figures") -> list[list[float]]:
        """The values of every process, by rank."""
        return [list(values)]

    def tell(self, word: str | None) -> None:
        """Process 0 says a word to the others; only the first one counts."""

    def hear(self) -> str | None:
        """Waits for process 0's word."""
        raise AssertionError("process 0 hears nobody")


class Launch(Alone):
    """One process among the launched ones.  Made by ``launched``."""

    def __init__(self, store: dist.Store, rank: int, count: int, device: torch.device, watch: Watch) -> None:
        self.rank, self.count, self.device, self.watch = rank, count, device, watch
        self._store, self._told = store, False
        self._control = dist.new_group(backend="gloo")
        self.background = dist.new_group(backend="gloo")

    def within(self, collective: str) -> AbstractContextManager[object]:
        """Raises ``Interrupted`` where the collective fails since a process is gone; ends this one where it hangs."""
        return self.watch.within(collective)

    def exchange(self, values: Sequence[float], why: str = "the exchange of figures") -> list[list[float]]:
        """One all-gather in fp64 on the CPU."""
        own = torch.tensor(values, dtype=torch.float64)
        gathered = [torch.empty_like(own) for _ in range(self.count)]
        with self.within(why):
            dist.all_gather(gathered, own, self._control)
        return [each.tolist() for each in gathered]

    def tell(self, word: str | None) -> None:
        """Puts the word into the store."""
        if not self._told:
            self._store.set("word", word or _NOTHING)
        self._told = True

    def hear(self) -> str | None:
        """Waits as long as the store's patience."""
        word = self._store.get("word").decode()
        return None if word == _NOTHING else word


@contextmanager
def launched(patience: float = 600.0, beat: float = 1.0) -> Iterator[Alone]:
    """This process's launch, or ``Alone`` where ``torchrun`` did not start it or started it alone.

    ``patience`` is the time in seconds that one process may keep the others waiting in a collective, ``beat`` the time
    between two signs of life, of which five must be missing before a process counts as dead.  Raises
    ``Interrupted`` with a sentence that names the process because of which the run ended, and ``ToldError`` in place of
    either where process 0 ended by a ``HerdError``: a mistake that all processes meet is told once.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        alone = Alone()
        alone.device = _device()
        yield alone
        return
    launch = _join(count, patience, beat)
    try:
        yield launch
        launch.exchange([0.0], "the end of the run")
    except Interrupted as interruption:
        launch.watch.leave("")
        if launch.watch.is_told():
            raise ToldError(str(interruption)) from None
        raise
    except HerdError as mistake:
        launch.watch.leave(str(mistake), refused=True)
        if launch.watch.is_told(str(mistake)):
            raise ToldError(str(mistake)) from None
        raise
    except BaseException as error:
        launch.watch.leave(str(error) or type(error).__name__)
        raise
    launch.watch.close()
    dist.destroy_process_group()


def _join(count: int, patience: float, beat: float) -> Launch:
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    device = _device(local)
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    # A restarted run finds the store of the first one: nothing that was said there may count again.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")

    def connect(use: str, serves: bool = False) -> dist.Store:
        store = dist.TCPStore(address, port, is_master=serves, timeout=timedelta(seconds=patience))
        return dist.PrefixStore(f"{use}-{attempt}", store)

    # The groups' own patience is the longer one, so that the watch's sentence comes before their error.
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        store=connect("groups", serves),
        rank=rank,
        world_size=count,
        timeout=timedelta(seconds=2 * patience + 60),
    )
    watch = Watch(lambda: connect("watch"), rank, count, patience, beat)
    return Launch(connect("place"), rank, count, device, watch)


def _device(local: int = 0) -> torch.device:
    """Where process ``local`` of this machine trains: its own GPU, and the CPU of a machine without any."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local >= torch.cuda.device_count():
        raise HerdError(f"process {local} of this machine has no GPU of its own: {torch.cuda.device_count()} GPUs")
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device
