"""The funnel: how many documents and characters entered each step, what left it and why, with the sums checked.

A document that is neither kept nor rejected with a reason is a defect of Herd, so a step that does not add up raises.
A step that takes nearly everything is most often a mistake of the settings or of a source, so it ends the run with a
sentence, and while pages are prepared long before all of them are.
"""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from herd.foundation.config import Config
from herd.foundation.errors import HerdError

Step = Literal[
    "url", "extract", "privacy", "language", "heuristics", "divergence", "near_duplicates", "quality", "lines",
    "decontaminate",
]  # fmt: skip
Share = Annotated[float, Field(gt=0, le=1)]
_EARLY = 5


class OddConfig(Config):
    """A step that removes more than ``most_removed`` of its documents, ``least_documents`` or more, ends the run.

    ``steps`` has limits of its own for single steps, 1 for none.
    """

    most_removed: Share = 0.98
    least_documents: int = Field(default=1000, ge=1)
    steps: dict[Step, Share] = {}

    def check(self, step: str, entered: int, removed: Counter[str], times: int = 1) -> None:
        """Raises ``HerdError`` where so much is odd; ``times`` is how many times more documents it takes to tell."""
        limit = next((own for name, own in self.steps.items() if name == step), self.most_removed)
        gone = removed.total()
        if entered >= self.least_documents * times and gone > limit * entered:
            (reason, count), *_ = removed.most_common(1)
            raise HerdError(
                f"step {step} removes {gone / entered:.1%} of {entered:,} documents, {count:,} of them for: {reason}; "
                f'where that is meant, allow it with --set "odd.steps={{{step}: 1}}"'
            )


class Funnel:
    """Counts from step to step; ``steps`` is the ordered list that goes into ``stats.json``."""

    def __init__(self, documents: int, characters: int, odd: OddConfig = OddConfig()) -> None:  # noqa: B008 - frozen
        self._odd = odd
        self.documents, self.characters = documents, characters
        self.steps: list[dict[str, Any]] = [
            {"step": "pages", "documents": documents, "characters": characters, "removed": {}, "seconds": 0.0}
        ]
        self._last = time.monotonic()

    def step(
        self, name: str, kept: int, characters: int, removed: Counter[str], seconds: float | None = None, **figures: Any
    ) -> None:
        """Closes a step; ``kept`` and ``removed`` were counted apart, and must add up to what entered.

        ``seconds`` is processor time where it was measured (over all processes), else the time since the last step.

        Raises:
            RuntimeError: documents were lost or multiplied.
            HerdError: an odd share of them went.
        """
        if kept + removed.total() != self.documents:
            left = f"{kept} kept and {removed.total()} rejected"
            raise RuntimeError(f"step {name}: of {self.documents} documents {left} do not add up")
        self._odd.check(name, self.documents, removed)
        now = time.monotonic()
        reasons = dict(sorted(removed.items(), key=lambda item: (-item[1], item[0])))
        spent = now - self._last if seconds is None else seconds
        row = {
            "step": name,
            "documents": kept,
            "characters": characters,
            "removed": reasons,
            "seconds": round(spent, 3),
        }
        self.steps.append(row | figures)
        self.documents, self.characters, self._last = kept, characters, now

    def early(self, kept: Mapping[str, int], removed: Mapping[str, Counter[str]]) -> None:
        """Looks at steps that are still under way, by what came through each and what did not."""
        for step, reasons in removed.items():
            self._odd.check(step, kept[step] + reasons.total(), reasons, _EARLY)

    def commonest(self) -> str:
        """The reason for which most documents went so far, with their number."""
        counts = sum((Counter(step["removed"]) for step in self.steps), Counter[str]())
        return ", ".join(f"{reason} ({count:,})" for reason, count in counts.most_common(1)) or "nothing"
