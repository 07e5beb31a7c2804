"""The stage that draws the tasks of every split from the corpus' passages.

    draw_tasks(TasksConfig(), passages, out, Progress())

writes ``train.jsonl``, ``calibration.jsonl``, ``test.jsonl`` (tasks), ``held_out.jsonl`` (names, documents and passages
to keep out of training), ``evaluation_texts.jsonl`` (prompts and reference answers, for decontamination) and
``stats.json``.  The same configuration and passages give the same bytes.
"""

import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from pydantic import Field

from herd.foundation.config import Config
from herd.foundation.files import write_json, write_jsonl
from herd.foundation.progress import Progress
from herd.foundation.seeds import random_from
from herd.tasks import requests
from herd.tasks.facts import Fact
from herd.tasks.makers import MAKERS, Draft, Material, aside
from herd.tasks.phrasings import FRAMES
from herd.tasks.split import Drawn, SplitConfig, draw_split, exclusion, split_phrasings
from herd.tasks.task import KINDS, SPLITS, Kind, Message, Phrasing, Split, Task

_TRIES_PER_TASK = 20
_SLOPPY = 0.08
_IN_COMPANY = 0.15


class Counts(Config):
    """How many tasks of each kind; where fewer different ones can be made, there are fewer."""

    lookup: int = Field(default=100, ge=0)
    arithmetic: int = Field(default=100, ge=0)
    two_step: int = Field(default=100, ge=0)
    unknown: int = Field(default=50, ge=0)
    refuse: int = Field(default=100, ge=0)
    borderline: int = Field(default=100, ge=0)
    talk: int = Field(default=30, ge=0)
    injection: int = Field(default=50, ge=0)


class TasksConfig(SplitConfig):
    """What to draw; ``system`` is a system message for every task, empty for none."""

    system: str = ""
    longest_two_step_sentence: int = Field(default=80, ge=20, le=400)
    train: Counts = Counts(
        lookup=3500, arithmetic=5000, two_step=4000, unknown=800, refuse=1500, borderline=1600, talk=300, injection=500
    )
    calibration: Counts = Counts()
    test: Counts = Counts(
        lookup=300, arithmetic=300, two_step=300, unknown=150, refuse=150, borderline=150, talk=60, injection=150
    )


def draw_tasks(config: TasksConfig, passages: Path, out: Path, progress: Progress) -> None:
    """Stage: draws the split, then the tasks; see the module's docstring for what it writes."""
    drawn = draw_split(config, passages)
    taken: set[tuple] = set()
    tasks: dict[Split, list[Task]] = {}
    # The test chooses first, so that no training question can take one of its questions away.
    for split in reversed(SPLITS):
        tasks[split] = _tasks_of(config, drawn, split, taken, progress)
        write_jsonl(out / f"{split}.jsonl", (task.to_json() for task in tasks[split]))
    held_out = [(fact, split) for split in SPLITS if split != "train" for fact in drawn.facts[split]]
    write_jsonl(out / "held_out.jsonl", (exclusion(fact, split) for fact, split in held_out))
    texts = [row for split in SPLITS if split != "train" for task in tasks[split] for row in evaluation_texts(task)]
    texts += [{"id": fact.name, "role": "held out", "text": fact.sentence} for fact, _ in held_out]
    write_jsonl(out / "evaluation_texts.jsonl", texts)
    write_json(out / "stats.json", _stats(drawn, tasks))


def evaluation_texts(task: Task) -> Iterable[dict[str, str]]:
    """The prompt of a task and its reference answers, as decontamination wants them."""
    yield {"id": task.id, "role": "prompt", "text": task.question}
    for key in ("answer", "sentence"):
        if key in task.expected:
            yield {"id": task.id, "role": "answer", "text": task.expected[key]}


def _stats(drawn: Drawn, tasks: dict[Split, list[Task]]) -> dict:
    counts = {split: dict(Counter(f"{task.kind}/{task.phrasing}" for task in tasks[split])) for split in SPLITS}
    facts = {split: len(drawn.facts[split]) for split in SPLITS}
    return {"tasks": counts, "names": facts, "dropped_passages": drawn.dropped}


