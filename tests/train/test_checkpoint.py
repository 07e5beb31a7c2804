"""Checkpoints: whole or absent, few, and refused where they do not belong."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from herd.foundation.errors import HerdError
from herd.train.average import RunningAverage
from herd.train.checkpoint import Checkpoints, Counters

RUN = {"training": {"seed": 0}, "network": {"dim": 64}}


def _parts(seed: int) -> tuple[nn.Module, torch.optim.Optimizer, RunningAverage]:
    torch.manual_seed(seed)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    for _ in range(2):
        model(torch.randn(5, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    average = RunningAverage(model)
    average.add()
    return model, optimizer, average


def test_the_next_step_after_loading_is_the_one_that_would_have_been(tmp_path: Path) -> None:
    model, optimizer, average = _parts(0)
    checkpoints = Checkpoints(tmp_path, RUN)
    checkpoints.save(Counters(step=2, tokens=9), model, optimizer, average)
    checkpoints.wait()
    other, other_optimizer, other_average = _parts(1)
    counters = Checkpoints(tmp_path, RUN).load(other, other_optimizer, other_average)
    assert (counters.step, counters.tokens) == (2, 9)
    inputs = torch.randn(5, 4)
    for each, its_optimizer in ((model, optimizer), (other, other_optimizer)):
        each(inputs).square().sum().backward()
        its_optimizer.step()
    assert torch.equal(model.weight, other.weight)
    assert torch.equal(average.mean["bias"], other_average.mean["bias"])
    assert other_average.count == 1


def _save(checkpoints: Checkpoints, *steps: int) -> None:
    for step in steps:
        checkpoints.save(Counters(step=step), *_parts(0))
    checkpoints.wait()


def test_the_newest_and_every_hundredth_are_kept_and_leftovers_are_removed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, RUN, keep=2, keep_every=100)
    (tmp_path / ".00000001.partial").mkdir()
    checkpoints.load(*_parts(0))
    _save(checkpoints, 1, 100, 102, 200, 201, 210)
    assert [path.name for path in checkpoints.paths()] == ["00000210", "00000201", "00000200", "00000100"]
    assert len(list(tmp_path.iterdir())) == 4


def test_without_a_checkpoint_nothing_is_touched(tmp_path: Path) -> None:
    model, optimizer, average = _parts(0)
    before = model.weight.clone()
    assert Checkpoints(tmp_path, RUN).load(model, optimizer, average) == Counters()
    assert torch.equal(model.weight, before)


def test_a_checkpoint_of_another_run_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, RUN)
    _save(checkpoints, 1, 2)
    another = Checkpoints(tmp_path, {"training": {"seed": 0}, "network": {"dim": 96}})
    for refused in (another.find, lambda: another.load(*_parts(0))):
        with pytest.raises(HerdError, match=r"00000002: belongs to .* network \(network\.dim was 64, now it is 96\);"):
            refused()
    path = tmp_path / "00000002" / "state.safetensors"
    assert checkpoints.find() == path.parent
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    checkpoints = Checkpoints(tmp_path, RUN)
    for refused in (checkpoints.find, lambda: checkpoints.load(*_parts(0))):
        with pytest.raises(HerdError, match=r"02/state\.safetensors: is not what was written.*remove .*00000002 to"):
            refused()
    path.unlink()
    with pytest.raises(HerdError, match=r"00000002/state\.safetensors: is not what was written"):
        checkpoints.find()
    shutil.rmtree(tmp_path / "00000002")
    assert checkpoints.load(*_parts(0)).step == 1


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path, RUN)
    _save(checkpoints, 1)

    def full_disk(tensors: object, path: Path) -> None:
        Path(path).write_bytes(b"the beginning")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("herd.train.checkpoint.save_file", full_disk)
    with pytest.raises(HerdError, match=r"00000002: the checkpoint could not be written .*No space"):
        _save(checkpoints, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["00000001"]
    assert checkpoints.load(*_parts(0)).step == 1


def test_what_is_saved_is_the_state_of_the_call_and_not_of_the_writing(tmp_path: Path) -> None:
    model, optimizer, average = _parts(0)
    checkpoints = Checkpoints(tmp_path, RUN)
    before = model.weight.clone()
    checkpoints.save(Counters(step=1), model, optimizer, average)
    with torch.no_grad():
        model.weight.zero_()
    checkpoints.wait()
    other, other_optimizer, other_average = _parts(1)
    checkpoints.load(other, other_optimizer, other_average)
    assert torch.equal(other.weight, before)
