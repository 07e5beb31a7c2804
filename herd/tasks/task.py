"""A task: a prompt, the tools that are on, and what a verifier needs to judge the dialogue that follows.

Tasks live in JSONL files, one a split (``train.jsonl``, ``calibration.jsonl``, ``test.jsonl``), read by ``read_tasks``.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from herd.foundation.errors import HerdError
from herd.foundation.files import read_jsonl

Message = dict[str, Any]
"""One message in OpenAI's shape."""

Kind = Literal["lookup", "arithmetic", "two_step", "unknown", "refuse", "borderline", "talk", "injection"]
Split = Literal["train", "calibration", "test"]
Phrasing = Literal["seen", "unseen"]

KINDS: tuple[Kind, ...] = get_args(Kind)
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Task:
    """One prompt and what is expected of the dialogue that it opens.

    ``shape`` names the variant within the kind (``characters`` of ``two_step``, say), ``phrasing`` tells whether
    training has met the wording, and ``expected`` holds what the verifier of the kind reads.
    """

    id: str
    kind: Kind
    shape: str
    split: Split
    phrasing: Phrasing
    messages: list[Message]
    tools: list[str]
    expected: dict[str, Any]

    @property
    def question(self) -> str:
        """The user's words."""
        return str(self.messages[-1]["content"])

    def to_json(self) -> dict[str, Any]:
        """The task as one JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Task":
        """The task of one JSON object; a missing or unknown field is a ``HerdError``."""
        try:
            return cls(**row)
        except TypeError as error:
            raise HerdError(f"task {row.get('id', '?')}: {error}") from None


def read_tasks(directory: Path, split: Split) -> Iterator[Task]:
    """Yields the tasks of one split from the directory that the stage ``draw_tasks`` wrote."""
    for row in read_jsonl(directory / f"{split}.jsonl"):
        yield Task.from_json(row)
