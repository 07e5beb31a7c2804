"""Speed of a training step on one GPU, as a share of what its data sheet promises, for 125M, 1B and 3B parameters.

    .venv/bin/python bench/train_gpu.py --shapes 125m 1b 3b --length 8192 --document 8192
    .venv/bin/python bench/train_gpu.py --shapes 1b --precision float8              # needs the extra float8
    .venv/bin/python bench/train_gpu.py --shapes 3b --micro-tokens 4096 --recompute selective

A step is the one of ``herd.train.loop``, from batches on the host to updated weights.  Each shape prints one JSON line:

    tokens_per_second   tokens of a step / median seconds of a step
    tflops              tokens_per_second x flops_per_token / 1e12
    mfu                 tflops / peak_tflops
    flops_per_token     6 x multiplied parameters + 6 x layers x dim x document (attention counts its causal half;
                        what is recomputed counts once)
    peak_tflops         dense bf16, of the machine's file in herd/plan/machines (fp32 on a CPU), with float8 too

A shape that does not fit into memory says so and the next one is tried.  ``--device cpu --shapes tiny`` tests the
script itself.  No GPU has run it yet.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch

from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.model.config import PRESETS, ModelConfig, pocket_config
from herd.model.transformer import Transformer
from herd.plan.machine_file import Machine, load_machine
from herd.train.batch import Batch, document_batch, next_token_loss
from herd.train.compiled import CompileMode
from herd.train.loop import TrainConfig, TrainRun
from herd.train.precision import Precision
from herd.train.recompute import Recompute, RecomputedLayers

SHAPES = {
    "125m": ModelConfig(
        vocab_size=32_768, dim=768, layers=12, heads=12, kv_heads=4, ffn_dim=2944, max_positions=131_072, tied=True
    ),
    "1b": PRESETS["llama-3.2-1b"],
    "3b": PRESETS["llama-3.2-3b"],
    "tiny": pocket_config("0.5m", 4096),
}
_MACHINES = {"H200": "h200", "H100": "h100-80gb", "A100": "a100-80gb"}
_WARM_UP = 3


class _SameBatches:
    """The same micro-batches in every step, each time from the host; what the tokens are does not change the speed."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches

    def batches(self, step: int) -> list[Batch]:
        return self._batches


def machine_of(device: torch.device, name: str | None) -> Machine:
    """The machine's file: the one that is named, or that of the GPU's name."""
    if name is None and device.type == "cuda":
        called = torch.cuda.get_device_name(device)
        name = next((file for part, file in _MACHINES.items() if part in called), None)
        if name is None:
            raise HerdError(f"--machine: {called} has no file in herd/plan/machines; name a YAML file with its peak")
    return load_machine(name or "cpu")


def micro_batches(shape: ModelConfig, given: argparse.Namespace) -> list[Batch]:
    """A step of random tokens in rows of ``length``, each filled with documents of ``document`` tokens."""
    if given.length % given.document or given.micro_tokens % given.length:
        raise HerdError(
            f"--document {given.document} must divide --length {given.length}, and that --micro-tokens "
            f"{given.micro_tokens}"
        )
    draw = torch.Generator().manual_seed(0)
    documents = (given.micro_tokens // given.document, given.document + 1)
    return [
        document_batch(torch.randint(0, shape.vocab_size, documents, generator=draw).tolist())
        for _ in range(given.micro_batches)
    ]


def network(shape: ModelConfig, device: torch.device) -> Transformer:
    """A network with PyTorch's own random weights, made where it is trained."""
    torch.manual_seed(0)
    with torch.device(device):
        model = Transformer(shape)
    with torch.no_grad():
        model.embedding.weight.mul_(0.02)
    return model


def seconds_of_steps(run: TrainRun, steps: int) -> list[float]:
    """Wall seconds of the first step, which compiles, and of ``steps`` others after the warm-up."""
    seconds = []
    for number in range(1 + _WARM_UP + steps):
        began = time.perf_counter()
        with run.speed:
            step = run.take_step(number)
        if run.device.type == "cuda":
            torch.cuda.synchronize(run.device)
        seconds.append(time.perf_counter() - began)
        assert step.finite, "a step that is left out would be too fast"
    return [seconds[0], *seconds[1 + _WARM_UP :]]


def measure(name: str, device: torch.device, machine: Machine, given: argparse.Namespace) -> dict[str, object]:
    """One row of the table."""
    shape = SHAPES[name]
    source = _SameBatches(micro_batches(shape, given))
    config = TrainConfig(steps=10**6, compile=given.compile, precision=given.precision, tensorboard=False)
    model = network(shape, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as out, RecomputedLayers(model, given.recompute):
        run = TrainRun(config, model, source, next_token_loss, Path(out))
        first, *seconds = seconds_of_steps(run, given.steps)
    tokens = given.micro_tokens * given.micro_batches
    rate = tokens / statistics.median(seconds)
    flops = shape.flops_per_token(given.document)
    row: dict[str, object] = {
        "shape": name,
        "parameters": shape.parameters,
        "precision": given.precision,
        "recompute": given.recompute,
        "eager_because": run.eager_because,
        "tokens_per_step": tokens,
        "micro_tokens": given.micro_tokens,
        "document": given.document,
        "tokens_per_second": round(rate, 1),
        "flops_per_token": flops,
        "tflops": round(rate * flops / 1e12, 4),
        "peak_tflops": machine.peak_tflops,
        "mfu": round(rate * flops / 1e12 / machine.peak_tflops, 4),
        "step_seconds": round(statistics.median(seconds), 4),
        "step_seconds_range": [round(min(seconds), 4), round(max(seconds), 4)],
        "first_step_seconds": round(first, 1),
    }
    if device.type == "cuda":
        row["memory_gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    return row


def measure_all(device: torch.device, given: argparse.Namespace) -> None:
    """Prints the rows."""
    machine = machine_of(device, given.machine)
    called = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    Progress().say(f"torch {torch.__version__}, {called}, peak of {machine.name}: {machine.peak_tflops} TFLOP/s")
    for name in given.shapes:
        try:
            row = measure(name, device, machine, given)
        except torch.OutOfMemoryError:
            row = {"shape": name, "failed": f"out of memory with {given.micro_tokens} tokens at once"}
        print(json.dumps(row), flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the arguments, measures every shape, prints one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=["125m", "1b", "3b"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--machine", help="a name from herd plan or a YAML file; found by the GPU's name")
    parser.add_argument("--precision", choices=get_args(Precision), default="auto")
    parser.add_argument("--recompute", choices=get_args(Recompute), default="none")
    parser.add_argument("--compile", choices=get_args(CompileMode), default="on")
    parser.add_argument("--length", type=int, default=8192, help="tokens of a row")
    parser.add_argument("--document", type=int, help="tokens of a document; a row")
    parser.add_argument("--micro-tokens", type=int, help="tokens that go through the network at once; a row")
    parser.add_argument("--micro-batches", type=int, default=8, help="in a step")
    parser.add_argument("--steps", type=int, default=10, help="that are timed")
    given = parser.parse_args(arguments)
    given.document, given.micro_tokens = given.document or given.length, given.micro_tokens or given.length
    try:
        measure_all(torch.device(given.device), given)
    except HerdError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
