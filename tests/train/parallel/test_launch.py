"""Where a process trains: on the GPU that is its own, on the CPU of a machine without any."""

import sys
from pathlib import Path

import pytest
import torch

from herd.cli.options import refusing
from herd.foundation.errors import HerdError
from herd.train.parallel import launch
from herd.train.parallel.launch import launched
from tests.train.parallel.gloo import as_launched, on_forks


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_process_alone_takes_the_cpu_of_a_machine_without_gpus() -> None:
    with launched() as alone:
        assert (alone.device, alone.count) == (torch.device("cpu"), 1)


def test_a_process_alone_takes_the_first_gpu(two_gpus: None) -> None:
    with launched() as alone:
        assert (alone.device, alone.count) == (torch.device("cuda", 0), 1)


def test_a_process_without_a_gpu_of_its_own_is_refused(two_gpus: None) -> None:
    assert launch._device(1) == torch.device("cuda", 1)
    with pytest.raises(HerdError, match="process 2 of this machine has no GPU of its own: 2 GPUs"):
        launch._device(2)


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_mistake_is_told_once_whoever_met_it(tmp_path: Path, everywhere: bool) -> None:
    @refusing
    def verb() -> None:
        with launched(beat=0.2) as started:
            if everywhere or started.rank == 0:
                raise HerdError("the mesh does not fit")

    def work(rank: int) -> None:
        sys.stderr = (tmp_path / f"{rank}.txt").open("w")
        with pytest.raises(SystemExit) as ended:
            verb()
        sys.stderr.close()
        (tmp_path / f"{rank}.ended").write_text(str(ended.value.code))

    on_forks(3, as_launched(3, work))
    assert [(tmp_path / f"{rank}.ended").read_text() for rank in range(3)] == ["2"] * 3
    said = [(tmp_path / f"{rank}.txt").read_text() for rank in range(3)]
    assert said == ["herd: the mesh does not fit\n", "", ""]
