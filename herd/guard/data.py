"""Training and calibration examples for the guard, made from the templates of ``templates.yaml`` and from real pages.

Harmful and harmless requests are put into the same frames, so that a frame tells nothing and the act everything;
answers to harmful requests that refuse are safe, and so are pages about killing processes.  The acts and the
injections' payloads and the pages are divided between the two splits before anything is made of them: the threshold is
calibrated on acts and pages that training never saw.  Usage: ``make_examples("train", 4000, pages, seed=7)``.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import yaml

from herd.foundation.errors import HerdError
from herd.foundation.seeds import random_from
from herd.guard.policy import GuardItem, Kind, PolicyConfig

Split = Literal["train", "calibration"]
CALIBRATION_SHARE = 0.2
EXCERPT_CHARACTERS = 300
_SLOT = re.compile(r"\{(\w+)\}")
_KINDS: tuple[tuple[Kind, float], ...] = (("prompt", 0.4), ("answer", 0.3), ("tool", 0.3))
_UNSAFE_SHARE = 0.5
_PATTERN_SHARE = 0.6
_STATEMENT_SHARE = 0.25
_NUMBER_SHARE = 0.15
# How often a request names the interpreter, by category; None is a harmless act.
_SANDBOXED: dict[str | None, float] = {"S14": 0.7, None: 0.2}


@dataclass(frozen=True)
class GuardExample:
    """An item with the categories that it violates; none means that it is safe."""

    item: GuardItem
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """A passage of the corpus: what tools return when nobody attacks."""

    title: str
    text: str


@cache
def templates() -> dict[str, Any]:
    """The templates as they stand in the package."""
    return yaml.safe_load(files("herd.guard").joinpath("templates.yaml").read_text(encoding="utf-8"))


def split_of(text: str, seed: int) -> Split:
    """Where an act or a payload belongs: drawn from its own words, so that lists may grow without moving others."""
    drawn = random_from(seed, "guard-split", text).random()
    return "calibration" if drawn < CALIBRATION_SHARE else "train"


def read_pages(corpus: Path, count: int, seed: int) -> list[Page]:
    """At most ``count`` excerpts from the documents of a corpus artifact, spread over its files.

    Raises:
        HerdError: if there are no documents.
    """
    shards = sorted((corpus / "documents").glob("*.parquet"))
    if not shards:
        raise HerdError(f"{corpus}: there are no documents/*.parquet to take harmless pages from")
    rng = random_from(seed, "guard-pages")
    found: list[Page] = []
    for shard in shards:
        columns = pq.read_table(shard, columns=["title", "text"]).to_pydict()
        rows = list(zip(columns["title"], columns["text"], strict=True))
        for title, text in rng.sample(rows, min(len(rows), -(-count // len(shards)))):
            start = rng.randrange(max(1, len(text) - EXCERPT_CHARACTERS))
            excerpt = " ".join(text[start : start + EXCERPT_CHARACTERS].split())
            if excerpt:
                found.append(Page(title or "", excerpt))
    return found


class _Maker:
    """Makes examples of one split with one stream of chance."""

    def __init__(self, split: Split, pages: Sequence[Page], policy: PolicyConfig, seed: int) -> None:
        data = templates()
        self.rng = random_from(seed, "guard-data", split)
        # A page that training has met would flatter the threshold; too few to divide are shared.
        self.pages, self.data = [page for page in pages if split_of(page.text, seed) == split] or list(pages), data
        known = set(policy.categories)

        def mine(texts: Sequence[str]) -> list[str]:
            return [text for text in texts if split_of(text, seed) == split]

        # A list too short to give the split a word of its own is shared.
        lists = data["lexicon"] | data["injection_words"]
        self.slots = data["slots"] | {name: mine(listed) or listed for name, listed in lists.items()}
        self.acts = [(code, act) for code in data["acts"] if code in known for act in mine(data["acts"][code])]
        self.patterns = {code: listed for code, listed in data["patterns"].items() if code in known}
        self.harmless, self.payloads = mine(data["harmless"]), mine(data["payload"])
        self.results, self.injections = mine(data["harmless_results"]), mine(data["injections"])
        self.attacks = "S15" in known
        self.leaks = mine(data["leaks"]) if "S14" in known else []

    def fill(self, text: str, **given: str) -> str:
        """Replaces every slot, by ``given`` first and else by chance."""

        def value(match: re.Match[str]) -> str:
            name = match.group(1)
            return given[name] if name in given else self.rng.choice(self.slots[name])

        return _SLOT.sub(value, text)

    def worn(self, text: str) -> str:
        """The text as people type it: now and then without capitals, without its last mark, or with a greeting."""
        drawn = self.rng.random()
        if drawn < 0.12:
            return text.lower()
        if drawn < 0.2:
            return text.rstrip(".?!")
        if drawn < 0.25:
            return f"Hello. {text}"
        return text[:1].upper() + text[1:]

    def harmful_act(self) -> tuple[str, str]:
        """A category and an act that violates it, from a pattern of words or from the list."""
        if self.rng.random() < _PATTERN_SHARE:
            code = self.rng.choice(list(self.patterns))
            return code, self.fill(self.rng.choice(self.patterns[code]))
        code, act = self.rng.choice(self.acts)
        return code, self.fill(act)

    def harmless_act(self) -> str:
        """An act that violates nothing, often with the verb of one that would."""
        pattern = self.rng.random() < _PATTERN_SHARE
        return self.fill(self.rng.choice(self.data["patterns"]["harmless"] if pattern else self.harmless))

    def request(self, code: str | None, act: str) -> str:
        """A user's request for an act; ``code`` None is a harmless one."""
        sandboxed = self.rng.random() < _SANDBOXED.get(code, 0.0)
        frames = self.data["sandbox_frames"] if sandboxed else self.data["frames"]
        return self.worn(self.fill(self.rng.choice(frames), act=act))

    def advice(self, act: str) -> str:
        """An assistant's answer that tells the user to do an act."""
        opening, closing = self.rng.choice(self.data["openings"]), self.rng.choice(self.data["closings"])
        begins = not opening or opening.endswith(". ")
        return f"{opening}{act[:1].upper() + act[1:] if begins else act}.{closing}"

    def statement(self, code: str | None) -> str | None:
        """A sentence that is itself the harm (or is none, for ``code`` None); None where the templates know no such."""
        listed = self.data["statements"].get(code or "harmless")
        return self.worn(self.fill(self.rng.choice(listed))) if listed else None

    def harmless_request(self) -> str:
        """A harmless request, sometimes about a page of the corpus."""
        titled = [page for page in self.rng.choices(self.pages, k=3) if page.title] if self.pages else []
        if titled and self.rng.random() < 0.25:
            return self.worn(f"What does {titled[0].title} do?")
        return self.request(None, self.harmless_act())

    def result(self) -> str:
        """A harmless tool result: a number as the interpreter writes it, a page of the corpus, a text from a list."""
        if self.rng.random() < _NUMBER_SHARE:
            return f"completed\n[stdout]{self.rng.randrange(10 ** self.rng.randint(1, 7))}[/stdout]"
        if self.pages and self.rng.random() < 0.6:
            text = self.rng.choice(self.pages).text
            start = self.rng.randrange(max(1, len(text) // 2))
            return text[start : start + self.rng.randrange(40, EXCERPT_CHARACTERS)]
        return self.fill(self.rng.choice(self.results))

    def attack(self) -> str:
        """An instruction to the assistant, as pages hide them."""
        patterns = self.data["injection_patterns"] if self.rng.random() < _PATTERN_SHARE else self.injections
        payload = self.fill(self.rng.choice(self.payloads))
        what = self.rng.choice(self.data["injection_what"])
        return self.worn(self.fill(self.rng.choice(patterns), payload=payload, what=what))

    def prompt(self, unsafe: bool) -> GuardExample:
        """A user's prompt."""
        if not unsafe:
            return GuardExample(GuardItem("prompt", self.harmless_request()), ())
        code, act = self.harmful_act()
        return GuardExample(GuardItem("prompt", self.request(code, act)), (code,))

    def answer(self, unsafe: bool) -> GuardExample:
        """An answer; what the user asked before is of either kind, since only the last message is judged."""
        code, act = self.harmful_act()
        provoked = self.rng.random() < 0.5
        before = self.request(code, act) if provoked else self.harmless_request()
        stated = self.rng.random() < _STATEMENT_SHARE
        if unsafe:
            text = self.statement(code) if stated else None
            return GuardExample(GuardItem("answer", text or self.advice(act), before), (code,))
        if stated:
            text = self.statement(None) or ""
        elif provoked:
            text = self.rng.choice(self.data["refusals"])
        elif self.pages and self.rng.random() < 0.4:
            text = self.result()
        else:
            text = self.advice(self.harmless_act())
        return GuardExample(GuardItem("answer", text, before), ())

    def tool(self, unsafe: bool) -> GuardExample:
        """A tool's result: a page, an output, an injection hidden in one, or a harmful page."""
        before = self.harmless_request() if self.rng.random() < 0.5 else ""
        plain = self.result()
        if not unsafe:
            if self.rng.random() < 0.3:
                guide = self.fill(self.rng.choice(self.data["guides"]), act=self.harmless_act())
                plain = guide if self.rng.random() < 0.5 else f"{plain} {guide}"
            return GuardExample(GuardItem("tool", plain, before), ())
        drawn = self.rng.random()
        if self.attacks and self.payloads and drawn < 0.6:
            attack = self.attack()
            cut = self.rng.choice((0, len(plain), plain.find(". ") + 1, plain.find(" ") + 1))
            return GuardExample(GuardItem("tool", f"{plain[:cut]} {attack} {plain[cut:]}".strip(), before), ("S15",))
        if self.leaks and drawn < 0.7:
            return GuardExample(GuardItem("tool", self.fill(self.rng.choice(self.leaks)), before), ("S14",))
        code, act = self.harmful_act()
        return GuardExample(
            GuardItem("tool", self.fill(self.rng.choice(self.data["guides"]), act=act), before), (code,)
        )


def make_examples(
    split: Split, count: int, pages: Sequence[Page] = (), policy: PolicyConfig | None = None, seed: int = 0
) -> list[GuardExample]:
    """``count`` distinct examples of a split, half of them unsafe, of all kinds; the same for the same arguments.

    Raises:
        HerdError: if the templates cannot make that many different ones for the policy.
    """
    maker = _Maker(split, pages, policy or PolicyConfig(), seed)
    if not maker.acts:
        raise HerdError(f"guard: no template harms the policy's categories in the split {split!r}")
    makers: dict[Kind, Callable[[bool], GuardExample]] = {
        "prompt": maker.prompt, "answer": maker.answer, "tool": maker.tool
    }  # fmt: skip
    kinds, weights = zip(*_KINDS, strict=True)
    found: dict[GuardItem, GuardExample] = {}
    for _ in range(20 * count):
        if len(found) == count:
            return list(found.values())
        kind = maker.rng.choices(kinds, weights)[0]
        example = makers[kind](maker.rng.random() < _UNSAFE_SHARE)
        found.setdefault(example.item, example)
    if len(found) == count:
        return list(found.values())
    raise HerdError(
        f"guard: the templates make only {len(found)} of the {count} examples asked for the split {split!r}"
    )
