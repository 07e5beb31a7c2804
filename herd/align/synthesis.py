"""Dialogues for finetuning, made from the corpus and by executing tools (paper, sections 4.3.5 and 4.3.6).

    synthesise(SynthesisConfig(), tasks=tasks_directory, tools=tools, out=out, progress=progress)

Every dialogue solves a training task with tools that are really called, and is kept only if the task's verifier finds
nothing wrong.  A model that has seen each page once would learn to recite; so most pages come a second time as
*swapped* ones: an invented name, another page's sentence, a third page's details. What such a page says can only be
read.  Some dialogues are joined to conversations of several turns, some ask for a fact that stands far back in a long
text or count in a page that the user pastes, and in some the first call fails and is made again; what failed is read
and not learnt.  Rejects are kept with their reason.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from herd.align.decontamination import Decontaminator
from herd.foundation.config import Config
from herd.foundation.files import write_json, write_jsonl
from herd.foundation.progress import Progress
from herd.foundation.seeds import random_from
from herd.tasks.makers import counting
from herd.tasks.reading import long_text
from herd.tasks.solve import Tools, solve
from herd.tasks.task import Message, Task, read_tasks
from herd.tasks.verifiers import NO_RESULTS

_READING = ("lookup", "two_step", "injection")
_SENTENCE_BREAK = re.compile(r"(?<=\.) (?=[A-Z])")
_BREAKS = (" ", " ", "\n", "\n\n")


class SynthesisConfig(Config):
    """How many dialogues of which make; shares are of the tasks that could be solved."""

    seed: int = 7
    tasks: int = Field(default=6000, gt=0, description="training tasks to solve, at most, in the kinds' proportions")
    swapped: float = Field(default=1.0, ge=0, le=8, description="swapped pages for every task that reads a page")
    tangled: float = Field(default=0.4, ge=0, le=1, description="of the swapped pages, whose sentence repeats a word")
    joined: float = Field(default=0.1, ge=0, le=1, description="conversations of several turns for every dialogue")
    turns: int = Field(default=3, ge=2, description="turns of a joined conversation, at most")
    stumbling: float = Field(default=0.1, ge=0, le=1, description="of the dialogues with code, first with a slip in it")
    pasted: float = Field(default=0.2, ge=0, le=1, description="of the dialogues of two steps, again, the page given")
    readings: int = Field(default=100, ge=0, description="questions about a fact in a long text")
    reading: int = Field(default=4000, ge=100, description="characters of such a text, at most")
    longest: int = Field(default=4500, gt=0, description="characters of a dialogue, at most")
    same_answer: float = Field(default=0.06, gt=0, le=1, description="the largest share of dialogues with one answer")


@dataclass(frozen=True)
class _Page:
    """A search result taken apart: its heading line, the first sentence, what follows."""

    name: str
    heading: str
    sentence: str
    rest: str


@dataclass
class _Draft:
    """A dialogue before the rules have seen it."""

    messages: list[Message]
    tools: list[str]
    task: str
    kind: str
    make: str

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def synthesise(config: SynthesisConfig, tasks: Path, tools: Tools, out: Path, progress: Progress) -> None:
    """Writes ``dialogues.jsonl``, ``rejects.jsonl`` and ``stats.json``; ``tasks`` is the directory of ``draw_tasks``.

    ``tools`` maps ``search`` and ``python`` to functions from their argument to the text that a model reads; without
    ``python`` the tasks that need it are left out and counted.
    """
    asked = list(read_tasks(tasks, "train"))
    random_from(config.seed, "synthesis", "tasks").shuffle(asked)
    drafts, unsolved = _solve_all(config, asked[: config.tasks], tools, progress)
    drafts += list(_stumbling(config, drafts, tools))
    drafts += list(_pasted(config, drafts))
    drafts += list(_joined(config, drafts))
    random_from(config.seed, "synthesis", "order").shuffle(drafts)
    kept, rejected = _judge(config, drafts, Decontaminator.read(tasks))
    write_jsonl(out / "dialogues.jsonl", (draft.to_json() for draft in kept))
    write_jsonl(out / "rejects.jsonl", ({**draft.to_json(), "reason": reason} for draft, reason in rejected))
    write_json(out / "stats.json", _stats(kept, rejected, unsolved))


def _stats(
    kept: Sequence[_Draft], rejected: Sequence[tuple[_Draft, str]], unsolved: Mapping[str, int]
) -> dict[str, Any]:
    return {
        "dialogues": len(kept),
        "by_kind": dict(Counter(draft.kind for draft in kept)),
        "by_make": dict(Counter(draft.make for draft in kept)),
        "rejected": dict(Counter(reason for _, reason in rejected)),
        "unsolved": dict(unsolved),
    }


def _solve_all(
    config: SynthesisConfig, tasks: Sequence[Task], tools: Tools, progress: Progress
) -> tuple[list[_Draft], Counter[str]]:
    """Gold dialogues of all tasks, then swapped ones of those that read a page."""
    drafts: list[_Draft] = []
    unsolved: Counter[str] = Counter()
    pages: dict[str, _Page] = {}
    readers: list[Task] = []
    for task in progress.track(tasks, "solving tasks", unit="tasks"):
        messages = solve(task, tools) if _runnable(task, tools) else None
        if messages is None:
            unsolved[task.kind] += 1
            continue
        drafts.append(_Draft(messages, task.tools, task.id, task.kind, "solved"))
        if task.kind in _READING and (page := _page_of(task, messages)):
            pages[page.name] = page
            readers.append(task)
    bank = [pages[name] for name in sorted(pages)]
    drafts += _readings(config, bank)
    chance = random_from(config.seed, "synthesis", "swap")
    wanted = round(config.swapped * len(readers)) if len(bank) > 2 else 0
    for number in progress.track(range(wanted), "swapping pages", unit="dialogues"):
        task, make = swap(readers[number % len(readers)], bank, chance, config.tangled)
        swapped = solve(task, {**tools, "search": make})
        if swapped is None:
            unsolved[f"{task.kind}, swapped"] += 1
        else:
            drafts.append(_Draft(swapped, task.tools, f"{task.id}-swapped-{number}", task.kind, "swapped"))
    return drafts, unsolved


def _runnable(task: Task, tools: Tools) -> bool:
    return "code" not in task.expected or not task.tools or "python" in tools


def _page_of(task: Task, messages: Sequence[Message]) -> _Page | None:
    """The page that a dialogue read, without the instruction that an ``injection`` task puts into it."""
    result = next((str(message["content"]) for message in messages if message["role"] == "tool"), NO_RESULTS)
    heading, _, body = result.replace(task.expected.get("payload", "\0"), "").partition("\n")
    name, sentence = (
        str(task.expected["query"]),
        str(task.expected["answer" if task.kind != "two_step" else "sentence"]),
    )
    body = " ".join(body.split())
    if name not in heading or not body.startswith(sentence):
        return None
    return _Page(name, heading, sentence, body[len(sentence) :].strip())


def swap(
    task: Task, bank: Sequence[_Page], chance: random.Random, tangled: float = 0.0
) -> tuple[Task, Callable[[str], str]]:
    """The task about an invented name whose page says what other pages say, and the search that finds that page.

    A share ``tangled`` of these sentences repeats a word of its own or of the name: who copies must know behind which
    of the two it stands.
    """
    shell, said, more = chance.choice(bank), chance.choice(bank), chance.choice(bank)
    name = _invent(bank, chance)
    if chance.random() < tangled:
        said = replace(said, sentence=_repeat_a_word(said.sentence, name.rpartition(".")[2], chance))
    heading = shell.heading.replace(shell.name, name)
    rest = f" {more.rest}" if more.rest else ""
    page = f"{heading}\n{said.sentence}{rest}"
    old, expected = str(task.expected["query"]), dict(task.expected)
    expected.update(query=name, name=name)
    if task.kind == "two_step":
        letter = _letter_of(task)
        code, answer = counting(task.shape, said.sentence, letter)
        expected.update(sentence=said.sentence, code=code, answer=str(answer))
    else:
        expected["answer"] = said.sentence
    question = task.question.replace(old, name)
    messages = [*task.messages[:-1], {**task.messages[-1], "content": question}]
    return replace(
        task, messages=messages, expected=expected
    ), lambda query: page if query.strip() == name else NO_RESULTS


def _repeat_a_word(sentence: str, leaf: str, chance: random.Random) -> str:
    """The sentence with another of its words, or the ``leaf`` of a name, in the place of one in its middle."""
    words = sentence.split(" ")
    if len(words) > 4:
        place, other = chance.sample(range(1, len(words) - 1), 2)
        words[place] = chance.choice((words[other], leaf, f"`{leaf}`"))
    return " ".join(words)


def _readings(config: SynthesisConfig, bank: Sequence[_Page]) -> Iterator[_Draft]:
    """Questions about a fact between pages, answered without a tool; of lengths whose logarithms are evenly spread.

    Short texts are cheap and teach what is asked for and how the answer begins, long ones teach to reach back.
    """
    texts = [f"{page.heading}\n{page.sentence} {page.rest}".strip() for page in bank]
    for number in range(config.readings if texts else 0):
        chance = random_from(config.seed, "synthesis", "reading", number)
        characters = round(config.reading ** chance.uniform(0.7, 1.0))
        text, question, answer = long_text(texts, characters, chance)
        asked = f"{_with_paragraphs(text, chance)}\n\n{question}"
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        yield _Draft(messages, [], f"reading-{number}", "reading", "reading")


def _with_paragraphs(text: str, chance: random.Random) -> str:
    """Breaks lines between sentences: the index has lost its pages' paragraphs, and people's texts have them."""
    return _SENTENCE_BREAK.sub(lambda _: chance.choice(_BREAKS), text)


def _stumbling(config: SynthesisConfig, drafts: Sequence[_Draft], tools: Tools) -> Iterator[_Draft]:
    """Dialogues whose code is first run with a slip in it and fails, then as it should be (paper, section 4.3.5)."""
    chance = random_from(config.seed, "synthesis", "stumble")
    for draft in drafts:
        place = next((number for number, message in enumerate(draft.messages) if _is_code(message)), None)
        if place is None or draft.make != "solved" or chance.random() >= config.stumbling:
            continue
        right = draft.messages[place]["tool_calls"][0]
        code = json.loads(right["function"]["arguments"])["code"]
        question = str(next(message["content"] for message in draft.messages if message["role"] == "user"))
        wrong = chance.choice((f"{code} {chance.choice(question.split())}", code[: -chance.randint(1, 3)]))
        result = tools["python"](wrong)
        if not result.startswith("failed"):
            continue
        function = {"name": "python", "arguments": json.dumps({"code": wrong}, ensure_ascii=False)}
        call = {"id": f"{right['id']}_failed", "type": "function", "function": function}
        failed: list[Message] = [
            {"role": "assistant", "content": None, "tool_calls": [call], "trained": False},
            {"role": "tool", "tool_call_id": call["id"], "content": result},
        ]
        messages = [*draft.messages[:place], *failed, *draft.messages[place:]]
        yield replace(draft, messages=messages, task=f"{draft.task}-stumbled", make="stumbled")


def _pasted(config: SynthesisConfig, drafts: Sequence[_Draft]) -> Iterator[_Draft]:
    """Two steps without the first: the page stands before the question, so that what is to be counted stands near."""
    chance = random_from(config.seed, "synthesis", "paste")
    for draft in drafts:
        if draft.kind != "two_step" or draft.make not in ("solved", "swapped") or chance.random() >= config.pasted:
            continue
        place = next(number for number, message in enumerate(draft.messages) if message["role"] == "user")
        question, _, page, *rest = draft.messages[place:]
        given = {**question, "content": f"{page['content']}\n\n{question['content']}"}
        messages = [*draft.messages[:place], given, *rest]
        yield replace(draft, messages=messages, task=f"{draft.task}-pasted", make="pasted")


def _is_code(message: Message) -> bool:
    return any(call["function"]["name"] == "python" for call in message.get("tool_calls") or ())


def _letter_of(task: Task) -> str:
    """The letter that a counting task asks for, as it stands in its code."""
    _, _, tail = str(task.expected["code"]).rpartition('", "')
    return tail[:1] or "e"


def _invent(bank: Sequence[_Page], chance: random.Random) -> str:
    """A dotted name of parts that occur, in an order that need not."""
    parts = [part for page in chance.choices(bank, k=2) for part in page.name.split(".")]
    return ".".join([chance.choice(bank).name.split(".")[0], *chance.sample(parts, chance.choice((1, 1, 2)))])


def _joined(config: SynthesisConfig, drafts: Sequence[_Draft]) -> Iterator[_Draft]:
    """Conversations of several turns out of dialogues with the same tools and system message."""
    chance = random_from(config.seed, "synthesis", "join")
    groups: dict[tuple[str, ...], list[_Draft]] = {}
    for draft in drafts:
        system = [str(message["content"]) for message in draft.messages if message["role"] == "system"]
        groups.setdefault((*draft.tools, "\n", *system), []).append(draft)
    pools = [pool for pool in groups.values() if len(pool) >= config.turns]
    for number in range(round(config.joined * len(drafts)) if pools else 0):
        pool = chance.choices(pools, weights=[len(pool) for pool in pools])[0]
        turns = chance.sample(pool, chance.randint(2, config.turns))
        messages = list(turns[0].messages)
        for turn in turns[1:]:
            messages += [message for message in turn.messages if message["role"] != "system"]
        yield _Draft(messages, turns[0].tools, f"joined-{number}", "joined", "joined")


def _judge(
    config: SynthesisConfig, drafts: Sequence[_Draft], leaks: Decontaminator
) -> tuple[list[_Draft], list[tuple[_Draft, str]]]:
    """Splits drafts into those to keep and those that break a rule, with the rule."""
    kept: list[_Draft] = []
    rejected: list[tuple[_Draft, str]] = []
    seen: set[str] = set()
    answers: Counter[str] = Counter()
    most = max(20, round(config.same_answer * len(drafts)))
    for draft in drafts:
        reason = quality_problem(draft.messages, config.longest) or leaks.why(draft.messages)
        key = _key(draft)
        last = str(draft.messages[-1]["content"])
        if reason is None and key in seen:
            reason = "the same dialogue again"
        if reason is None and answers[last] >= most:
            reason = "an overused answer"
        if reason is not None:
            rejected.append((draft, reason))
            continue
        seen.add(key)
        answers[last] += 1
        kept.append(draft)
    return kept, rejected


def _key(draft: _Draft) -> str:
    return "\n".join([*draft.tools, *(f"{message['role']}: {message.get('content')}" for message in draft.messages)])


def quality_problem(messages: Sequence[Message], longest: int) -> str | None:
    """The quality rule that a dialogue breaks (paper, section 4.2.3), or None."""
    said = [str(message.get("content") or "") for message in messages if message["role"] == "assistant"]
    if sum(len(str(message.get("content") or "")) for message in messages) > longest:
        return "too long"
    if messages[-1]["role"] != "assistant" or not said[-1].strip():
        return "no final answer"
    if any("<|" in text for text in said):
        return "a control token in an answer"
    if any(text.count("!") > 2 or "\ufffd" in text for text in said):
        return "too many exclamation marks or broken text"
    return None
