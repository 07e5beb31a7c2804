"""The stage that measures every model on everything and writes the one file of figures.

    evaluate(EvaluateConfig(), {"base-3m": path, "chat-3m": other}, inputs, out, Progress())

writes ``results.json`` (every figure with its interval), ``items.jsonl`` (what each was computed from),
``needle.json``, ``arena.json``, ``contamination.json`` and ``stats.json``.  Each model's part is kept under ``parts/``
when it is done, so that an interrupted evaluation goes on with the next model.  Directories named ``base-*`` hold
base models.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import Field

from herd.evaluate import arena, guarded, needle, safety
from herd.evaluate.bradley_terry import ratings
from herd.evaluate.contamination import Contamination, estimate_gain, overlap
from herd.evaluate.perplexity import bits_per_byte, read_held_out, score_documents
from herd.evaluate.plain import Runner
from herd.evaluate.results import ITEMS_NAME, Results, Row, not_measured, row
from herd.evaluate.suite import (
    SuiteConfig,
    TaskResult,
    baseline_runner,
    chat_runner,
    choose_tasks,
    kind_of,
    measures,
    plain_runner,
    run_suite,
    solved_examples,
)
from herd.formats.huggingface import load_config
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import digest_file, digest_value, read_json, read_jsonl, write_json, write_jsonl
from herd.foundation.progress import Progress
from herd.guard.classifier import Guard
from herd.infer.engine import Engine
from herd.tasks.solve import BASELINES
from herd.tasks.task import Message, Task, read_tasks
from herd.tokenizer.calls import read_arguments
from herd.tools.registry import ToolSet, python_tool, search_tool
from herd.tools.sandbox import Sandbox
from herd.tools.search import SearchIndex

BASE_PREFIX = "base-"
_SAID = ("messages", "prompt", "edited", "chosen", "rejected")
GUARD, KEYWORDS = "guard", "keyword list"
_TASKS_FOR_EXAMPLES = 20_000


class EvaluateConfig(Config):
    """What is measured, and on how much of it; the largest models get the larger shares."""

    suite: SuiteConfig = SuiteConfig()
    documents_per_domain: int = Field(default=40, gt=0)
    characters: int = Field(default=2000, gt=0, description="of each held-out document")
    context: int = Field(default=512, gt=1, description="tokens of context for bits per byte")
    needle_lengths: tuple[int, ...] = Field(
        default=(), description="empty: eighth, quarter, half and whole of the context"
    )
    needle_depths: tuple[needle.Depth, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    needle_trials: int = Field(default=2, gt=0)
    needle_trials_largest: int = Field(default=8, gt=0)
    baselines: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Inputs:
    """Where the evaluation finds its material; ``training``: corpora, Parquet folders, JSONL files to find leaks in."""

    tasks: Path
    index: Path
    corpus: Path
    guard: Path | None = None
    training: tuple[Path, ...] = ()


def evaluate(config: EvaluateConfig, models: Mapping[str, Path], inputs: Inputs, out: Path, progress: Progress) -> None:
    """Stage: measures all models, then the guard, the arena and the contamination; writes the figures."""
    if not models:
        raise HerdError("evaluate: there are no models to measure")
    if taken := models.keys() & {GUARD, KEYWORDS, *BASELINES}:
        raise HerdError(f"evaluate: a model cannot be called {min(taken)}, which other figures are listed under")
    _check_training(inputs.training)
    began = time.monotonic()
    reason = Sandbox.unavailable()
    missing = {"python": f"no sandbox ({reason})"} if reason else {}
    with ExitStack() as stack:
        tools = [search_tool(stack.enter_context(closing(SearchIndex(inputs.index))))]
        if not missing:
            tools.append(python_tool(stack.enter_context(Sandbox())))
        bench = _Bench(config, inputs, ToolSet(tools), missing, out, progress)
        largest = _largest(models)
        for name, path in models.items():
            bench.part(name, partial(bench.measure_model, name, path, name in largest))
        for name in BASELINES if config.baselines else ():
            bench.part(name, partial(bench.measure_baseline, name))
        if inputs.guard is not None:
            bench.part(GUARD, bench.measure_guard)
    _write_all(config, bench, [name for name in models if name in largest], time.monotonic() - began)


def _check_training(sources: Iterable[Path]) -> None:
    """Refuses at once what no text can be read from: it would pass for training data that has seen nothing."""
    for source in sources:
        if source.is_dir() and not _shards(source):
            raise HerdError(f"{source}: holds no Parquet files to look for leaks in; name the JSONL file itself")


def _shards(folder: Path) -> list[Path]:
    """The Parquet files of a folder; of a corpus, whose passages are not trained on, those of its documents."""
    documents = folder / "documents"
    return sorted((documents if documents.is_dir() else folder).glob("*.parquet"))


def _largest(models: Mapping[str, Path]) -> set[str]:
    """The models with the most parameters, the base and the aligned one."""
    sizes = {name: load_config(path).parameters for name, path in models.items()}
    return {name for name, size in sizes.items() if size == max(sizes.values())}


@dataclass
class _Part:
    """What one model's measurement leaves: rows of figures, rows of items, the needle's grid if any, FLOPs."""

    rows: dict[str, dict[str, Row]]
    items: list[dict[str, Any]]
    needle: dict[str, Any]
    flops: float = 0.0


class _Bench:
    """The material that all measurements share, and the parts that are done."""

    def __init__(
        self,
        config: EvaluateConfig,
        inputs: Inputs,
        tools: ToolSet,
        missing: dict[str, str],
        out: Path,
        progress: Progress,
    ) -> None:
        self.config, self.inputs, self.tools, self.missing = config, inputs, tools, missing
        self.out, self.progress, self.seed = out, progress, config.seed
        self.tasks = list(read_tasks(inputs.tasks, "test"))
        self.tasks_version = f"tasks-{digest_file(inputs.tasks / 'test.jsonl')[:8]}"
        self.held_out = read_held_out(inputs.corpus, config.documents_per_domain, config.characters, config.seed)
        self.held_out_version = f"held-out-{digest_value([document.id for document in self.held_out])[:8]}"
        self.guard = Guard.load(inputs.guard) if inputs.guard is not None else None
        self.parts: dict[str, _Part] = {}
        self._examples: list[list[Message]] | None = None

    def part(self, name: str, measure: Callable[[], _Part]) -> None:
        """Measures, unless an earlier run of this evaluation has: then its part is read."""
        place = self.out / "parts" / f"{name.replace(' ', '-')}.json"
        if not place.exists():
            self.progress.say(f"evaluating {name}")
            if self.guard is not None:
                self.guard.engine.forget()  # a part's FLOPs must not tell what this process measured before it
            write_json(place, asdict(measure()))
        self.parts[name] = _Part(**read_json(place))

    @property
    def examples(self) -> list[list[Message]]:
        """Solved training tasks for base models."""
        if self._examples is None:
            training = islice(read_tasks(self.inputs.tasks, "train"), _TASKS_FOR_EXAMPLES)
            self._examples = solved_examples(list(training), self.tools, self.seed)
        return self._examples

    def measure_model(self, name: str, path: Path, largest: bool) -> _Part:
        """Everything about one model."""
        engine, guard_flops = Engine.load(path), self._guard_flops
        rows, flops = self._bits_rows(engine)
        grids = self._needles(engine, rows, largest, chat=not name.startswith(BASE_PREFIX))
        suite = self.config.suite
        if name.startswith(BASE_PREFIX):
            runner = plain_runner(engine, self.tools, self.examples, suite)
        else:
            runner = chat_runner(engine, self.tools, suite, self.progress)
        results = self._suite(runner, rows, suite.per_kind_largest if largest else suite.per_kind)
        if self.guard is not None and not name.startswith(BASE_PREFIX):
            for measure, estimate in guarded.guarded_measures(results, self.guard).items():
                rows[measure] = row(estimate, self.tasks_version, self.seed)
        items = [result.to_json() for result in results]
        return _Part({name: rows}, items, grids, flops + engine.flops + self._guard_flops - guard_flops)

    def measure_baseline(self, name: str) -> _Part:
        """A trivial baseline on the tasks."""
        rows: dict[str, Row] = {}
        results = self._suite(baseline_runner(name, self.tools), rows, self.config.suite.per_kind_largest)
        return _Part({name: rows}, [result.to_json() for result in results], {})

    def measure_guard(self) -> _Part:
        """The guard and the keyword list on the handwritten items."""
        assert self.guard is not None, "asked to measure a guard that is not there"
        items, before = safety.read_items(), self._guard_flops
        judged = {GUARD: safety.judge_with_guard(self.guard, items), KEYWORDS: safety.judge_with_keywords(items)}
        rows = {
            name: {
                f"{kind}_{measure}": row(estimate, safety.PROMPTS, self.seed)
                for kind, found in safety.by_kind(rows_of, self.seed).items()
                for measure, estimate in found.items()
            }
            for name, rows_of in judged.items()
        }
        lines = [{"judge": name, "measure": "guard"} | one.to_json() for name, many in judged.items() for one in many]
        return _Part(rows, lines, {}, self._guard_flops - before)

    @property
    def _guard_flops(self) -> float:
        return self.guard.engine.flops if self.guard is not None else 0.0

    def _suite(self, runner: Runner, rows: dict[str, Row], per_kind: int) -> list[TaskResult]:
        chosen = choose_tasks(self.tasks, per_kind, self.config.suite.seed, self.missing)
        results = run_suite(chosen, runner)
        for measure, found in measures(results, self.missing).items():
            rows[measure] = (
                not_measured(found, self.tasks_version, self.seed)
                if isinstance(found, str)
                else row(found, self.tasks_version, self.seed)
            )
        return results

    def _bits_rows(self, engine: Engine) -> tuple[dict[str, Row], float]:
        """Bits per byte of the held-out documents by domain, and the FLOPs of reading them."""
        length = min(self.config.context, engine.model.config.max_positions)
        scores = score_documents(engine.model, engine.tokenizer, self.held_out, length)
        rows = {
            f"bits_per_byte_{domain}": row(estimate, self.held_out_version, self.seed, context=length)
            for domain, estimate in bits_per_byte(scores, self.seed).items()
        }
        return rows, sum(score.flops for score in scores)

    def _needles(self, engine: Engine, rows: dict[str, Row], largest: bool, chat: bool) -> dict[str, Any]:
        """Fills rows with recall by length; returns the grids for the heatmap."""
        config, most = self.config, engine.model.config.max_positions
        settings = needle.NeedleConfig(
            lengths=config.needle_lengths or (most // 8, most // 4, most // 2, most),
            depths=config.needle_depths,
            trials=config.needle_trials_largest if largest else config.needle_trials,
            seed=config.seed,
        )
        texts = [document.text for document in self.held_out]
        grids = {}
        for form in ("needle", "needle_chat") if chat and largest else ("needle",):
            results = needle.measure(engine, texts, settings, chat=form == "needle_chat")
            for length in settings.lengths:
                rows[f"{form}_{length}"] = row(needle.recall(results, length), "needle-1", self.seed)
            grids[form] = _grid_rows(results)
        return grids


def _grid_rows(results: Sequence[needle.NeedleResult]) -> list[dict[str, Any]]:
    return [
        {"length": length, "depth": depth} | asdict(estimate)
        for length, cells in needle.grid(results).items()
        for depth, estimate in cells.items()
    ]


def _write_all(config: EvaluateConfig, bench: _Bench, largest: Sequence[str], seconds: float) -> None:
    """Joins the parts, adds what needs all of them, and writes the stage's files."""
    results = Results()
    for part in bench.parts.values():
        for model, rows in part.rows.items():
            results.add_all(model, rows.items())
    players = {name: part.items for name, part in bench.parts.items() if name != GUARD}
    games = arena.play(players)
    for model, estimate in (ratings(games, list(players), config.seed) if games else {}).items():
        results.add(model, "arena_rating", row(estimate, bench.tasks_version, config.seed))
    leaks = _contamination(bench, largest)
    for rows in results.models.values():
        for measure, figures in rows.items():
            if leak := leaks.get(kind_of(measure)):
                figures["contamination"] = leak["share"]
    write_jsonl(bench.out / ITEMS_NAME, _item_rows(bench.parts))
    write_json(bench.out / "needle.json", {name: part.needle for name, part in bench.parts.items() if part.needle})
    write_json(bench.out / "arena.json", {"games": len(games), "pairs": arena.table(games)})
    write_json(bench.out / "contamination.json", leaks)
    results.write(bench.out)
    counts = {name: len(part.items) for name, part in bench.parts.items()}
    stats = {"items": counts, "seconds": round(seconds, 1), "missing": bench.missing}
    write_json(bench.out / "stats.json", stats | {"flops": sum(part.flops for part in bench.parts.values())})


