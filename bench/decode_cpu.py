"""Decoding speed on the CPU: Herd's engine beside ``transformers`` on the same weights, side by side in one process.

    python bench/decode_cpu.py --sizes 1m,3m --batches 1,16,64 --threads 2

On a machine with neighbours take ``--threads 1 --clock cpu``: time on the processor instead of time on the wall.

Every row is the best of alternating rounds, so that a busy neighbour hits both.  Greedy answers must be equal.
``share`` is the time that the machine's measured limits would need (matrix products at the speed of a large product,
weights and cached keys and values at the speed of memory) over the time taken.  The last row of each size is the
workload of rejection sampling: ten sampled outputs for each prompt (paper, section 4.2.2).
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from herd.formats.huggingface import save_model
from herd.foundation.seeds import numpy_from
from herd.infer.engine import Engine, EngineConfig
from herd.infer.sampling import Sampling
from herd.model.config import ModelConfig, pocket_config
from herd.model.transformer import Transformer
from herd.tokenizer.tokenizer import Tokenizer

_VOCABULARY = 4096
_SPECIAL = 256

Clock = Callable[[], float]
_CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Limits:
    """What the machine can do at most: FLOP/s of a large product, bytes/s read from memory."""

    flops: float
    bandwidth: float

    def seconds(self, config: ModelConfig, batch: int, prompt: int, new: int) -> float:
        """Least time to decode ``new`` tokens for ``batch`` rows."""
        length = prompt + new // 2
        flops = batch * (2 * config.parameters + 4 * config.layers * config.heads * config.head_dim * length)
        cached = batch * length * 2 * config.layers * config.kv_heads * config.head_dim * 4
        return new * max(flops / self.flops, (config.parameters * 4 + cached) / self.bandwidth)


def best(work: Callable[[], object], rounds: int, clock: Clock) -> float:
    """Seconds of the fastest of ``rounds``."""
    found = float("inf")
    for _ in range(rounds):
        began = clock()
        work()
        found = min(found, clock() - began)
    return found


def measure_limits(clock: Clock) -> Limits:
    """A product of 2048 squared matrices and a sum over 256 MB."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    long = torch.ones(1 << 26)
    return Limits(2 * 2048**3 / best(lambda: a @ b, 5, clock), long.numel() * 4 / best(long.sum, 5, clock))


def make_tokenizer() -> Tokenizer:
    """Bytes and pairs of bytes, as many as the vocabulary wants."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    for index in range(256, _VOCABULARY - _SPECIAL):
        ranks[bytes([index % 256, 32 + index // 256])] = index
    return Tokenizer(ranks)


def make_model(size: str) -> Transformer:
    """A random model whose greedy answers are firm and varied: every layer moves the residual stream far."""
    if size == "15m":
        config = ModelConfig(_VOCABULARY, dim=384, layers=8, heads=6, kv_heads=2, ffn_dim=1152, max_positions=2048)
    else:
        config = pocket_config(size, _VOCABULARY)
    model = Transformer(config)
    chance = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                std = 0.2 if name == "embedding.weight" else 2 * parameter.shape[1] ** -0.5
                parameter.normal_(std=std, generator=chance)
    return model


class Pair:
    """One model behind both engines."""

    def __init__(self, size: str, batch: int) -> None:
        self.size = size
        model, tokenizer = make_model(size), make_tokenizer()
        with tempfile.TemporaryDirectory() as directory:
            tokenizer.save(Path(directory) / "tokenizer")
            save_model(model, Path(directory) / "tokenizer", Path(directory) / "model")
            self.reference = AutoModelForCausalLM.from_pretrained(Path(directory) / "model", dtype=torch.float32).eval()
            self.engine = Engine.load(Path(directory) / "model", EngineConfig(batch=batch))
        self.reference.generation_config.eos_token_id = None

    def prompts(self, count: int, length: int, name: str) -> list[list[int]]:
        """Random prompts that no earlier round has seen."""
        drawn = numpy_from(1, "bench", name).integers(0, 256, (count, length))
        return drawn.tolist()

    def ours(self, prompts: list[list[int]], new: int, n: int, temperature: float) -> list[list[int]]:
        """Ids by the engine."""
        sampling = Sampling(max_tokens=new, temperature=temperature, stop_ids=())
        return [completion.ids for row in self.engine.generate(prompts, sampling, n=n) for completion in row]

    def theirs(self, prompts: list[list[int]], new: int, n: int, temperature: float) -> list[list[int]]:
        """Ids by transformers' generate."""
        ids = torch.tensor(prompts)
        options = {"do_sample": True, "temperature": temperature, "top_p": 0.9, "top_k": 0} if temperature else {}
        if not temperature:
            options = {"do_sample": False}
        with torch.inference_mode():
            out = self.reference.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new,
                num_return_sequences=n, pad_token_id=0, **options,
            )  # fmt: skip
        return out[:, ids.shape[1] :].tolist()


def compare(pair: Pair, limits: Limits, batch: int, n: int, temperature: float, options: argparse.Namespace) -> None:
    """Prints one row: tokens a second of both, prompts included, their ratio, and the share of the limit."""
    seconds = {"ours": float("inf"), "theirs": float("inf")}
    equal = True
    for number in range(options.rounds):
        prompts = pair.prompts(batch // n, options.prompt, f"{batch}-{n}-{number}")
        answers = {}
        for name, run in (("ours", pair.ours), ("theirs", pair.theirs)):
            began = _CLOCKS[options.clock]()
            answers[name] = run(prompts, options.new, n, temperature)
            seconds[name] = min(seconds[name], _CLOCKS[options.clock]() - began)
        equal = equal and (temperature > 0 or answers["ours"] == answers["theirs"])
    tokens = batch * options.new
    floor = limits.seconds(pair.engine.model.config, batch, options.prompt, options.new)
    floor += 2 * pair.engine.model.config.parameters * options.prompt * (batch // n) / limits.flops
    kind = f"{batch // n} x {n}" if n > 1 else f"{batch}"
    print(
        f"| {pair.size} | {kind} | {tokens / seconds['theirs']:,.0f} | {tokens / seconds['ours']:,.0f}"
        f" | {seconds['theirs'] / seconds['ours']:.2f} | {floor / seconds['ours']:.0%}"
        f" | {('yes' if equal else 'NO') if not temperature else 'sampled'} |",
        flush=True,
    )


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1m,3m")
    parser.add_argument("--batches", default="1,16,64")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=sorted(_CLOCKS), default="wall")
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    limits = measure_limits(_CLOCKS[options.clock])
    print(f"limits: {limits.flops / 1e9:.0f} GFLOP/s, {limits.bandwidth / 1e9:.1f} GB/s, {options.threads} threads")
    print("| size | batch | transformers tokens/s | Herd tokens/s | ratio | share of limit | same greedy ids |")
    print("|---|---|---|---|---|---|---|")
    batches = [int(batch) for batch in options.batches.split(",")]
    for size in options.sizes.split(","):
        pair = Pair(size, max(*batches, 60))
        for batch in batches:
            compare(pair, limits, batch, 1, 0.0, options)
        compare(pair, limits, 60, 10, 0.6, options)


if __name__ == "__main__":
    main()
