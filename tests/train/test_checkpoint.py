"""Checkpoints: whole or absent, few, and refused where they do not belong."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from herd.foundation.errors import HerdError
from herd.train.average import RunningAverage
from herd.train.checkpoint import Checkpoints, Counters


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
    Checkpoints(tmp_path, "run").save(Counters(step=2, tokens=9), model, optimizer, average)
    other, other_optimizer, other_average = _parts(1)
    counters = Checkpoints(tmp_path, "run").load(other, other_optimizer, other_average)
    assert (counters.step, counters.tokens) == (2, 9)
    inputs = torch.randn(5, 4)
    for each, its_optimizer in ((model, optimizer), (other, other_optimizer)):
        each(inputs).square().sum().backward()
        its_optimizer.step()
    assert torch.equal(model.weight, other.weight)
    assert torch.equal(average.mean["bias"], other_average.mean["bias"])
    assert other_average.count == 1


def test_only_the_newest_are_kept_and_leftovers_are_removed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "run", keep=2)
    (tmp_path / ".00000001.safetensors.77.tmp").write_bytes(b"half")
    for step in (1, 2, 10):
        checkpoints.save(Counters(step=step), *_parts(0))
    assert [path.name for path in checkpoints.paths()] == ["00000010.safetensors", "00000002.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000002.safetensors", "00000010.safetensors"]


def test_without_a_checkpoint_nothing_is_touched(tmp_path: Path) -> None:
    model, optimizer, average = _parts(0)
    before = model.weight.clone()
    assert Checkpoints(tmp_path, "run").load(model, optimizer, average) == Counters()
    assert torch.equal(model.weight, before)


def test_a_checkpoint_of_another_run_and_a_broken_one_are_refused(tmp_path: Path) -> None:
    Checkpoints(tmp_path, "run").save(Counters(step=1), *_parts(0))
    with pytest.raises(HerdError, match=r"00000001\.safetensors: belongs to a run of another configuration"):
        Checkpoints(tmp_path, "another").load(*_parts(0))
    path = tmp_path / "00000001.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(HerdError, match=r"00000001\.safetensors: the checkpoint is not readable"):
        Checkpoints(tmp_path, "run").load(*_parts(0))


def test_a_failed_write_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path, "run")
    checkpoints.save(Counters(step=1), *_parts(0))

    def full_disk(tensors: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(b"the beginning")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("herd.train.checkpoint.save_file", full_disk)
    with pytest.raises(HerdError, match=r"00000002\.safetensors: the checkpoint could not be written .*No space"):
        checkpoints.save(Counters(step=2), *_parts(0))
    assert [path.name for path in tmp_path.iterdir()] == ["00000001.safetensors"]
    assert load_file(tmp_path / "00000001.safetensors")["model/bias"].shape == (3,)
