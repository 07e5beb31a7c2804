"""Speed of a training step beside ``transformers.LlamaForCausalLM``, and as a share of the machine's own peak.

    .venv/bin/python bench/train_cpu.py --sizes 0.5m 1m 3m --rows 8 --length 512
    OMP_NUM_THREADS=1 .venv/bin/python bench/train_cpu.py --threads 1 --clock cpu   # beside busy neighbours

Both sides get the same shape, weights, rows of random tokens, precision (fp32, or bf16 products under autocast) and
fused AdamW, and take turns step by step in one process, so that a busy neighbour slows both.  Ours is the step of
``herd.train.loop`` (compiled layers where a compiler is there, eager beside it); theirs is eager with its default
attention.  The peak is the best rate of a 1,024-cubed product in that precision, measured between the same steps.
Compilation is timed apart.  FLOPs are counted as 6 for every multiplied parameter plus the causal half of attention.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from herd.formats.huggingface import save_model
from herd.foundation.progress import Progress
from herd.model.config import ModelConfig, pocket_config
from herd.model.transformer import Transformer
from herd.train.batch import Batch, document_batch, next_token_loss
from herd.train.compiled import CompileMode, compiler_available
from herd.train.loop import TrainConfig, TrainRun
from herd.train.precision import Precision, in_precision

_PEAK_SIZE = 1024
_CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


class _SameBatch:
    """The same rows in every step; the speed of a step does not depend on what its tokens are."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches

    def batches(self, step: int) -> list[Batch]:
        return self._batches


def ours(
    shape: ModelConfig, rows: torch.Tensor, precision: Precision, compile_layers: bool, out: Path
) -> Callable[[], object]:
    """A call that takes one step of Herd's loop."""
    model = Transformer(shape)
    model.init_weights(0)
    compile_mode: CompileMode = "on" if compile_layers else "off"
    config = TrainConfig(steps=10**6, compile=compile_mode, precision=precision, tensorboard=False)
    source = _SameBatch([document_batch(rows.tolist())])
    run = TrainRun(config, model, source, next_token_loss, out)

    def step() -> None:
        with run.speed:
            run.take_step(0)

    return step


def theirs(shape: ModelConfig, rows: torch.Tensor, precision: Precision, out: Path) -> Callable[[], object]:
    """A call that takes the same step with ``LlamaForCausalLM``."""
    model = Transformer(shape)
    model.init_weights(0)
    save_model(model, None, out)
    llama = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    llama.train()
    optimizer = torch.optim.AdamW(llama.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    inputs, targets = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()

    def step() -> None:
        with in_precision(precision, llama.device):
            loss = llama(inputs, labels=inputs, shift_labels=targets, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(llama.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def matrix_product(precision: Precision) -> Callable[[], object]:
    """A call that takes one large product."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(_PEAK_SIZE, _PEAK_SIZE, dtype=dtype) for _ in range(2))
    return lambda: torch.mm(left, right)


def interleave(
    calls: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of every call in every round, the calls taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = clock()
            call()
            seconds[name].append(clock() - began)
    return seconds


def measure(
    size: str,
    rows: int,
    length: int,
    rounds: int,
    vocabulary: int,
    precision: Precision,
    clock: Callable[[], float],
) -> dict[str, float | str]:
    """One row of the table: tokens a second, ratios, share of the peak."""
    shape = pocket_config(size, vocabulary)
    tokens = torch.randint(0, vocabulary, (rows, length + 1), generator=torch.Generator().manual_seed(0))
    calls: dict[str, Callable[[], object]] = {"product": matrix_product(precision)}
    with tempfile.TemporaryDirectory() as directory:
        calls["transformers"] = theirs(shape, tokens, precision, Path(directory) / "theirs")
        calls["eager"] = ours(shape, tokens, precision, False, Path(directory) / "eager")
        if compiler_available() is None:
            calls["compiled"] = ours(shape, tokens, precision, True, Path(directory) / "compiled")
        began = clock()
        calls[list(calls)[-1]]()
        compiling = clock() - began
        interleave(calls, 2, clock)
        seconds = interleave(calls, rounds, clock)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    peak = 2 * _PEAK_SIZE**3 / min(seconds["product"])
    best = min(("compiled", "eager"), key=lambda name: middle.get(name, float("inf")))
    flops = rows * length * shape.flops_per_token(length)
    ratios = [theirs / ours for theirs, ours in zip(seconds["transformers"], seconds[best], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "size": size,
        "parameters": shape.parameters,
        "best": best,
        **{f"{name}_tokens_per_second": round(rows * length / middle[name]) for name in calls if name != "product"},
        "ratio": round(middle["transformers"] / middle[best], 3),
        "ratio_quartiles": f"{quartiles[0]:.2f}-{quartiles[2]:.2f}",
        "ratio_of_fastest_steps": round(min(seconds["transformers"]) / min(seconds[best]), 3),
        "gflops": round(flops / middle[best] / 1e9, 1),
        "peak_gflops": round(peak / 1e9, 1),
        "share_of_peak": round(flops / middle[best] / peak, 3),
        "first_step_seconds": round(compiling, 1),
    }


def main() -> None:
    """Reads the arguments, measures every size, prints one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["0.5m", "1m", "3m"])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--clock", choices=list(_CLOCKS), default="wall", help="cpu: this process's processor time")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    Progress().say(
        f"torch {torch.__version__}, {arguments.threads} threads, {arguments.precision}, "
        f"{arguments.clock} clock, {arguments.rows} rows of {arguments.length}"
    )
    for size in arguments.sizes:
        shape = (arguments.rows, arguments.length, arguments.rounds, arguments.vocabulary)
        print(json.dumps(measure(size, *shape, arguments.precision, _CLOCKS[arguments.clock])))


if __name__ == "__main__":
    main()
