"""Answers of a model to training tasks: run through the tools, with the judgement of the task's verifier."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from herd.align.comparisons import Messages
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.foundation.seeds import random_from
from herd.infer.engine import Engine
from herd.infer.sampling import Sampling
from herd.tasks.solve import poison
from herd.tasks.task import KINDS, Task
from herd.tasks.verifiers import Verdict, verify
from herd.tools.agent import ToolResult, run_dialogues
from herd.tools.registry import Tool


class SamplingConfig(Config):
    """How answers are drawn; the paper's final rounds use a temperature of 0.6, early ones vary it (section 4.3.2)."""

    temperature: float = Field(default=0.8, ge=0, le=100)
    top_p: float = Field(default=0.95, gt=0, le=1)
    max_tokens: int = Field(default=96, gt=0)
    max_calls: int = Field(default=3, ge=0)

    def settings(self, seed: int) -> Sampling:
        """The engine's settings with this seed."""
        return Sampling(self.max_tokens, self.temperature, self.top_p, seed=seed % (1 << 31))


@dataclass(frozen=True)
class Answer:
    """What a model said to a task, tool results included, and what its verifier says of it."""

    messages: Messages
    verdict: Verdict

    @property
    def level(self) -> int:
        """3: right in every respect. 2: right, but not read in a tool's result. 1: wrong. 0: malformed."""
        if not self.verdict.well_formed:
            return 0
        if not self.verdict.correct:
            return 1
        return 3 if self.verdict.grounded else 2

    @property
    def clean(self) -> Messages:
        """The messages without the verdict of the tool loop, ready to be encoded: what was ``written`` stays."""
        return [{key: value for key, value in message.items() if key != "malformed"} for message in self.messages]


def choose_tasks(tasks: Sequence[Task], count: int, seed: int, *names: str | int) -> list[Task]:
    """About ``count`` tasks, as many of each kind as the kinds there are allow; the draw depends on seed and names."""
    by_kind = {kind: [task for task in tasks if task.kind == kind] for kind in KINDS}
    present = [kind for kind in KINDS if by_kind[kind]]
    if not present:
        raise HerdError("there are no training tasks to draw prompts from")
    share = max(1, count // len(present))
    chosen = []
    for kind in present:
        pool = by_kind[kind]
        chosen += random_from(seed, *names, kind).sample(pool, min(share, len(pool)))
    return chosen


def answer_tasks(
    engine: Engine,
    tasks: Sequence[Task],
    tools: Mapping[str, Tool],
    config: SamplingConfig,
    samples: int,
    seed: int,
    progress: Progress,
) -> list[list[Answer]]:
    """``samples`` answers to every task, all in one batch that shares the prompts' pages (paper, section 4.2.2).

    Tools that a task wants and this machine lacks are off.
    """
    asked = [task for task in tasks for _ in range(samples)]

    def change(result: ToolResult) -> str:
        return poison(asked[result.dialogue], result.text) if result.tool == "search" else result.text

    dialogues = run_dialogues(
        engine,
        [task.messages for task in asked],
        tools,
        config.settings(seed),
        enabled=[[name for name in task.tools if name in tools] for task in asked],
        max_calls=config.max_calls,
        change=change,
        progress=progress,
    )
    pairs = zip(asked, dialogues, strict=True)
    found = [Answer(messages[len(task.messages) :], verify(task, messages)) for task, messages in pairs]
    return [found[start : start + samples] for start in range(0, len(found), samples)]
