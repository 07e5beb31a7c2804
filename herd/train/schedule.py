"""What changes from step to step by rule: the learning rate and the number of rows.

Both are pure functions of the step, so that a resumed run needs no state of theirs.
"""

import math
from typing import Literal

from pydantic import Field, model_validator

from herd.foundation.config import Config


class OptimizerConfig(Config):
    """AdamW and its learning rate.

    The paper gives the peak, the warm-up and the cosine's end (1% of the peak, section 3.4) but neither betas, eps,
    weight decay nor clipping; those are ours.  Weight decay falls on matrices only.
    """

    learning_rate: float = Field(default=1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    clip: float = Field(default=1.0, gt=0)
    warmup_steps: int = Field(default=0, ge=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    final_fraction: float = Field(default=0.01, ge=0, le=1)


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """The rate of ``step`` (from 0) in a run of ``steps``.

    Warm-up rises linearly and reaches the peak at its last step; the decay reaches ``final_fraction`` of the peak
    one step after the last, so that even annealing to zero learns something from its last batch.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    gone = (step - config.warmup_steps) / max(steps - config.warmup_steps, 1)
    left = 1 - gone if config.schedule == "linear" else (1 + math.cos(math.pi * gone)) / 2
    return config.learning_rate * (config.final_fraction + (1 - config.final_fraction) * left)


class RampStep(Config):
    """From ``step`` on, every step takes ``rows`` rows."""

    step: int = Field(ge=0)
    rows: int = Field(gt=0)
    pieces: int = Field(default=1, gt=0, description="shorter rows into which each of them is cut")


class BatchRamp(Config):
    """Rows of each step: small batches learn faster early on, large ones are steadier later (section 3.4).

    The paper's rows grow too, from 4,096 to 8,192 tokens.  Here the longest give the count, and early ones are cut.
    """

    ramp: tuple[RampStep, ...] = (RampStep(step=0, rows=8),)

    @model_validator(mode="after")
    def _ascending(self) -> "BatchRamp":
        steps = [change.step for change in self.ramp]
        if not steps or steps[0] != 0 or sorted(set(steps)) != steps:
            raise ValueError("the ramp must begin at step 0 and its steps must ascend")
        return self

    @classmethod
    def constant(cls, rows: int) -> "BatchRamp":
        """The same number of rows in every step."""
        return cls(ramp=(RampStep(step=0, rows=rows),))

    def rows(self, step: int) -> int:
        """Rows of one step."""
        return self._at(step).rows

    def pieces(self, step: int) -> int:
        """Shorter rows into which each row of one step is cut."""
        return self._at(step).pieces

    def _at(self, step: int) -> RampStep:
        return next(change for change in reversed(self.ramp) if change.step <= step)

    def rows_before(self, step: int) -> int:
        """Rows of all steps before ``step``: the number of the step's first sample."""
        total = 0
        ends = [change.step for change in self.ramp[1:]] + [step]
        for change, end in zip(self.ramp, ends, strict=True):
            total += change.rows * max(min(end, step) - change.step, 0)
        return total
