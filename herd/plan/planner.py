"""Plans a training run of one model on a number of accelerators: what fits, how fast, and why this layout.

    plan = plan_training(Request(model="llama3.1-405b", machine="h100-80gb", gpus=16384, seq=8192, local_batch=16))

Degrees that the request leaves open are searched; the fastest layout that fits is taken, and the runner-up is named
with what it loses.  Every figure is a prediction from counts and from the machine's shares (``machines/*.yaml``).
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from herd.foundation.errors import HerdError
from herd.model.config import POCKET_SIZES, PRESETS, ModelConfig, pocket_config
from herd.plan.goodput import DAY, Faults, best_interval, effective_share
from herd.plan.layout import Layout, Precision, Recompute, Schedule, check_layout, chunks_of, micro_batch_of
from herd.plan.machine_file import GIB, Machine, load_machine
from herd.plan.memory import Memory, peak_memory
from herd.plan.speed import StepTime, step_time
from herd.plan.stack import Stack, find_stack

_POCKET_VOCABULARY = 4096
_RECOMPUTE: tuple[Recompute, ...] = ("none", "selective", "full")


@dataclass(frozen=True)
class Request:
    """What is asked for; None leaves a choice to the search (or, for ``stack`` and ``precision``, to the machine)."""

    model: str
    machine: str
    gpus: int
    seq: int = 8192
    local_batch: int | None = None
    global_batch: int | None = None
    tp: int | None = None
    cp: int | None = None
    pp: int | None = None
    dp: int | None = None
    micro_batch: int | None = None
    recompute: Recompute | None = None
    precision: Precision | None = None
    schedule: Schedule = "interleaved"
    chunks: int | None = None
    compiled: bool = True
    async_tp: bool = False
    stack: str | None = None
    tokens: float | None = None
    restart: float = 600.0
    pause: float = 30.0


@dataclass(frozen=True)
class Candidate:
    """A layout with what it would need and how long a step would take."""

    layout: Layout
    memory: Memory
    time: StepTime

    @property
    def rate(self) -> float:
        """Tokens a second of each accelerator."""
        return self.layout.tokens_per_step / self.time.total / self.layout.gpus


def find_model(name: str) -> ModelConfig:
    """A published shape in any usual spelling (``llama3.1-8b``), or a pocket size; ``HerdError`` for others."""
    if name in POCKET_SIZES:
        return pocket_config(name, _POCKET_VOCABULARY)
    wanted = name.lower().replace("-", "").replace("_", "")
    for known, shape in PRESETS.items():
        if known.replace("-", "") == wanted:
            return shape
    raise HerdError(f"there is no model {name!r}; there are {', '.join((*PRESETS, *POCKET_SIZES))}")


def plan_training(request: Request) -> dict[str, Any]:
    """The plan as JSON; ``HerdError`` where the request cannot be built or no layout fits."""
    model, machine = find_model(request.model), load_machine(request.machine)
    stack = find_stack(request.stack or machine.stack)
    _check(request, machine)
    candidates = sorted(_candidates(request, model, machine, stack), key=lambda one: -one.rate)
    fitting = [one for one in candidates if one.memory.total <= machine.memory_gib * GIB]
    if not fitting and len(candidates) > 1:
        least = min(one.memory.total for one in candidates) / GIB
        raise HerdError(
            f"{request.model} fits no layout of {request.gpus} {machine.name}: the smallest of {len(candidates)} needs "
            f"{least:.1f} GiB of {machine.memory_gib:g}"
        )
    best, others = (fitting or candidates)[0], fitting[1:]
    return _report(request, model, machine, stack, best, others, len(candidates))


def _check(request: Request, machine: Machine) -> None:
    if request.gpus < 1:
        raise HerdError(f"--gpus is {request.gpus}, it must be at least 1")
    for name in ("seq", "local_batch", "global_batch", "tp", "cp", "pp", "dp", "micro_batch", "chunks"):
        value = getattr(request, name)
        if value is not None and value < 1:
            raise HerdError(f"--{name.replace('_', '-')} is {value}, it must be at least 1")
    if request.precision == "float8" and machine.float8_tflops is None:
        raise HerdError(f"{machine.name} has no float8 arithmetic")
    if request.local_batch is not None and request.global_batch is not None:
        raise HerdError("give --local-batch (sequences of a data-parallel group) or --global-batch, not both")


def _powers(limit: int) -> list[int]:
    return [1 << exponent for exponent in range(limit.bit_length()) if 1 << exponent <= limit]


def _degrees(request: Request, model: ModelConfig, machine: Machine) -> Iterator[tuple[int, int, int, int]]:
    """Every (tp, cp, pp, dp) whose product is the number of accelerators; tp stays inside a node unless it is given."""
    for tp in [request.tp] if request.tp else _powers(min(machine.node, request.gpus, model.kv_heads)):
        for cp in [request.cp] if request.cp else _powers(max(1, request.seq // 4096)):
            for pp in [request.pp] if request.pp else _powers(min(model.layers, 64)):
                inner = tp * cp * pp
                if request.dp:
                    yield tp, cp, pp, request.dp
                elif request.gpus % inner == 0 or (request.tp and request.cp and request.pp):
                    yield tp, cp, pp, max(1, request.gpus // inner)


def _candidates(request: Request, model: ModelConfig, machine: Machine, stack: Stack) -> Iterator[Candidate]:
    """Every layout that can be built; where nothing can, the refusal of the first."""
    refused: HerdError | None = None
    found = False
    for degrees in _degrees(request, model, machine):
        for layout in _layouts(request, model, machine, stack, degrees):
            try:
                check_layout(layout, model, request.gpus)
            except HerdError as error:
                refused = refused or error
                continue
            found = True
            yield Candidate(layout, peak_memory(model, layout, stack), step_time(model, layout, machine, stack))
    if not found:
        raise refused or HerdError(f"no layout makes {request.gpus} ranks of the degrees that are given")


def _layouts(
    request: Request, model: ModelConfig, machine: Machine, stack: Stack, degrees: tuple[int, int, int, int]
) -> Iterator[Layout]:
    tp, cp, pp, dp = degrees
    local = request.local_batch or 1
    if request.global_batch:
        if request.global_batch % dp:
            return
        local = request.global_batch // dp
    searching = None in (request.tp, request.cp, request.pp)
    micro = [request.micro_batch or micro_batch_of(stack, pp, local)]
    if searching and request.micro_batch is None:
        micro = [size for size in _powers(local) if local % size == 0]
    precision: Precision = request.precision or machine.train_in
    recompute = (request.recompute,) if request.recompute else _RECOMPUTE
    for size in micro:
        for kind in recompute:
            layout = Layout(
                tp, cp, pp, dp, request.seq, local, size, kind, precision, request.schedule,
                request.chunks or chunks_of(stack, model, pp, request.schedule), request.compiled, request.async_tp,
            )  # fmt: skip
            yield layout


def _report(
    request: Request,
    model: ModelConfig,
    machine: Machine,
    stack: Stack,
    best: Candidate,
    others: list[Candidate],
    tried: int,
) -> dict[str, Any]:
    layout, memory, time = best.layout, best.memory, best.time
    flops = model.flops_per_token(layout.seq)
    achieved = best.rate * flops
    fits = memory.total <= machine.memory_gib * GIB
    report: dict[str, Any] = {
        "model": request.model,
        "parameters": model.parameters,
        "machine": machine.name,
        "stack": stack.name,
        "gpus": layout.gpus,
        "layout": {key: value for key, value in asdict(layout).items() if key != "local_batch"},
        "local_batch": layout.local_batch,
        "micro_batches": layout.micro_batches,
        "tokens_per_step": layout.tokens_per_step,
        "memory_gib": memory.total / GIB,
        "memory_parts_gib": {name: value / GIB for name, value in asdict(memory).items()},
        "memory_of_machine_gib": machine.memory_gib,
        "fits": fits,
        "step_seconds": time.total,
        "step_parts_seconds": asdict(time),
        "bubble": time.bubble / time.total,
        "exposed_communication": (time.tensor + time.context + time.fsdp) / time.total,
        "tflops_per_gpu": achieved / 1e12,
        "tokens_per_s_per_gpu": best.rate,
        "mfu": achieved / (machine.peak_tflops * 1e12),
        "flops_per_token": flops,
        "tokens_per_day": best.rate * layout.gpus * DAY,
        "goodput": _goodput(request, machine),
        "why": _why(best, others, tried, machine),
        "runner_up": _runner_up(best, others),
    }
    if request.tokens is not None:
        report["run"] = _run(request.tokens, report, machine)
    return report


def _goodput(request: Request, machine: Machine) -> dict[str, float | None]:
    """Expected share of useful time with the failure rate of the machine, at the best checkpoint interval."""
    rate = machine.interruptions_per_day * request.gpus
    faults = Faults(DAY / rate if rate else math.inf, request.restart, request.pause)
    interval = best_interval(faults)
    return {
        "interruptions_per_day": rate,
        "restart_seconds": request.restart,
        "checkpoint_pause_seconds": request.pause,
        "best_checkpoint_interval_seconds": interval if math.isfinite(interval) else None,
        "effective_share": effective_share(faults, interval) if math.isfinite(interval) else 1.0,
    }


def _run(tokens: float, report: dict[str, Any], machine: Machine) -> dict[str, Any]:
    days = tokens / report["tokens_per_day"] / report["goodput"]["effective_share"]
    hours = days * 24 * report["gpus"]
    cost = hours * machine.dollars_per_hour if machine.dollars_per_hour else None
    return {"tokens": tokens, "days": days, "gpu_hours": hours, "dollars": cost}


def _why(best: Candidate, others: list[Candidate], tried: int, machine: Machine) -> str:
    used = best.memory.total / GIB
    if used > machine.memory_gib:
        return f"as asked for, but it needs {used:.1f} GiB, more than the {machine.memory_gib:g} of {machine.name}"
    room = f"{used:.1f} of {machine.memory_gib:g} GiB"
    if not others:
        return f"the only layout of {tried} that fits ({room})" if tried > 1 else f"as asked for; it takes {room}"
    return f"the fastest of {len(others) + 1} layouts that fit, of {tried} tried; it takes {room}"


_PARTS = {
    "arithmetic": "arithmetic",
    "traffic": "memory traffic",
    "tensor": "tensor-parallel communication",
    "context": "gathering keys and values",
    "fsdp": "exposed FSDP communication",
    "bubble": "the pipeline's bubble",
    "optimizer": "the optimiser",
}


def _runner_up(best: Candidate, others: list[Candidate]) -> dict[str, Any] | None:
    """The next fastest layout, of other degrees where there are any, and where a token costs it the most more time."""
    if not others:
        return None
    second = next((one for one in others if _grid(one.layout) != _grid(best.layout)), others[0])
    extra = {
        name: getattr(second.time, name) / second.layout.tokens_per_step
        - getattr(best.time, name) / best.layout.tokens_per_step
        for name in _PARTS
    }
    return {
        "layout": second.layout.describe(),
        "slower_by": 1 - second.rate / best.rate,
        "memory_gib": second.memory.total / GIB,
        "loses_to": _PARTS[max(extra, key=lambda name: extra[name])],
    }


def _grid(layout: Layout) -> Layout:
    return replace(layout, micro_batch=1, recompute="none", local_batch=1)


def describe_training(report: dict[str, Any]) -> str:
    """The plan in words, for a terminal."""
    layout, goodput, batches = report["layout"], report["goodput"], report["micro_batches"]
    degrees = ", ".join(f"{name} {layout[name]}" for name in ("tp", "cp", "pp", "dp"))
    lines = [
        f"{report['model']} ({report['parameters']:,} parameters) on {report['gpus']:,} {report['machine']}, "
        f"as {report['stack']} runs it",
        f"layout   {degrees}; {batches} micro-batch{'' if batches == 1 else 'es'} of {layout['micro_batch']} x "
        f"{layout['seq']} tokens, recompute {layout['recompute']}, {layout['precision']}",
        f"why      {report['why']}",
    ]
    if report["runner_up"]:
        second = report["runner_up"]
        lines.append(
            f"next     {second['layout']}: {second['slower_by']:.1%} slower, it loses most to {second['loses_to']}"
        )
    lines += [
        f"memory   {report['memory_gib']:.1f} GiB: " + _shares(report["memory_parts_gib"], "{:.1f}"),
        f"step     {report['step_seconds']:.3g} s: " + _shares(report["step_parts_seconds"], "{:.3g}"),
        f"speed    {report['tokens_per_s_per_gpu']:,.0f} tokens/s and {report['tflops_per_gpu']:.4g} TFLOP/s each, "
        f"{report['mfu']:.1%} MFU, {report['tokens_per_day']:.3g} tokens a day",
    ]
    interval = goodput["best_checkpoint_interval_seconds"]
    if interval is not None:
        lines.append(
            f"faults   {goodput['interruptions_per_day']:.2g} a day; restart {goodput['restart_seconds']:g} s "
            f"and a pause of {goodput['checkpoint_pause_seconds']:g} s, a checkpoint every {interval:,.0f} s is best: "
            f"{goodput['effective_share']:.1%} of the time trains"
        )
    if "run" in report:
        run = report["run"]
        cost = f", {run['dollars']:,.0f} dollars" if run["dollars"] else ""
        lines.append(
            f"run      {run['tokens']:.3g} tokens: {run['days']:.3g} days, {run['gpu_hours']:,.0f} hours{cost}"
        )
    return "\n".join(lines)


def _shares(parts: dict[str, float], form: str) -> str:
    return ", ".join(f"{name} {form.format(value)}" for name, value in parts.items() if value)
