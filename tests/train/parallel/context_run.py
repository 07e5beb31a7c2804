"""Attention of context-parallel ranks beside that of one process: ``python context_run.py OUT``.

``OUT/CASE-RANK.safetensors`` holds what each rank attended and its gradients; ``OUT/whole.safetensors`` those of one
process over the same queries, keys and values.  Two cases are wrong on purpose.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from gloo import on_ranks
from safetensors.torch import save_file
from torch import Tensor

from herd.model.attention import DocumentAttention
from herd.model.layers import Attend
from herd.train.parallel.context import ContextAttention, ContextShare

LENGTHS = [3, 14, 1, 1, 7, 6, 6, 2, 24]
"""64 tokens: documents that begin before a chunk, end behind it, fill it, or lie inside, for 4 and for 8 chunks."""
HEADS, KV_HEADS, WIDTH = 4, 2, 8


class UncutShare(ContextShare):
    """The mistake of taking what is gathered for the flat axis: rank after rank."""

    def __init__(self, tokens: int, group: dist.ProcessGroup) -> None:
        super().__init__(tokens, group)
        self.by_place_L = torch.arange(tokens)


def inputs() -> dict[str, Tensor]:
    """Queries, keys and values of all tokens, and the gradient of what is attended."""
    chance = torch.Generator().manual_seed(5)
    heads = {"q": HEADS, "k": KV_HEADS, "v": KV_HEADS, "grad": HEADS}
    return {name: torch.randn(sum(LENGTHS), count, WIDTH, generator=chance) for name, count in heads.items()}


def attended(attend: Attend, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The result and the gradients of queries, keys and values."""
    q, k, v = (given[name].clone().requires_grad_() for name in "qkv")
    out = attend(0, q, k, v)
    out.backward(given["grad"])
    assert q.grad is not None
    assert k.grad is not None
    assert v.grad is not None
    return {"out": out.detach(), "q": q.grad, "k": k.grad, "v": v.grad}


def main(out: Path) -> None:
    """All cases, one after another in the same ranks."""
    torch.set_num_threads(1)
    save_file(attended(DocumentAttention(LENGTHS), inputs()), out / "whole.safetensors")

    def work(rank: int, degree: int) -> None:
        group = dist.group.WORLD
        assert group is not None
        right, wrong = ContextShare(64, group), UncutShare(64, group)
        cases = {
            "right": ContextAttention(LENGTHS, right),
            "no mask": ContextAttention([64], right),
            "wrong order": ContextAttention(LENGTHS, wrong),
        }
        own = {name: right.cut(tensor) for name, tensor in inputs().items()}
        halves = {name: tensor.bfloat16() for name, tensor in own.items()}
        results = {name: attended(attend, own) for name, attend in cases.items()}
        results["bf16"] = attended(cases["right"], halves)
        for name, result in results.items():
            save_file(result, out / f"{name}-{degree}-{rank}.safetensors")

    for degree in (2, 4):
        on_ranks(degree, lambda rank, degree=degree: work(rank, degree))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