def _tasks_of(config: TasksConfig, drawn: Drawn, split: Split, taken: set[tuple], progress: Progress) -> list[Task]:
    phrasings: tuple[Phrasing, ...] = get_args(Phrasing)
    materials = {phrasing: material_of(config, drawn, split, phrasing) for phrasing in phrasings}
    counts: Counts = getattr(config, split)
    tasks = []
    for kind in progress.track(KINDS, f"drawing {split} tasks", unit="kinds"):
        chance = random_from(config.seed, "tasks", split, kind)
        tasks += _tasks_of_kind(config, kind, split, getattr(counts, kind), materials, chance, taken)
    return tasks


def _tasks_of_kind(
    config: TasksConfig,
    kind: Kind,
    split: Split,
    count: int,
    materials: dict[Phrasing, Material],
    chance: random.Random,
    taken: set[tuple],
) -> list[Task]:
    tasks: list[Task] = []
    for attempt in range(count * _TRIES_PER_TASK):
        if len(tasks) == count:
            break
        # Small talk has no frames: its questions are what is held out, so every test question of it is unseen.
        unseen = split == "test" and (kind == "talk" or len(tasks) % 2 == 1 or attempt > count * _TRIES_PER_TASK // 2)
        phrasing: Phrasing = "unseen" if unseen else "seen"
        draft = MAKERS[kind](materials[phrasing], chance)
        question = _sloppy(draft.question, chance)
        key = (question.lower().rstrip("?.! "), draft.tools, draft.expected.get("payload"))
        if key not in taken:
            taken.add(key)
            if kind != "talk":
                question = _in_company(question, materials[phrasing], chance)
            tasks.append(_task(config, kind, split, phrasing, draft, question, len(tasks)))
    return tasks


def _task(
    config: TasksConfig, kind: Kind, split: Split, phrasing: Phrasing, draft: Draft, question: str, number: int
) -> Task:
    system: list[Message] = [{"role": "system", "content": config.system}] if config.system else []
    messages = [*system, {"role": "user", "content": question}]
    identity = f"{split}-{kind}-{number:05d}"
    return Task(identity, kind, draft.shape, split, phrasing, messages, list(draft.tools), draft.expected)


def _sloppy(question: str, chance: random.Random) -> str:
    """Now and then a question as people type it: without its last sign, or without its capital."""
    if question[-1] in "?.!" and len(question) > 1 and chance.random() < _SLOPPY:
        question = question[:-1].rstrip()
    lower = question[0].isupper() and question[1:2].islower() and chance.random() < _SLOPPY
    return question[0].lower() + question[1:] if lower else question


def _in_company(question: str, material: Material, chance: random.Random) -> str:
    """Now and then a question between words that change nothing about it; in training half of them mean nothing."""
    for place in ("openers", "closers"):
        if chance.random() < _IN_COMPANY:
            frame = chance.choice(material.wordings[place])
            if material.training and chance.random() < 0.5:
                said = aside(material, chance)
                frame = f"{said} {{question}}" if place == "openers" else f"{{question}} {said}"
            question = frame.format(question=question)
    return question


def material_of(config: TasksConfig, drawn: Drawn, split: Split, phrasing: Phrasing) -> Material:
    """What the tasks of a split are made of, in the wordings that training has or has not met."""
    index = 0 if phrasing == "seen" else 1
    facts = drawn.facts[split]
    return Material(
        facts=facts,
        short_facts=[fact for fact in facts if len(fact.sentence) <= config.longest_two_step_sentence] or facts,
        scary_facts=[fact for fact in facts if _is_scary(fact)],
        numbers=drawn.numbers[split],
        taken=drawn.known,
        wordings={name: split_phrasings(config, name, frames)[index] for name, frames in FRAMES.items()},
        acts={name: split_acts(config, name, acts)[split] for name, acts in requests.ACTS.items()},
        words=[word for fact in facts for word in fact.sentence.split() if word.isalpha()],
        training=split == "train",
    )


def split_acts(config: SplitConfig, name: str, acts: Iterable[str]) -> dict[Split, list[str]]:
    """Requests of one category by split: the test's are never trained on, nor are those of calibration."""
    rest, test = split_phrasings(config, f"test {name}", list(acts))
    train, calibration = split_phrasings(config, f"calibration {name}", rest)
    return {"train": train, "calibration": calibration, "test": test}


def _is_scary(fact: Fact) -> bool:
    leaf = fact.name.rpartition(".")[2].lower()
    return any(word in leaf for word in requests.SCARY_WORDS)
