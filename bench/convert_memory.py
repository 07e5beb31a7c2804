"""Peak memory of ``herd convert`` on a checkpoint of random weights, in every direction, beside its largest tensor.

    python bench/convert_memory.py --layers 8 --vocab 128256          # 2.0 GB of bf16, largest tensor 525 MB
    python bench/convert_memory.py --layers 1 --vocab 16384           # 0.3 GB, for a first look

Every conversion is a process of its own, of which the kernel says the peak (resident pages, mapped files included).
The scratch folder takes about four times the checkpoint while it runs.  Round trips are compared bit by bit.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERD = [sys.executable, "-c", "from herd.cli import main; main()"]
_DIM, _FFN = 2048, 8192
_SHARD = 700_000_000
_SHARDS = ("--shard-bytes", str(_SHARD))
DIRECTIONS = (
    ("hf", "meta", ("--to", "meta")),
    ("meta", "hf-of-meta", ("--to", "hf", *_SHARDS)),
    ("hf", "meta-2", ("--to", "meta", "--ranks", "2")),
    ("meta-2", "hf-of-meta-2", ("--to", "hf", *_SHARDS)),
    ("hf", "bf16.gguf", ("--to", "gguf")),
    ("bf16.gguf", "hf-of-gguf", ("--to", "hf", *_SHARDS)),
    ("hf", "q8_0.gguf", ("--to", "gguf", "--type", "q8_0")),
    ("hf", "q4_k.gguf", ("--to", "gguf", "--type", "q4_k")),
)


def make_checkpoint(out: Path, layers: int, vocab: int) -> None:
    """Writes a Hugging Face directory of bf16 noise, tensor by tensor, in shards."""
    import torch

    from herd.formats.huggingface_sink import HuggingFaceSink
    from herd.formats.tensors import TensorInfo, expected_shapes, move_tensors
    from herd.foundation.progress import Progress
    from herd.model.config import ModelConfig, RopeScaling

    class Noise:
        """A source of random weights."""

        path, reward, tokenizer, token_ids = Path("noise"), False, None, {}
        config = ModelConfig(vocab, _DIM, layers, 32, 8, _FFN, rope_scaling=RopeScaling(), max_positions=131_072)
        tensors = {
            name: TensorInfo(shape, torch.bfloat16) for name, shape in expected_shapes(config, reward=False).items()
        }

        def read(self, name: str) -> torch.Tensor:
            """The tensor of this name, drawn anew."""
            return torch.randn(self.tensors[name].shape, dtype=torch.bfloat16)

        def fingerprint(self) -> str:
            """Never the same source twice."""
            return str(os.getpid())

    total = sum(info.nbytes for info in Noise.tensors.values())
    move_tensors(Noise(), HuggingFaceSink(out, shard_bytes=_SHARD), Progress.silent())
    largest = max(info.nbytes for info in Noise.tensors.values())
    print(f"checkpoint: {total / 1e9:.2f} GB, largest tensor {largest / 1e6:.0f} MB")


def measured(command: list[str]) -> tuple[float, float]:
    """Runs a command; peak resident memory in MB, seconds."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_maxrss / 1024, time.monotonic() - began


def same_weights(first: Path, second: Path) -> bool:
    """Whether two directories hold the same safetensors files, byte for byte."""
    return all(
        subprocess.run(["cmp", "--quiet", str(file), str(second / file.name)], check=False).returncode == 0
        for file in first.glob("*.safetensors")
    )


def main() -> None:
    """Prints one row a direction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--vocab", type=int, default=128_256)
    parser.add_argument("--scratch", type=Path, help="where to work; a temporary folder without it")
    parser.add_argument("--only", default="", help="the directions with this in a name, for example meta-2 or gguf")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make_checkpoint(options.make, options.layers, options.vocab)
        return
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        place = Path(folder)
        shape = ["--layers", str(options.layers), "--vocab", str(options.vocab)]
        subprocess.run([sys.executable, __file__, "--make", str(place / "hf"), *shape], check=True)
        print(f"idle: {measured([sys.executable, '-c', 'import herd.formats.convert'])[0]:.0f} MB")
        for source, name, line in DIRECTIONS:
            if options.only not in f"{source} {name}":
                continue
            peak, seconds = measured([*HERD, "convert", str(place / source), str(place / name), *line])
            verdict = ""
            if name.startswith("hf-of"):
                verdict = ", the same bytes" if same_weights(place / "hf", place / name) else ", OTHER BYTES"
                shutil.rmtree(place / name)
            print(f"{source} to {name}: peak {peak:.0f} MB, {seconds:.1f} s{verdict}", flush=True)


if __name__ == "__main__":
    main()
