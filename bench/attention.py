"""What a training row's attention costs a token: long rows of many short documents, one long document, a dense mask.

    OMP_NUM_THREADS=1 python bench/attention.py --rows 512 2048 8192 --document 256

Forward and backward pass of ``herd.model.attention`` beside the same documents under one boolean mask over the whole
row, which is what packing costs where a library takes only masks.  The ways take turns in one process, each is
counted in processor time, and the median of the rounds is printed in microseconds a token, with its ratio to a row
that is one document of ``--document`` tokens.  A dense mask of more than ``--widest`` tokens is left out.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from herd.foundation.progress import Progress
from herd.model.attention import DocumentAttention

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def documents(length: int, document: int, spread: int) -> list[int]:
    """Lengths around ``document`` that fill ``length``; neighbours differ, so that no two share a call."""
    pair = [document - spread, document + spread]
    return [pair[number % 2] for number in range(length // document)]


def ours(lengths: list[int]) -> Attention:
    """Herd's attention over the documents of a row."""
    attend = DocumentAttention(lengths)
    return lambda q, k, v: attend(0, q, k, v)


def masked(lengths: list[int]) -> Attention:
    """One call with a mask over all pairs of the row."""
    numbers = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    seen = torch.tril(numbers[:, None] == numbers[None, :])

    def attend(q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor) -> Tensor:
        q, k, v = (x.transpose(0, 1)[None] for x in (q_NHD, k_NKD, v_NKD))
        out: Tensor = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
        return out[0].transpose(0, 1)

    return attend


def call(attend: Attention, length: int, heads: int, kv_heads: int, head_dim: int) -> Callable[[], None]:
    """A forward and backward pass on fixed random numbers."""
    draw = torch.Generator().manual_seed(length)
    shapes = [(length, count, head_dim) for count in (heads, kv_heads, kv_heads)]
    inputs = [torch.randn(shape, generator=draw, requires_grad=True) for shape in shapes]
    return lambda: torch.autograd.backward(attend(*inputs).sum(), inputs=inputs)


def main() -> None:
    """Reads the arguments, measures every row length, prints one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=int, default=[512, 2048, 8192])
    parser.add_argument("--document", type=int, default=256)
    parser.add_argument("--heads", nargs=3, type=int, default=[4, 2, 64], help="of queries, of keys, dimension")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--widest", type=int, default=8192, help="tokens of a row under a dense mask, at most")
    arguments = parser.parse_args()
    calls: dict[tuple[str, int], Callable[[], None]] = {
        ("alone", arguments.document): call(ours([arguments.document]), arguments.document, *arguments.heads)
    }
    for length in arguments.rows:
        short = documents(length, arguments.document, spread=1)
        ways = {"documents": ours(short), "one_document": ours([length])}
        if length <= arguments.widest:
            ways["dense_mask"] = masked(short)
        for name, attend in ways.items():
            calls[name, length] = call(attend, length, *arguments.heads)
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in calls}
    with Progress().task("rounds", arguments.rounds + 1) as task:
        for number in range(arguments.rounds + 1):
            for key, step in calls.items():
                began = time.process_time()
                step()
                if number:  # the first round warms up
                    seconds[key].append(time.process_time() - began)
            task.advance()
    micro = {key: 1e6 * statistics.median(values) / key[1] for key, values in seconds.items()}
    alone = micro["alone", arguments.document]
    for (name, length), value in micro.items():
        print(json.dumps({"row": length, "way": name, "us_a_token": round(value, 2), "ratio": round(value / alone, 2)}))


if __name__ == "__main__":
    main()
