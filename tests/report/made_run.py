"""A run directory made by hand, with files in the shapes that the stages write, for the report to read.

``make_run(path)`` writes a whole one, ``make_run(path, 2)`` one that ended after two chapters.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.report.made_figures import (
    SCRIPT,
    SHUT,
    estimate,
    isoflop_runs,
    items,
    metrics,
    model_rows,
    plain,
    row,
    training_figures,
)

SIZES = {"0.5m": 460_544, "1m": 1_100_000, "3m": 3_300_000}


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


class Maker:
    """Writes the stages one by one, each with its manifest, a minute apart."""

    def __init__(self, path: Path) -> None:
        self.path, self.minute = path, 0

    def stage(self, name: str, stats: dict[str, Any], inputs: tuple[str, ...] = (), **outside: str) -> None:
        self.minute += 1
        write(self.path / name / "stats.json", stats)
        write(
            self.path / name / "manifest.json",
            {
                "stage": name,
                "fingerprint": "f" * 32,
                "digest": f"{self.minute:02d}" + "ab" * 15,
                "config": {},
                "inputs": {each: {"stage": each, "digest": "cd" * 16} for each in inputs},
                "outside": outside,
                "files": {},
                "seconds": 9.5 + 7 * self.minute % 60,
                "finished": f"2026-11-23T14:{self.minute:02d}:00+00:00",
                "peak_memory_bytes": 500_000_000 + 30_000_000 * self.minute,
                "herd_version": "0.1.0",
                "environment": {
                    "python": "3.11.7",
                    "system": "Linux-6.1",
                    "processor": "x86_64",
                    "torch": "2.13.0",
                    "numpy": "2.4.6",
                },
            },
        )

    def data(self) -> None:
        self.stage(
            "pages",
            {
                "pages": 5470,
                "characters": 48_932_413,
                "skipped": 17,
                "seconds": 61.7,
                "skipped_reasons": {"ModuleNotFoundError": 13, "ImportError": 4},
                "sources": [{"source": "stdlib", "kind": "html", "pages": 532, "characters": 22_787_294}],
            },
            python="3.11.7 pydoc",
        )
        funnel, documents, characters = [], 5470, 48_932_413
        for step, reasons, share in (
            ("pages", {}, 1.0),
            ("url", {}, 1.0),
            ("extract", {"no main text": 8}, 0.3),
            ("privacy", {}, 1.0),
            ("language", {"Latin, not English": 12}, 0.99),
            ("near_duplicates", {"a better near-duplicate stays": 170}, 0.9),
            ("quality", {"lowest 3% of its domain": 160}, 0.97),
            ("lines", {}, 0.95),
        ):
            documents, characters = documents - sum(reasons.values()), int(characters * share)
            funnel.append(
                {"step": step, "documents": documents, "characters": characters, "removed": reasons, "seconds": 1.2}
            )
        corpus = {
            "funnel": funnel,
            "private": {"EMAIL": 70},
            "quality": {"auc": 0.94},
            "mix": {
                "shares": {"general": 0.685, "code": 0.233, "math": 0.082},
                "natural": {"general": 0.92, "code": 0.07, "math": 0.01},
                "notes": ["no multilingual documents: its 8% goes to the other domains in proportion"],
            },
            "passages": 17_568,
        }
        self.stage("corpus", corpus, ("pages",))
        self.stage("tasks", {"tasks": {"train": {"lookup/seen": 600}, "test": {"lookup/unseen": 40}}}, ("corpus",))
        self.stage("search", {"passages": 17_568, "bytes": 11_939_840, "seconds": 1.4}, ("corpus",))
        last = {
            "step": "decontaminate evaluation texts",
            "documents": documents - 3,
            "characters": characters - 9000,
            "removed": {"an evaluation text": 3},
        }
        self.stage(
            "documents",
            corpus
            | {
                "funnel": [*funnel, last],
                "decontamination": {
                    "evaluation_texts": {"items": 1690, "found": 410, "documents": 160, "characters": 9000}
                },
            },
            ("corpus", "tasks"),
        )
        rejects = [
            {"rule": rule, "reason": reason, "url": url, "text": text}
            for rule, reason, url, text in (
                ("heuristics", "words below 30", "pydoc:tiny", "Short."),
                ("near_duplicates", "a better near-duplicate stays", f"pydoc:{SCRIPT}", f"{SCRIPT} & <b>more</b>" * 40),
                ("near_duplicates", "a better near-duplicate stays", "pydoc:posixpath", "Common operations on paths."),
                ("quality", "lowest 3% of its domain", "pydoc:opcode", "NOP POP_TOP ROT_TWO " * 20),
            )
        ]
        (self.path / "documents" / "rejects").mkdir()
        pq.write_table(pa.Table.from_pylist(rejects), self.path / "documents" / "rejects" / "00000.parquet")
        self.stage(
            "tokenizer",
            {
                "vocab_size": 4096,
                "measured_on": "heldout",
                "compression": {
                    "general/en": {
                        "documents": 11,
                        "characters": 57_233,
                        "bytes": 57_331,
                        "tokens": 16_038,
                        "characters_per_token": 3.57,
                        "bytes_per_token": 3.57,
                    }
                },
            },
            ("documents",),
        )
        sizes = {"documents": 425, "characters": 3_236_401, "bytes": 3_239_712, "tokens": 900_586}
        splits = {"train": {"general": sizes, "code": sizes}, "heldout": {"general": sizes}}
        self.stage("tokens", {"splits": splits, "vocab_size": 4096}, ("documents", "tokenizer"))
        write(self.path / "tokens" / "meta.json", {"splits": splits, "vocab_size": 4096})

    def scaling(self) -> None:
        runs, parabolas = isoflop_runs()
        self.stage("scaling", {"runs": runs, "flops": sum(run["budget"] for run in runs)}, ("tokens", "tokenizer"))
        forecast = {
            name: {
                "params": params,
                "tokens": 2_000_000,
                "loss": 3.3 - 0.1 * n,
                "low": 3.2 - 0.1 * n,
                "high": 3.4 - 0.1 * n,
            }
            for n, (name, params) in enumerate(SIZES.items())
        }
        write(
            self.path / "scaling" / "laws.json",
            {
                "parabolas": parabolas,
                "forecast": forecast,
                "notes": ["budget 3.6e+12: a note about it"],
                "optimum": {
                    "factor": 0.29,
                    "exponent": 0.53,
                    "factor_interval": [0.1, 0.6],
                    "exponent_interval": [0.48, 0.6],
                },
                "parametric": {"E": 1.5, "A": 400.0, "B": 900.0, "alpha": 0.34, "beta": 0.28},
                "flagship": {"budget": 4e13, "best_tokens": 4.6e6, "best_params": 1.4e6},
            },
        )

    def pretraining(self) -> None:
        for number, (name, params) in enumerate(SIZES.items()):
            loss, before = 3.32 - 0.1 * number, f"initial-{name}"
            self.stage(before, training_figures(2_000_000, loss, params), ("tokens", "tokenizer"))
            lines(self.path / before / "metrics.jsonl", metrics(2_000_000, loss))
            for length in (1024, 2048):
                here = f"long-{name}-{length}"
                bits = [plain(1.9 - 0.02 * step, 0.03, 30) for step in range(3)]
                gates = [
                    {"length": length, "short_bits_per_byte": bit, "needle": estimate(found, 30)}
                    for bit, found in zip(bits, (0.0, 0.7, 0.97), strict=True)
                ]
                inner = training_figures(150_000, loss - 0.05, params, sequence_length=length)
                refusal = SHUT if name == "0.5m" else None
                stats = {"gates": gates, "attempts": 2, "refusal": refusal, "training": inner}
                self.stage(here, stats, ("tokens", "documents", before))
                before = here
            averaged = {"held_out": loss - 0.13, "held_out/general": loss}
            figures = training_figures(300_000, loss - 0.12, params, averaged=averaged, sequence_length=2048)
            self.stage(f"base-{name}", figures, ("tokens", "tokenizer", before))
            lines(self.path / f"base-{name}" / "metrics.jsonl", metrics(300_000, loss - 0.12))
            write(self.path / f"base-{name}" / "config.json", {"hidden_size": 160, "num_hidden_layers": 5})

    def alignment(self) -> None:
        self.stage(
            "dialogues",
            {
                "dialogues": 4190,
                "by_kind": {"lookup": 1200, "two_step": 980},
                "by_make": {"solved": 2590, "swapped": 1290, "joined": 310},
                "rejected": {"eight words in a row of the evaluation": 32},
                "unsolved": {},
            },
            ("tasks", "search"),
        )
        for name, params in SIZES.items():
            inner = training_figures(400_000, 0.4, params)
            fitted = {"dialogues": 4190, "dropped": {"too long": 0}, "tokens": 400_000, "training": inner}
            self.stage(f"bootstrap-{name}", fitted, (f"base-{name}", "dialogues"))
            for round_ in (1, 2):
                mark = f"{round_}-{name}"
                self.stage(
                    f"preferences-{mark}",
                    {
                        "prompts": 150,
                        "models": ["bootstrap-3m", "bootstrap-1m"],
                        "right": [0.5 + 0.1 * round_, 0.4],
                        "comparisons": 290,
                        "edited": 290,
                        "by_strength": {"significantly better": 214, "slightly better": 76},
                    },
                    (f"bootstrap-{name}",),
                )
                self.stage(
                    f"reward-{mark}",
                    {
                        "rankings": 270,
                        "held_out_pairs": 30,
                        "held_out_accuracy": 0.83,
                        "dropped": {},
                        "training": inner,
                    },
                    (f"base-{name}", f"preferences-{mark}"),
                )
                self.stage(
                    f"samples-{mark}",
                    {
                        "kept": 98,
                        "prompts": 115,
                        "answers": 1150,
                        "right_mean": 0.61,
                        "right_best": 0.8,
                        "right_any": 0.85,
                        "pairs": 900,
                        "pair_accuracy": None if round_ == 1 else 0.9,
                        "by_kind": {},
                    },
                    (f"reward-{mark}",),
                )
                self.stage(f"sft-{mark}", fitted, (f"base-{name}", "dialogues", f"samples-{mark}"))
                self.stage(
                    f"dpo-{mark}",
                    {
                        "pairs": 300,
                        "dropped": {},
                        "accuracy": 0.87,
                        "mean_gain_better": 0.4,
                        "mean_gain_worse": -5.05,
                        "training": inner,
                    },
                    (f"sft-{mark}", f"preferences-{mark}"),
                )
                chat = f"chat-{name}" if round_ == 2 else f"chat-1-{name}"
                self.stage(
                    chat,
                    {"models": [f"sft-{mark}", f"dpo-{mark}"], "weights": [1.0, 1.0]},
                    (f"sft-{mark}", f"dpo-{mark}"),
                )
        self.stage(
            "guard",
            {
                "training": training_figures(900_000, 0.1, SIZES["0.5m"]),
                "examples": 4000,
                "calibration": {
                    kind: {"threshold": 0.62, "n": 200, "f1": 0.895, "false_positive_rate": 0.08}
                    for kind in ("prompt", "answer", "tool")
                },
            },
            ("base-0.5m", "documents"),
        )

    def evaluation(self) -> None:
        models: dict[str, Any] = {}
        for number, name in enumerate(SIZES):
            models[f"base-{name}"] = model_rows(0.03 + 0.02 * number, number, chat=False)
            models[f"chat-{name}"] = model_rows(0.55 + 0.18 * number, number, chat=True)
        for number, name in enumerate(("first sentence of the first hit", "always refuse", "always call")):
            models[name] = {kind: row(0.3 * number, 120) for kind in ("lookup", "arithmetic", "two_step", "talk")}
            models[name]["arena_rating"] = plain(700.0 + 30 * number, 40)
        for judge, level in (("guard", 0.9), ("keyword list", 0.6)):
            models[judge] = {
                f"{kind}_{measure}": row(level if measure != "false_positive_rate" else 1 - level, 90)
                for kind in ("all", "prompt", "answer", "tool")
                for measure in ("precision", "recall", "f1", "false_positive_rate")
            }
        models["guard"]["all_category"] = row(0.77, 80)
        self.stage(
            "evaluation",
            {"items": {}, "seconds": 300.0, "missing": {}},
            (*(f"chat-{name}" for name in SIZES), "tasks", "search", "guard"),
        )
        write(self.path / "evaluation" / "results.json", {"models": models})
        grid = [
            {"length": length, "depth": depth} | estimate(0.99 if length < 2048 else 0.9 - 0.3 * depth, 8)
            for length in (256, 512, 1024, 2048)
            for depth in (0.0, 0.25, 0.5, 0.75, 1.0)
        ]
        write(
            self.path / "evaluation" / "needle.json",
            {
                "chat-3m": {"needle": grid, "needle_chat": grid},
                "base-3m": {"needle": grid},
                "chat-1m": {"needle": grid},
            },
        )
        write(
            self.path / "evaluation" / "arena.json",
            {"games": 900, "pairs": [{"first": "chat-3m", "second": "base-3m", "wins": 88, "ties": 10, "losses": 2}]},
        )
        write(
            self.path / "evaluation" / "contamination.json",
            {
                "lookup": {
                    "share": 0.02,
                    "threshold": 1.0,
                    "gain": plain(0.01, 0.02),
                    "mean_overlap": 0.11,
                    "model": "chat-3m",
                }
            },
        )
        lines(self.path / "evaluation" / "items.jsonl", list(items()))


CHAPTERS: tuple[Callable[[Maker], None], ...] = (
    Maker.data,
    Maker.scaling,
    Maker.pretraining,
    Maker.alignment,
    Maker.evaluation,
)


def make_run(path: Path, chapters: int = len(CHAPTERS)) -> Path:
    """Writes the first ``chapters`` chapters of a run; a whole one is published too."""
    maker = Maker(path)
    for chapter in CHAPTERS[:chapters]:
        chapter(maker)
    write(
        path / "plan.json",
        {
            "peak_flops": 1.5e11,
            "stages": {
                "pages": {"flops": 0.0, "seconds": 45.0, "memory_bytes": 9e8},
                "initial-3m": {"flops": 4.4e13, "seconds": 290.0, "memory_bytes": 7e8},
                "evaluation": {"flops": 1e12, "seconds": 90.0, "memory_bytes": 5e8},
            },
            "total": {"flops": 4.5e13, "seconds": 425.0, "memory_bytes": 9e8},
        },
    )
    if chapters == len(CHAPTERS):
        write(path / "results.json", json.loads((path / "evaluation" / "results.json").read_text()))
        (path / "chat").symlink_to("chat-3m")
    return path
