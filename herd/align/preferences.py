"""Preference pairs from the models' own answers, judged by verifiers (paper, sections 4.2.1 and 4.1.2).

    collect_preferences(PreferencesConfig(), (earlier, present), tasks, synthetic, tools, out, progress)

Two different models answer the same training prompts. The strength of a preference follows from the verifier's levels;
where both answers are poor, the solved dialogue of the task takes the place of the annotator's edit:
edited > chosen > rejected. Two right answers teach nothing and are only counted.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from herd.align.comparisons import Messages, Strength
from herd.align.conversations import Answer, SamplingConfig, answer_tasks, choose_tasks
from herd.align.decontamination import Decontaminator
from herd.align.examples import read_dialogues
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import write_json, write_jsonl
from herd.foundation.progress import Progress
from herd.infer.engine import Engine
from herd.tasks.task import Task, read_tasks
from herd.tools.registry import Tool

_RIGHT = 3


class PreferencesConfig(Config):
    """How many prompts, and how many answers each of the two models gives to each."""

    seed: int = 7
    prompts: int = Field(default=128, gt=0)
    answers: int = Field(default=1, gt=0)
    sampling: SamplingConfig = SamplingConfig(temperature=1.0)


def strength_of(better: Answer, worse: Answer) -> Strength:
    """Right beats wrong significantly, right beats right but unread clearly, wrong beats malformed slightly."""
    if better.level == worse.level:
        return "marginally better"
    if better.level == _RIGHT:
        return "significantly better" if worse.level < _RIGHT - 1 else "better"
    return "better" if better.level == _RIGHT - 1 else "slightly better"


def compare(task: Task, first: Answer, second: Answer, gold: Messages | None) -> dict[str, Any] | None:
    """One comparison as a row of ``preferences.jsonl``; None where there is nothing to prefer."""
    better, worse = (first, second) if first.level >= second.level else (second, first)
    if worse.level == _RIGHT:
        return None
    edited = gold if better.level < _RIGHT else None
    if edited is None and better.level == worse.level:
        return None
    return {
        "prompt": task.messages,
        "edited": edited,
        "chosen": better.clean,
        "rejected": worse.clean,
        "tools": task.tools,
        "strength": strength_of(better, worse),
        "task": task.id,
        "kind": task.kind,
        "levels": [better.level, worse.level],
        "why": worse.verdict.reason,
    }


def collect_preferences(
    config: PreferencesConfig,
    models: Sequence[Path],
    tasks: Path,
    dialogues: Path,
    tools: Mapping[str, Tool],
    out: Path,
    progress: Progress,
) -> None:
    """Lets two models answer training tasks and writes ``preferences.jsonl`` and ``stats.json`` to ``out``.

    ``tasks`` is the directory of ``draw_tasks``, ``dialogues`` that of ``synthesise``, whose solved dialogues are the
    edits; only tasks that could be solved are asked.
    """
    if len(models) != 2:
        raise HerdError(f"preferences compare the answers of two models, {len(models)} were given")
    solved = {row["task"]: row["messages"] for row in read_dialogues([dialogues]) if row.get("make") == "solved"}
    asked = [task for task in read_tasks(tasks, "train") if task.id in solved]
    chosen = choose_tasks(asked, config.prompts, config.seed, "preferences")
    engines = [Engine.load(model) for model in models]
    given = [
        answer_tasks(engine, chosen, tools, config.sampling, config.answers, config.seed + number, progress)
        for number, engine in enumerate(engines)
    ]
    gold = {task.id: solved[task.id][len(task.messages) :] for task in chosen}
    found = list(_compare_all(chosen, given, gold, [path.name for path in models]))
    leaks = Decontaminator.read(tasks)
    rows = [row for row in found if leak_in(row, leaks) is None]
    write_jsonl(out / "preferences.jsonl", rows)
    stats = _stats(chosen, given, rows, [path.name for path in models])
    flops = sum(engine.flops for engine in engines)
    write_json(out / "stats.json", stats | {"leaks": len(found) - len(rows), "flops": flops})


def leak_in(row: Mapping[str, Any], leaks: Decontaminator) -> str | None:
    """Why a comparison must not be trained on, or None: both answers are models' own, and read what they searched."""
    return leaks.why([*row["prompt"], *row["chosen"]]) or leaks.why(row["rejected"])


def _compare_all(
    tasks: Sequence[Task], given: Sequence[Sequence[Sequence[Answer]]], gold: Mapping[str, Messages], names: list[str]
) -> Iterator[dict[str, Any]]:
    """The n-th answer of one model against the n-th of the other, for every task; equal rows once."""
    seen = set()
    for task, first_answers, second_answers in zip(tasks, *given, strict=True):
        for first, second in zip(first_answers, second_answers, strict=True):
            row = compare(task, first, second, gold.get(task.id))
            key = (task.id, str(row and (row["chosen"], row["rejected"])))
            if row is not None and key not in seen:
                seen.add(key)
                yield {**row, "models": names}


def _stats(
    tasks: Sequence[Task], given: Sequence[Sequence[Sequence[Answer]]], rows: Sequence[dict[str, Any]], names: list[str]
) -> dict[str, Any]:
    right = [sum(answer.level == _RIGHT for found in answers for answer in found) for answers in given]
    total = [sum(map(len, answers)) for answers in given]
    return {
        "prompts": len(tasks),
        "models": names,
        "right": [round(share / max(count, 1), 4) for share, count in zip(right, total, strict=True)],
        "comparisons": len(rows),
        "edited": sum(row["edited"] is not None for row in rows),
        "by_strength": dict(Counter(row["strength"] for row in rows)),
        "by_kind": dict(Counter(row["kind"] for row in rows)),
    }
