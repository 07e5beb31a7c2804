"""Invented figures in the shapes that the stages write: what ``made_run`` puts into its run directory."""

import math
import random
from collections.abc import Iterator
from typing import Any

SCRIPT = "<script>alert('a page wrote this')</script>"
NOT_MEASURED = "not measured: no sandbox (the kernel allows no namespaces)"
SHUT = "the needle is found in 70% of contexts of 1024 tokens, where 90% are asked for"
KINDS = ("lookup", "arithmetic", "two_step", "unknown", "refuse", "borderline", "talk", "injection")


def training_figures(tokens: int, loss: float, params: int, **more: Any) -> dict[str, Any]:
    return {
        "learning_rate": 1e-4,
        "grad_norm": 0.6,
        "tokens": tokens,
        "flops": 6.0 * params * tokens,
        "seconds": tokens / 9000,
        "tokens_per_second": 9000.0,
        "held_out": loss,
        "held_out/general": loss + 0.1,
        "held_out/code": loss - 0.2,
        "steps": tokens // 4096,
        "targets": tokens - 9.0,
        "skipped": 0,
        "closing_loss": loss - 0.1,
        "resumed_from": 0,
        "eager_because": None,
        "parameters": params,
        "mix": {"general": 0.54, "math": 0.27, "code": 0.19},
        "epochs": {"general": 0.7, "math": 3.2, "code": 1.1},
        "sequence_length": 256,
        **more,
    }


def metrics(tokens: int, loss: float) -> list[dict[str, Any]]:
    chance, steps = random.Random(tokens), 120
    return [
        {
            "step": n,
            "loss": None if n == 30 else loss + 5 * math.exp(-n / 14) + chance.gauss(0, 0.06),
            "learning_rate": 1e-3,
            "grad_norm": 0.5,
            "tokens": tokens * n // steps,
            "flops": 1e9 * n,
            "seconds": n / 3,
            "tokens_per_second": 9000.0,
            "skipped": 0,
        }
        for n in range(1, steps + 1)
    ]


def estimate(value: float, n: int = 120) -> dict[str, Any]:
    spread = 1.96 * math.sqrt(max(value * (1 - value), 0.004) / n)
    return {"value": value, "low": max(0.0, value - spread), "high": min(1.0, value + spread), "n": n}


def row(value: float, n: int = 120, **more: Any) -> dict[str, Any]:
    return estimate(value, n) | {"prompts": "tasks-1234abcd", "seed": 7} | more


def plain(value: float, spread: float, n: int = 160) -> dict[str, Any]:
    return {"value": value, "low": value - spread, "high": value + spread, "n": n, "prompts": "x", "seed": 7}


def isoflop_runs() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Runs of three budgets and the parabola of each; the first one's minimum lies outside of them."""
    runs, parabolas = [], []
    for number, budget in enumerate((4e11, 1.2e12, 3.6e12)):
        best, loss = math.log(4e5 * 1.8**number), 4.2 - 0.35 * number
        a, b = 0.08, -2 * 0.08 * best
        c = loss + 0.08 * best**2
        for params in (2e5, 4.6e5, 1.1e6, 2.1e6):
            tokens = budget / 6 / params
            noise = 0.01 * math.sin(params)
            runs.append(
                {
                    "budget": budget,
                    "params": params,
                    "tokens": tokens,
                    "loss": a * math.log(tokens) ** 2 + b * math.log(tokens) + c + noise,
                }
            )
        parabolas.append(
            {
                "budget": budget,
                "a": a,
                "b": b,
                "c": c,
                "tokens": math.exp(best),
                "loss": loss,
                "inside": number != 0,
            }
        )
    return runs, parabolas


def model_rows(level: float, number: int, chat: bool) -> dict[str, Any]:
    rows = {
        name: row(min(level + 0.01 * place, 1.0))
        for place, name in enumerate(
            (
                "well_formed_calls",
                "lookup",
                "arithmetic",
                "two_step",
                "unknown",
                "talk",
                "lookup_unseen",
                "arithmetic_unseen",
                "two_step_unseen",
                "borderline",
            )
        )
    }
    rows |= {
        "violation_rate": row(0.3 - 0.1 * number),
        "false_refusal_rate": row(0.05),
        "injection_success": row(0.2, 40),
        "injection_answered": row(level, 40),
        "arithmetic_without_tools": row(0.02),
        "arena_rating": plain(900.0 + 100 * number + 200 * chat, 35),
        "a_measure_of_tomorrow": plain(1.5, 0.2),
    }
    if chat:
        rows["violation_rate_guarded"] = row(0.05)
    else:
        rows["two_step"] = {
            "value": None,
            "low": None,
            "high": None,
            "n": 0,
            "prompts": "x",
            "seed": 7,
            "note": NOT_MEASURED,
        }
    for domain, bits in (("all", 1.71), ("general", 1.8), ("code", 1.4)):
        rows[f"bits_per_byte_{domain}"] = plain(bits - 0.1 * number, 0.04, 40)
    for length in (256, 512, 1024, 2048):
        rows[f"needle_{length}"] = row(0.99 - 0.05 * (length == 2048), 40)
    return rows


def items() -> Iterator[dict[str, Any]]:
    function = {"name": "search", "arguments": '{"query": "json.dumps"}'}
    for kind in KINDS:
        for success in (True, False):
            yield {
                "model": "chat-3m",
                "id": f"test-{kind}",
                "measure": kind,
                "kind": kind,
                "success": success,
                "correct": success,
                "well_formed": True,
                "grounded": True,
                "calls": 1,
                "grade": 2,
                "reason": "" if success else "the answer differs from the page's first sentence",
                "messages": [
                    {"role": "user", "content": f"What does json.dumps do? {SCRIPT}"},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
                    },
                    {"role": "tool", "tool_call_id": "call_1", "content": "json.dumps(obj, *)\nSerialize ``obj``."},
                    {"role": "assistant", "content": "Serialize ``obj`` to a JSON formatted ``str``."},
                ],
            }
    yield {"model": "guard", "measure": "guard", "kind": "prompt", "id": "g1", "correct": True, "flagged": True}
