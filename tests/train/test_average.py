"""Averages: which snapshots are taken, their mean, and models that cannot be averaged."""

import pytest
import torch
from torch import nn

from herd.foundation.errors import HerdError
from herd.train.average import AverageConfig, RunningAverage, average_weights


def test_the_last_snapshots_are_taken_at_their_spacing() -> None:
    config = AverageConfig(last=3, every=4)
    assert [done for done in range(1, 21) if config.takes(done, 20)] == [12, 16, 20]
    assert not any(AverageConfig().takes(done, 20) for done in range(1, 21))


def test_the_running_mean_is_the_mean_of_the_snapshots() -> None:
    model = nn.Linear(3, 2)
    average = RunningAverage(model)
    seen = []
    for value in (1.0, 5.0, 9.0, 2.0):
        with torch.no_grad():
            model.weight.fill_(value)
            model.bias.fill_(-value)
        seen.append(value)
        average.add()
        assert average.mean["weight"][0, 0].item() == pytest.approx(sum(seen) / len(seen))
        assert average.mean["bias"][0].item() == pytest.approx(-sum(seen) / len(seen))
    assert model.weight[0, 0].item() == 2.0


def test_weighted_mean_by_hand() -> None:
    states = [{"w": torch.tensor([0.0, 4.0])}, {"w": torch.tensor([4.0, 0.0])}]
    assert average_weights(states)["w"].tolist() == [2.0, 2.0]
    assert average_weights(states, [3.0, 1.0])["w"].tolist() == [1.0, 3.0]


def test_many_half_precision_models_are_averaged_in_full_precision() -> None:
    states = [{"w": torch.tensor([1.0 + index / 128], dtype=torch.bfloat16)} for index in range(64)]
    expected = torch.tensor([sum(1.0 + index / 128 for index in range(64)) / 64]).bfloat16()
    assert torch.equal(average_weights(states)["w"], expected)


def test_models_of_another_make_are_refused_by_tensor() -> None:
    with pytest.raises(HerdError, match="tensor b is not in all models"):
        average_weights([{"a": torch.zeros(1)}, {"a": torch.zeros(1), "b": torch.zeros(1)}])
    with pytest.raises(HerdError, match="tensor a has shapes"):
        average_weights([{"a": torch.zeros(1)}, {"a": torch.zeros(2)}])
    with pytest.raises(HerdError, match="positive sum"):
        average_weights([{"a": torch.zeros(1)}], [0.0])
    with pytest.raises(HerdError, match="no model"):
        average_weights([])
