"""The funnel: how many documents and characters entered each step, what left it and why, with the sums checked.

A document that is neither kept nor rejected with a reason is a defect of Herd, so a step that does not add up raises.
"""

import time
from collections import Counter
from typing import Any


class Funnel:
    """Counts from step to step; ``steps`` is the ordered list that goes into ``stats.json``."""

    def __init__(self, documents: int, characters: int) -> None:
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
        """
        if kept + removed.total() != self.documents:
            left = f"{kept} kept and {removed.total()} rejected"
            raise RuntimeError(f"step {name}: of {self.documents} documents {left} do not add up")
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
