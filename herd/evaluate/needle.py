"""A needle in a haystack: does a model still find one sentence anywhere in a long context?

The haystack is held-out text cut to an exact number of tokens; at a given depth stands a sentence such as "The secret
number of Lisbon is 4812.".  A base model reads on to "The secret number of Lisbon is" and must continue it; a chat
model is asked for the number.  Right is the first whole number that it writes.  This is the gate of long context
(paper, section 3.4.2) and the needle row of the tables.

    results = measure(engine, texts, NeedleConfig(lengths=(512, 2048)))
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from herd.evaluate.statistics import Estimate, proportion
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.seeds import random_from
from herd.infer.engine import Engine
from herd.infer.sampling import Sampling
from herd.tokenizer.tokenizer import Tokenizer

# Other places, wordings and numbers than those of the practice (herd/tasks/reading.py), so that finding is not
# remembering.
_PLACES = (
    "Lisbon", "Oslo", "Cairo", "Lima", "Kyoto", "Quebec", "Nairobi", "Prague", "Dublin", "Havana", "Athens", "Bergen",
    "Tunis", "Naples", "Perth", "Geneva",
)  # fmt: skip
_WORDING = "The secret number of {place} is"
_ENDS = (1, 4, 7)
_QUESTION = "What is the secret number of {place}? Answer with the number."
_ANSWER_TOKENS = 24
"""Room for the number, and for the sentence that a chat model puts it in."""
_NUMBER = re.compile(r"\d+")
_LINE_SEARCH = 32


Depth = Annotated[float, Field(ge=0, le=1)]
"""Where in the haystack the needle stands: 0 at its beginning, 1 at its end."""


class NeedleConfig(Config):
    """The grid; ``lengths`` are tokens of context, the answer's included, and a cell has ``trials`` haystacks."""

    lengths: tuple[int, ...] = (256, 512, 1024, 2048)
    depths: tuple[Depth, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    trials: int = Field(default=4, gt=0)
    seed: int = 0


@dataclass(frozen=True)
class NeedlePrompt:
    """A prompt that ends where the number is to come."""

    id: str
    length: int
    depth: float
    ids: list[int]
    number: str


@dataclass(frozen=True)
class NeedleResult:
    """What a model wrote where the number ``expected`` was to come."""

    id: str
    length: int
    depth: float
    expected: str
    output: str
    correct: bool


def _draw(seed: int, *names: str | int) -> tuple[str, str]:
    """A sentence without its end, and the number that ends it."""
    rng = random_from(seed, "needle", "test", *names)
    number = rng.randrange(100, 999) * 10 + rng.choice(_ENDS)
    return _WORDING.format(place=rng.choice(_PLACES)), str(number)


def _filler(tokenizer: Tokenizer, texts: Sequence[str], count: int, seed: int, *names: str | int) -> list[int]:
    """``count`` tokens of the texts, one after another from a random one on."""
    if not texts:
        raise HerdError("the needle needs text to be hidden in, and there is none")
    start = random_from(seed, "haystack", *names).randrange(len(texts))
    ids: list[int] = []
    number = start
    while len(ids) < count:
        piece = tokenizer.encode(texts[number % len(texts)].strip() + "\n\n")
        ids += piece
        number += 1
    return ids[:count]


def _insert(tokenizer: Tokenizer, filler: Sequence[int], needle: Sequence[int], depth: float) -> list[int]:
    """The filler with the needle at ``depth``, moved back to the end of a line where one is near."""
    place = round(depth * len(filler))
    for candidate in range(place, max(0, place - _LINE_SEARCH), -1):
        if tokenizer.decode_bytes([filler[candidate - 1]]).endswith(b"\n"):
            place = candidate
            break
    return [*filler[:place], *needle, *filler[place:]]


def prompts(engine: Engine, texts: Sequence[str], config: NeedleConfig, chat: bool) -> list[NeedlePrompt]:
    """Every prompt of the grid, with exactly as many tokens as leave room for the answer in its length.

    Raises:
        HerdError: if a length is too short for needle and question.
    """
    cells = [(n, d, t) for n in config.lengths for d in config.depths for t in range(config.trials)]
    made = []
    for length, depth, trial in cells:
        sentence, number = _draw(config.seed, length, str(depth), trial)
        needle = engine.tokenizer.encode(f"{sentence} {number}.\n")
        before, after = _frame(engine, sentence, chat)
        room = length - _ANSWER_TOKENS - len(needle) - len(before) - len(after)
        if room < 1:
            raise HerdError(f"needle: a context of {length} tokens has no room for a haystack")
        filler = _filler(engine.tokenizer, texts, room, config.seed, length, str(depth), trial)
        hay = _insert(engine.tokenizer, filler, needle, depth)
        ids = [*before, *hay, *after]
        made.append(NeedlePrompt(f"needle-{length}-{depth:g}-{trial}", length, depth, ids, number))
    return made


def _frame(engine: Engine, sentence: str, chat: bool) -> tuple[list[int], list[int]]:
    """What stands before and after the haystack: a document's begin and the sentence, or a user's turn."""
    tokenizer = engine.tokenizer
    if not chat:
        return [tokenizer.bos_id], tokenizer.encode(f"\n\n{sentence}")
    place = sentence.removesuffix(" is").rpartition(" of ")[2]
    question = {"role": "user", "content": f"\n\n{_QUESTION.format(place=place)}"}
    whole = engine.chat.encode([question], open_assistant=True).ids
    cut = len(engine.chat.encode([{"role": "user", "content": ""}]).ids) - 1
    return whole[:cut], whole[cut:]


def measure(engine: Engine, texts: Sequence[str], config: NeedleConfig, chat: bool = False) -> list[NeedleResult]:
    """Runs the grid greedily; ``chat`` asks in a user's turn, else the model continues the text."""
    asked = prompts(engine, texts, config, chat)
    outputs = engine.generate([prompt.ids for prompt in asked], Sampling(max_tokens=_ANSWER_TOKENS, temperature=0.0))
    return [
        NeedleResult(p.id, p.length, p.depth, p.number, output.text, _first_number(output.text) == p.number)
        for p, (output,) in zip(asked, outputs, strict=True)
    ]


def _first_number(text: str) -> str | None:
    match = _NUMBER.search(text)
    return match.group() if match else None


def recall(results: Sequence[NeedleResult], length: int | None = None) -> Estimate:
    """Share of needles found, at one length or over the whole grid."""
    return proportion([result.correct for result in results if length in (None, result.length)])


def grid(results: Sequence[NeedleResult]) -> dict[int, dict[float, Estimate]]:
    """Share of needles found by length and depth: the heatmap of the report."""
    cells: dict[int, dict[float, list[bool]]] = {}
    for result in results:
        cells.setdefault(result.length, {}).setdefault(result.depth, []).append(result.correct)
    return {n: {depth: proportion(found) for depth, found in row.items()} for n, row in cells.items()}
