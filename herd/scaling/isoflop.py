"""Plans IsoFLOP runs: every budget is spent on several sizes, so that each budget shows its own best size.

``plan(config, sizes)`` gives the runs; section 3.2.1 of the paper used budgets from 6e18 to 1e22 FLOPs and models from
40M to 16B parameters, a subset per budget, with the batch fixed per budget.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from herd.foundation.config import Config


class IsoflopConfig(Config):
    """Budgets in FLOPs; a run with fewer tokens than ``least_tokens`` teaches nothing about the law and is left out."""

    budgets: tuple[float, ...] = Field(min_length=1)
    batch_tokens: int = Field(default=4096, gt=0)
    least_tokens: int = Field(default=40_000, gt=0)


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
            steps = round(budget / (6 * params * config.batch_tokens))
            tokens = steps * config.batch_tokens
            if tokens >= config.least_tokens:
                runs.append(IsoflopRun(budget, size, params, steps, tokens))
    return runs
