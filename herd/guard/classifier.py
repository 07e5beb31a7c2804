"""A trained guard at work: the probability of the first token of its verdict, held against a calibrated threshold.

As in Llama Guard 3 the score of an item is the probability that the first token of the verdict is that of ``unsafe``;
the categories are then read from a greedy continuation.  A long text is judged in overlapping windows and takes the
worst verdict of them.  Usage: ``Guard.load(Path("runs/pocket/guard")).judge([GuardItem("prompt", "How do I ...")])``.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

from pydantic import Field, ValidationError, field_validator

from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, write_json
from herd.guard.policy import SAFE, UNSAFE, GuardItem, Kind, PolicyConfig, guard_prompt, parse_verdict
from herd.infer.engine import Engine, EngineConfig
from herd.infer.sampling import Sampling
from herd.tokenizer.chat import ChatFormat

SETTINGS_NAME = "guard.json"
WINDOW_CHARACTERS = 400
WINDOW_OVERLAP = 100
_CATEGORY_TOKENS = 24
_LARGEST_EXPONENT = 700.0

Threshold = Annotated[float, Field(ge=0, le=1)]


class GuardSettings(Config):
    """What stands in ``guard.json`` beside the weights: the policy and a threshold for each kind of item."""

    policy: PolicyConfig
    thresholds: dict[Kind, Threshold]

    @field_validator("thresholds")
    @classmethod
    def _complete(cls, thresholds: dict[Kind, float]) -> dict[Kind, float]:
        if missing := [kind for kind in get_args(Kind) if kind not in thresholds]:
            raise ValueError(f"there is no threshold for the kind {missing[0]!r}")
        return thresholds

    @classmethod
    def even(cls, policy: PolicyConfig, threshold: float) -> "GuardSettings":
        """The same threshold for every kind."""
        return cls(policy=policy, thresholds=dict.fromkeys(get_args(Kind), threshold))


@dataclass(frozen=True)
class Verdict:
    """What the guard thinks of one item; ``categories`` is empty unless ``unsafe``."""

    unsafe_probability: float
    unsafe: bool
    categories: tuple[str, ...]


def windows(text: str) -> Iterator[str]:
    """Pieces of at most ``WINDOW_CHARACTERS`` that overlap, so that no sentence of the overlap's size is cut apart."""
    step = WINDOW_CHARACTERS - WINDOW_OVERLAP
    for start in range(0, max(1, len(text) - WINDOW_OVERLAP), step):
        yield text[start : start + WINDOW_CHARACTERS]


def encode_request(chat: ChatFormat, item: GuardItem, policy: PolicyConfig) -> list[int]:
    """Token ids up to the place where the verdict begins."""
    message = {"role": "user", "content": guard_prompt(item, policy)}
    return chat.encode([message], open_assistant=True).ids


class Guard:
    """Judges prompts, answers and tool results against a policy."""

    def __init__(self, engine: Engine, settings: GuardSettings) -> None:
        self.engine, self.settings = engine, settings
        tokenizer = engine.tokenizer
        self._unsafe_id = tokenizer.encode(UNSAFE)[0]
        self._safe_id = tokenizer.encode(SAFE)[0]
        self._unsafe_line = tokenizer.encode(f"{UNSAFE}\n")

    @classmethod
    def load(cls, path: Path, config: EngineConfig | None = None) -> "Guard":
        """Reads the directory that ``train_guard`` wrote; a missing or wrong ``guard.json`` is a ``HerdError``."""
        try:
            settings = GuardSettings.model_validate(read_json(path / SETTINGS_NAME))
        except ValidationError as error:
            raise HerdError(f"{path / SETTINGS_NAME}: {error.errors()[0]['msg']}") from None
        return cls(Engine.load(path, config or EngineConfig()), settings)

    def save_settings(self, path: Path) -> None:
        """Writes ``guard.json`` beside the weights."""
        write_json(path / SETTINGS_NAME, self.settings.model_dump(mode="json"))

    def probabilities(self, items: Sequence[GuardItem]) -> list[float]:
        """P(unsafe) of every item: that of its worst window."""
        found = [0.0] * len(items)
        for window in self._score(items):
            found[window.item] = max(found[window.item], window.probability)
        return found

    def judge(self, items: Sequence[GuardItem]) -> list[Verdict]:
        """A verdict for every item, in order; the batch and its order do not matter."""
        scored = self._score(items)
        worst = [0.0] * len(items)
        for window in scored:
            worst[window.item] = max(worst[window.item], window.probability)
        named: dict[int, dict[str, None]] = {}
        limits = [self.settings.thresholds[item.kind] for item in items]
        condemned = [window for window in scored if window.probability >= limits[window.item]]
        for window, codes in zip(condemned, self._categories(condemned), strict=True):
            named.setdefault(window.item, {}).update(dict.fromkeys(codes))
        return [Verdict(score, i in named, tuple(named.get(i, ()))) for i, score in enumerate(worst)]

    def _score(self, items: Sequence[GuardItem]) -> list["_Window"]:
        """Every window of every item with its probability, normalised over the two words a verdict may begin with."""
        pieces = [(number, piece) for number, item in enumerate(items) for piece in windows(item.text)]
        prompts = [self._request(items[number], piece) for number, piece in pieces]
        doubled = [prompt for prompt in prompts for _ in range(2)]
        scores = self.engine.score(doubled, [[self._unsafe_id], [self._safe_id]] * len(prompts))
        probabilities = [
            1 / (1 + math.exp(min(safe - unsafe, _LARGEST_EXPONENT)))
            for (unsafe,), (safe,) in zip(scores[::2], scores[1::2], strict=True)
        ]
        numbers = [number for number, _ in pieces]
        return [_Window(*fields) for fields in zip(numbers, prompts, probabilities, strict=True)]

    def _request(self, item: GuardItem, piece: str) -> list[int]:
        shown = GuardItem(item.kind, piece, item.prompt[:WINDOW_CHARACTERS])
        return encode_request(self.engine.chat, shown, self.settings.policy)

    def _categories(self, condemned: Sequence["_Window"]) -> list[tuple[str, ...]]:
        """Which of the policy's categories unsafe windows violate, by a greedy continuation of the verdict."""
        if not condemned:
            return []
        prompts = [window.prompt + self._unsafe_line for window in condemned]
        outputs = self.engine.generate(prompts, Sampling(max_tokens=_CATEGORY_TOKENS, temperature=0.0))
        verdicts = [parse_verdict(f"{UNSAFE}\n{output.text}") for (output,) in outputs]
        known = self.settings.policy.categories
        return [tuple(code for code in codes if code in known) for _, codes in verdicts]


@dataclass(frozen=True)
class _Window:
    """A piece of the item with that number: the request's token ids and P(unsafe)."""

    item: int
    prompt: list[int]
    probability: float
