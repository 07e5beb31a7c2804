"""Dialogues as training batches: one document a dialogue, a target only where the assistant speaks.

Rows are packed by putting whole dialogues one after another on the flat axis; attention never crosses from one to the
next, so a packed batch gives the same loss as every dialogue alone (tests/align/test_sft.py).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from herd.foundation.errors import HerdError
from herd.foundation.files import read_jsonl
from herd.foundation.seeds import numpy_from
from herd.model.attention import document_positions
from herd.model.loss import IGNORE
from herd.tokenizer.chat import ChatFormat, EncodedChat, Message
from herd.train.batch import Batch
from herd.train.processes import OneProcess


@dataclass(frozen=True)
class Example:
    """One dialogue: what the model reads, and the token that it should say next (``IGNORE`` where it need not)."""

    tokens: list[int]
    targets: list[int]

    @property
    def trained(self) -> int:
        """Number of tokens with a target."""
        return sum(target != IGNORE for target in self.targets)


def encode_dialogue(chat: ChatFormat, row: Mapping[str, Any]) -> Example:
    """Encodes one row of a dialogues file (``messages`` and, where there are any, ``tools``).

    A message with ``trained`` false is read and not learnt: a slip, say, that the next message mends.
    """
    encoded = encode_messages(chat, row["messages"], row.get("tools") or None)
    for span in encoded.spans:
        if span.message is not None and not row["messages"][span.message].get("trained", True):
            encoded.mask[span.start : span.end] = [False] * (span.end - span.start)
    shifted = zip(encoded.ids[1:], encoded.mask[1:], strict=True)
    return Example(encoded.ids[:-1], [token if trained else IGNORE for token, trained in shifted])


def encode_messages(chat: ChatFormat, messages: Sequence[Message], tools: Sequence[Any] | None) -> EncodedChat:
    """Encodes a dialogue; a last message that carries the ids ``written`` by its model is made of these, as they are.

    So a call that cannot be read keeps its ``<|python_tag|>`` and its own terminator, or none where it was cut: a model
    that learns to avoid it must see what it wrote.  Raises ``HerdError`` for what are no ids of the tokenizer.
    """
    written = messages[-1].get("written") if messages else None
    if written is None:
        return chat.encode(messages, tools=tools)
    vocabulary = range(chat.tokenizer.vocab_size)
    if not isinstance(written, list) or not all(isinstance(token, int) and token in vocabulary for token in written):
        raise HerdError(
            f"message {len(messages) - 1}: what was written is no list of token ids below {vocabulary.stop}"
        )
    before = chat.encode(messages[:-1], tools=tools, open_assistant=True)
    content = [token not in chat.tokenizer.stop_ids for token in written]
    return EncodedChat(before.ids + written, before.mask + [True] * len(written), before.content_mask + content)


class DialogueRow(dict[str, Any]):
    """A row of a dialogues file that knows its ``place`` for a sentence about what is wrong in it."""

    place: str


def read_dialogues(files: Sequence[Path]) -> Iterator[DialogueRow]:
    """Yields the dialogues of JSONL files, or of the ``dialogues.jsonl`` in directories, in order."""
    for path in files:
        file = path / "dialogues.jsonl" if path.is_dir() else path
        for number, row in enumerate(read_jsonl(file), start=1):
            place = f"{file}, dialogue {number}"
            if not isinstance(row, dict) or not isinstance(row.get("messages"), list):
                raise HerdError(f"{place}: it has no list of messages")
            if not all(isinstance(message, dict) for message in row["messages"]):
                raise HerdError(f"{place}: one of its messages is no object")
            found = DialogueRow(row)
            found.place = place
            yield found


def encode_dialogues(
    chat: ChatFormat, rows: Iterable[Mapping[str, Any]], longest: int
) -> tuple[list[Example], dict[str, int]]:
    """Encodes dialogues; drops those above ``longest`` tokens or without a target, and counts what was dropped.

    ``HerdError`` names the dialogue that cannot be written, and its file where it was read from one.
    """
    examples: list[Example] = []
    dropped = {"too long": 0, "nothing to learn": 0}
    for number, row in enumerate(rows, start=1):
        try:
            example = encode_dialogue(chat, row)
        except HerdError as error:
            place = row.place if isinstance(row, DialogueRow) else f"dialogue {number}"
            raise HerdError(f"{place}: {error}") from None
        if len(example.tokens) > longest:
            dropped["too long"] += 1
        elif not example.trained:
            dropped["nothing to learn"] += 1
        else:
            examples.append(example)
    return examples, dropped


def fill_steps(sizes: Sequence[int], tokens_per_step: int, epochs: int, seed: int) -> list[list[int]]:
    """Which items every step reads: each epoch in an order of its own, a step is full before ``tokens_per_step``.

    An item larger than a step gets one to itself. A pure function of its arguments.
    """
    steps: list[list[int]] = []
    for epoch in range(epochs):
        order = numpy_from(seed, "epoch", epoch).permutation(len(sizes)).tolist()
        current: list[int] = []
        filled = 0
        for item in order:
            if current and filled + sizes[item] > tokens_per_step:
                steps.append(current)
                current, filled = [], 0
            current.append(item)
            filled += sizes[item]
        if current:
            steps.append(current)
    return steps


def pack(examples: Sequence[Example]) -> Batch:
    """Puts examples one after another on the flat axis, each a document of its own."""
    lengths = [len(example.tokens) for example in examples]
    return Batch(
        tokens_N=torch.tensor([token for example in examples for token in example.tokens]),
        positions_N=document_positions(lengths),
        targets_N=torch.tensor([target for example in examples for target in example.targets]),
        lengths=lengths,
    )


class DealtSource(ABC):
    """Steps of whole items: ``batches(step)`` is a pure function of the step.

    Where processes share a step, each takes every ``data_parts``-th of its items; one that gets none goes along with
    another's, which does not count.
    """

    def __init__(self, steps: list[list[int]], processes: OneProcess | None) -> None:
        self._steps, self._processes = steps, processes or OneProcess()

    @property
    def steps(self) -> int:
        """Number of steps in all epochs."""
        return len(self._steps)

    def batches(self, step: int) -> list[Batch]:
        """The one micro-batch of a step."""
        items = self._steps[step]
        own = items[self._processes.data_index :: self._processes.data_parts]
        batch = self.batch(own or items[:1], step)
        batch.idle = not own
        return [batch]

    @abstractmethod
    def batch(self, items: Sequence[int], step: int) -> Batch:
        """The micro-batch of some of a step's items."""


class DialogueSource(DealtSource):
    """The batches of supervised finetuning."""

    def __init__(
        self,
        examples: Sequence[Example],
        tokens_per_step: int,
        epochs: int,
        seed: int,
        limit: int | None = None,
        processes: OneProcess | None = None,
    ) -> None:
        """``limit`` ends the epochs after about so many tokens."""
        if not examples:
            raise HerdError("there is no dialogue to train on")
        self._examples = examples
        steps = fill_steps([len(example.tokens) for example in examples], tokens_per_step, epochs, seed)
        super().__init__(steps if limit is None else list(self._until(steps, limit)), processes)

    def _until(self, steps: Sequence[list[int]], limit: int) -> Iterator[list[int]]:
        read = 0
        for step in steps:
            if read >= limit:
                return
            read += sum(len(self._examples[index].tokens) for index in step)
            yield step

    def read(self) -> list[Example]:
        """The examples of all steps, each as often as it is read."""
        return [self._examples[index] for step in self._steps for index in step]

    def batch(self, items: Sequence[int], step: int) -> Batch:
        """Dialogues in one packed row."""
        return pack([self._examples[index] for index in items])
