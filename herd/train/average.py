"""Averages of weights: of a run's last snapshots (Polyak, section 3.4.3) and of several finished models (4.1.5)."""

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from herd.foundation.config import Config
from herd.foundation.errors import HerdError


class AverageConfig(Config):
    """The run's result is also averaged over ``last`` snapshots, ``every`` steps apart, the newest at the end.

    The paper says that checkpoints of annealing are averaged, not how many nor how far apart.
    """

    last: int = Field(default=0, ge=0)
    every: int = Field(default=1, gt=0)

    def takes(self, done: int, steps: int) -> bool:
        """Whether a snapshot is taken after ``done`` of ``steps`` steps."""
        left = steps - done
        return left % self.every == 0 and left // self.every < self.last


class RunningAverage:
    """The mean of the snapshots so far, in one copy of the weights."""

    def __init__(self, model: nn.Module) -> None:
        self._parameters = dict(model.named_parameters())
        self.count = 0
        self.mean: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self) -> None:
        """Takes the model's present weights into the mean."""
        self.count += 1
        if not self.mean:
            self.mean = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
            return
        for name, parameter in self._parameters.items():
            self.mean[name].lerp_(parameter, 1 / self.count)


def average_weights(
    states: Sequence[Mapping[str, Tensor]], weights: Sequence[float] | None = None
) -> dict[str, Tensor]:
    """Weighted mean of several models' weights, name by name, computed in fp32; equal weights without ``weights``.

    Models that differ in names or shapes cannot be averaged: ``HerdError`` names the tensor.
    """
    if not states:
        raise HerdError("average: there is no model to average")
    shares = [1.0] * len(states) if weights is None else list(weights)
    if len(shares) != len(states) or sum(shares) <= 0:
        raise HerdError(f"average: {len(states)} models need as many weights with a positive sum, got {shares}")
    for state in states[1:]:
        for name in states[0].keys() ^ state.keys():
            raise HerdError(f"average: tensor {name} is not in all models")
    averaged = {}
    for name, first in states[0].items():
        if any(state[name].shape != first.shape for state in states):
            raise HerdError(f"average: tensor {name} has shapes {[tuple(state[name].shape) for state in states]}")
        parts = [state[name].float() * (share / sum(shares)) for state, share in zip(states, shares, strict=True)]
        averaged[name] = torch.stack(parts).sum(0).to(first.dtype)
    return averaged