def _item_rows(parts: Mapping[str, _Part]) -> Iterator[dict[str, Any]]:
    for name, part in parts.items():
        for item in part.items:
            yield {"model": item.get("judge", name)} | item


def _contamination(bench: _Bench, largest: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By kind of task: the share of prompts (with their answers) that training texts hold, and the estimated gain."""
    if not bench.inputs.training or not largest:
        return {}
    texts = {task.id: _task_text(task) for task in bench.tasks}
    shares = dict(zip(texts, overlap(list(texts.values()), training_texts(bench.inputs.training)), strict=True))
    found = {}
    model = next((name for name in largest if not name.startswith(BASE_PREFIX)), largest[0])
    for kind in sorted({item["measure"] for item in bench.parts[model].items}):
        items = [item for item in bench.parts[model].items if item["measure"] == kind]
        estimate = estimate_gain(
            [shares[item["id"]] for item in items], [float(item["success"]) for item in items], bench.seed
        )
        found[kind] = _leak_row(estimate, [shares[item["id"]] for item in items], model)
    return found


def _leak_row(estimate: Contamination, shares: Sequence[float], model: str) -> dict[str, Any]:
    return {
        "share": estimate.share,
        "threshold": estimate.threshold,
        "gain": asdict(estimate.gain),
        "mean_overlap": sum(shares) / len(shares),
        "model": model,
    }


def _task_text(task: Task) -> str:
    return f"{task.question} {task.expected.get('answer', '')}"


def training_texts(sources: Iterable[Path]) -> Iterator[str]:
    """Texts of corpora and Parquet folders (column ``text``), and of files of dialogues or of compared answers."""
    for source in sources:
        if source.is_file():
            for line in read_jsonl(source):
                parts = (line.get(part) for part in _SAID) if isinstance(line, dict) else ()
                said = [one for part in parts if isinstance(part, list) for one in part if isinstance(one, dict)]
                yield _dialogue_text(said) if said else json.dumps(line, ensure_ascii=False)
            continue
        for shard in _shards(source):
            with pq.ParquetFile(shard) as file:
                if "text" not in file.schema_arrow.names:
                    raise HerdError(f"{shard}: has no column text to look for leaks in")
                for batch in file.iter_batches(1024, columns=["text"]):
                    yield from (text for text in batch.column("text").to_pylist() if text)


def _dialogue_text(messages: Iterable[Mapping[str, Any]]) -> str:
    """What is said in a dialogue and written in its calls, as text: JSON would glue words to its signs of line ends."""
    said = []
    for message in messages:
        calls = message.get("tool_calls") or ()
        said += [
            str(message.get("content") or ""),
            *(value for call in calls for value in _arguments(call["function"])),
        ]
    return "\n".join(said)


def _arguments(function: Mapping[str, Any]) -> list[str]:
    return [str(value) for value in read_arguments(function["name"], function["arguments"]).values()]
