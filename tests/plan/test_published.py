"""Predictions against runs that other people published: throughput and peak memory, one set of constants a machine.

The shares of the two H100 machines were fitted to the rows of the data folder, all rows of a machine together; those of
H200 and A100 to their two rows below, float8 on the H100 of 80 GB to Megatron's three (with a guessed share, blind,
they were 17, 12 and 13% off).  The other rows below were known when shares were nudged and when it was decided what
a stack has to say (unbalanced rings, whole stage buffers), so they are no blind test.  The goals are 10% for Table 4 of
the paper and 15% for all others.
"""

import csv
from pathlib import Path
from typing import Any

import pytest

from herd.plan.planner import Request, plan_training

PUBLISHED = Path(__file__).parents[2].parent / "shared" / "data" / "plan" / "published_runs.csv"
present = pytest.mark.skipif(not PUBLISHED.exists(), reason="the published runs are not on this machine")


def row(model: str, machine: str, degrees: tuple[int, int, int, int], seq: int, batch: int, **other: Any) -> Request:
    tp, cp, pp, dp = degrees
    return Request(
        model=model, machine=machine, gpus=tp * cp * pp * dp, tp=tp, cp=cp, pp=pp, dp=dp, seq=seq, local_batch=batch,
        **other,
    )  # fmt: skip


def float8(cp: int, model: str = "llama3.1-8b", tp: int = 1, pp: int = 1, batch: int = 1, **other: Any) -> Request:
    seq = 32_768 * cp
    return row(model, "h100-96gb", (tp, cp, pp, 8 // cp), seq, batch, recompute="full", precision="float8", **other)


def pipeline(schedule: str, cp: int = 1, seq: int = 8192, batch: int = 32) -> Request:
    settings = {"recompute": "full", "precision": "float8", "async_tp": True, "schedule": schedule}
    return row("llama3.1-405b", "h100-96gb", (8, cp, 8, 8 // cp), seq, batch, **settings)


def h200(nodes: int) -> Request:
    return row("llama3.1-8b", "h200", (1, 1, 1, 8 * nodes), 8192, 2, recompute="selective", precision="float8")


def megatron(model: str, degrees: tuple[int, int, int, int], batch: int, chunks: int) -> Request:
    settings = {"recompute": "none", "precision": "float8", "micro_batch": 1, "chunks": chunks}
    return row(model, "h100-80gb", degrees, 8192, batch, **settings)


def a100(model: str, recompute: str) -> Request:
    return row(model, "a100-80gb", (1, 1, 1, 64), 8192, 1, recompute=recompute, compiled=False)


# Request, tokens a second of each accelerator, peak GiB (None where it was not printed).
ROWS: dict[str, tuple[Request, float, float | None]] = {
    **{
        f"torchtitan 2024-12 table 2, cp {cp}": (float8(cp), rate, memory)
        for cp, rate, memory in ((1, 3890, 83.9), (2, 2540, 84.2), (4, 1071, 84.0), (8, 548, 84.5))
    },
    "torchtitan 2024-12 table 5, 1f1b": (pipeline("1f1b"), 100, 82.5),
    "torchtitan 2024-12 table 5, interleaved": (pipeline("interleaved"), 128, 72.7),
    **{
        f"torchtitan 2024-12 table 6, cp {cp}": (pipeline("1f1b", cp, 32_768 * cp, 8), rate, memory)
        for cp, rate, memory in ((1, 76, 75.3), (2, 47, 75.9), (4, 31, 77.1), (8, 16, 84.9))
    },
    "megatron-bridge 25.11, 8b": (megatron("llama3-8b", (1, 1, 1, 8), 16, 1), 14451, None),
    "megatron-bridge 25.11, 70b": (megatron("llama3-70b", (4, 1, 8, 2), 64, 5), 1602, None),
    "megatron-bridge 25.11, 405b": (megatron("llama3.1-405b", (8, 2, 8, 8), 64, 8), 292, None),
    "torchtitan on A100, 8b": (a100("llama3-8b", "selective"), 2973, None),
    "torchtitan on A100, 70b": (a100("llama3-70b", "full"), 331, None),
    "torchtitan 2025-06 on H200, 4 nodes": (h200(4), 10938, 47.96),
    "torchtitan 2025-06 on H200, 8 nodes": (h200(8), 10753, 46.97),
}


@pytest.mark.parametrize("name", ROWS)
def test_published_runs_beyond_the_folder(name: str) -> None:
    request, rate, memory = ROWS[name]
    report = plan_training(request)
    assert report["tokens_per_s_per_gpu"] == pytest.approx(rate, rel=0.15)
    if memory is not None:
        assert report["memory_gib"] == pytest.approx(memory, rel=0.15)


MACHINES = {"H100-96GB-500W": "h100-96gb", "H100-80GB-700W": "h100-80gb"}


def of_the_folder() -> list[tuple[Request, dict[str, str]]]:
    found = []
    with PUBLISHED.open() as file:
        for line in csv.DictReader(file):
            tp, cp, pp, dp = (int(line[name]) for name in ("tp", "cp", "pp", "fsdp"))
            request = row(
                line["model"],
                MACHINES[line["gpu"]],
                (tp, cp, pp, dp),
                int(line["seq_len"]),
                int(line["local_batch"]),
                recompute=line["recompute"],
                precision=line["precision"],
                compiled=line["compile"] != "no",
                async_tp=line["async_tp"] == "yes",
            )
            assert request.gpus == int(line["gpus"])
            found.append((request, line))
    return found


@present
def test_every_row_of_the_folder_is_met_in_memory_and_speed() -> None:
    for request, line in of_the_folder():
        report = plan_training(request)
        for key, column, goal in (
            ("tokens_per_s_per_gpu", "tokens_per_s_per_gpu", 0.15),
            ("memory_gib", "peak_memory_gib", 0.15),
            ("tflops_per_gpu", "tflops_per_gpu", 0.10),
        ):
            if line[column]:
                assert report[key] == pytest.approx(float(line[column]), rel=goal), (line["source"], key)


@pytest.mark.parametrize(
    ("gpus", "cp", "dp", "seq", "batch", "tflops"),
    [(8192, 1, 64, 8192, 32, 430), (16_384, 1, 128, 8192, 16, 400), (16_384, 16, 8, 131_072, 16, 380)],
)
def test_table_4_of_the_paper(gpus: int, cp: int, dp: int, seq: int, batch: int, tflops: float) -> None:
    report = plan_training(row("llama3.1-405b", "h100-80gb", (8, cp, 16, dp), seq, batch))
    assert report["gpus"] == gpus
    assert report["tflops_per_gpu"] == pytest.approx(tflops, rel=0.10)
    assert report["layout"]["recompute"] == "none"
    assert report["fits"]  # the paper trains at 8K without recomputing
    assert report["tokens_per_step"] == pytest.approx(16.8e6, rel=0.01)
