"""Plans IsoFLOP runs: every budget is spent on several sizes, so that each budget shows its own best size.

``plan(config, sizes)`` gives the runs; section 3.2.1 of the paper used budgets from 6e18 to 1e22 FLOPs and models from
40M to 16B parameters, a subset per budget, with the batch fixed per budget.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field, model_validator

from herd.foundation.config import Config


class IsoflopConfig(Config):
    """Budgets in FLOPs, and which sizes share each of them.

    A run with fewer tokens than ``least_tokens`` teaches nothing about the law and is left out, as is one whose tokens
    per parameter lie outside ``ratio``: with a ladder of sizes that serves all budgets, each then gets its own subset.
    """

    budgets: tuple[float, ...] = Field(min_length=1)
    batch_tokens: int = Field(default=4096, gt=0)
    least_tokens: int = Field(default=40_000, gt=0)
    ratio: tuple[float, float] | None = Field(default=None, description="fewest and most tokens per parameter")

    @model_validator(mode="after")
    def _ratio_ascends(self) -> "IsoflopConfig":
        if self.ratio is not None and not 0 <= self.ratio[0] < self.ratio[1]:
            raise ValueError("ratio must be two ascending numbers of tokens per parameter")
        return self


@dataclass(frozen=True)
class IsoflopRun:
    """One run of the plan: ``size`` names the shape, ``steps`` of ``batch_tokens`` tokens each spend ``budget``."""

    budget: float
    size: str
    params: int
    steps: int
    tokens: int

    @property
    def name(self) -> str:
        """The run's directory."""
        return f"{self.budget!r}-{self.size}"


def plan(config: IsoflopConfig, sizes: Mapping[str, int]) -> list[IsoflopRun]:
    """The runs for ``sizes`` (name to parameters), by C = 6 N D (Kaplan et al. 2020), ordered by budget and size."""
    runs = []
    for budget in sorted(config.budgets):
        for size, params in sorted(sizes.items(), key=lambda item: item[1]):
            run = spend(budget, size, params, config.batch_tokens)
            low, high = config.ratio or (0.0, math.inf)
            if run.tokens >= config.least_tokens and low <= run.tokens / params <= high:
                runs.append(run)
    return runs


def spend(budget: float, size: str, params: int, batch_tokens: int) -> IsoflopRun:
    """The run that spends ``budget`` on one size, to the nearest step."""
    steps = round(budget / (6 * params * batch_tokens))
    return IsoflopRun(budget, size, params, steps, steps * batch_tokens)
