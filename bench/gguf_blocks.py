"""GGUF's block types: processor time and error of packing, beside ggml's own quantisers where they can be had.

    python bench/gguf_blocks.py --rows 1024

Values are normal; times are of one thread, in nanoseconds a value, ours and ggml's in turns within one run, the
median of the rounds.  ggml's code comes with llama.cpp's package (``pip install xllamacpp``); without it its columns
are empty.
"""

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from herd.formats.gguf.block_types import Q4_0, Q4_K, Q5_K, Q6_K, Q8_0, BlockType
from herd.formats.gguf.blocks import decode, encode

_WIDTH = 4096


def ggml_quantiser(kind: BlockType) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """ggml's quantiser of this type, None where llama.cpp's package is not installed."""
    try:
        import xllamacpp
    except ImportError:
        return None
    function = getattr(ctypes.CDLL(xllamacpp.xllamacpp.__file__), f"quantize_{kind.name.replace('Q', 'q')}")
    function.restype = ctypes.c_size_t

    def quantise(x: torch.Tensor) -> torch.Tensor:
        out = np.empty(kind.size(x.shape), dtype=np.uint8)
        source, target = (array.ctypes.data_as(ctypes.c_void_p) for array in (x.numpy(), out))
        function(source, target, ctypes.c_int64(x.shape[0]), ctypes.c_int64(x.shape[1]), None)
        return torch.from_numpy(out)

    return quantise


def main() -> None:
    """Prints one row a type."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.randn(options.rows, _WIDTH, generator=torch.Generator().manual_seed(1)) * 0.02

    def timed(work: Callable[[torch.Tensor], torch.Tensor], value: torch.Tensor) -> tuple[float, torch.Tensor]:
        began = time.process_time()
        result = work(value)
        return (time.process_time() - began) / x.numel() * 1e9, result

    print("type   pack   unpack   error    | ggml: pack   error")
    for kind in (Q8_0, Q6_K, Q5_K, Q4_K, Q4_0):
        packs: list[float] = []
        unpacks: list[float] = []
        theirs: list[float] = []
        other, their_error = ggml_quantiser(kind), ""
        for _ in range(options.rounds):
            seconds, data = timed(lambda value, kind=kind: encode(value, kind), x)
            packs.append(seconds)
            seconds, back = timed(lambda value, kind=kind: decode(value, kind), data)
            unpacks.append(seconds)
            if other is not None:
                seconds, data = timed(other, x)
                theirs.append(seconds)
                their_error = f"{float((decode(data, kind).view(x.shape) - x).norm() / x.norm()):.5f}"
        error = float((back.view(x.shape) - x).norm() / x.norm())
        beside = f"{statistics.median(theirs):10.1f}   {their_error}" if theirs else ""
        print(
            f"{kind.name:5}{statistics.median(packs):6.1f}{statistics.median(unpacks):9.1f}   {error:.5f}  | {beside}"
        )


if __name__ == "__main__":
    main()
