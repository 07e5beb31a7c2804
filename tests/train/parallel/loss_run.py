"""Cross-entropy over a vocabulary cut over two gloo processes, for the tests: ``python loss_run.py OUT``.

Leaves the loss, the hidden states' gradient (the sum of both processes' shares) and the matrix's, in whole tensors.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from gloo import on_ranks
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from herd.model.loss import IGNORE
from herd.train.parallel.loss import spread_cross_entropy

TOKENS, VOCABULARY, WIDTH = 1100, 40, 8


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states with large logits, an output matrix, and targets of which some are missing."""
    chance = torch.Generator().manual_seed(4)
    hidden_NE = 30 * torch.randn(TOKENS, WIDTH, generator=chance)
    head_VE = torch.randn(VOCABULARY, WIDTH, generator=chance)
    targets_N = torch.randint(VOCABULARY, (TOKENS,), generator=chance)
    targets_N[::7] = IGNORE
    return hidden_NE, head_VE, targets_N


def work(out: Path, rank: int) -> None:
    """One rank's part."""
    mesh = init_device_mesh("cpu", (2,))
    hidden_NE, head_VE, targets_N = inputs()
    hidden = distribute_tensor(hidden_NE, mesh, [Replicate()]).requires_grad_()
    head = distribute_tensor(head_VE, mesh, [Shard(0)]).requires_grad_()
    total, targets = spread_cross_entropy(hidden, head, targets_N)
    (3 * total).backward()
    assert hidden.grad is not None
    assert head.grad is not None
    seen = {"total": total.detach(), "targets": torch.tensor(targets)}
    seen |= {"hidden": hidden.grad.full_tensor(), "head": head.grad.full_tensor()}
    nothing, none = spread_cross_entropy(hidden, head, torch.full_like(targets_N, IGNORE))
    nothing.backward()
    assert (float(nothing), none) == (0.0, 0)
    totals = [torch.empty(()) for _ in range(2)]
    dist.all_gather(totals, total.detach())
    assert totals[0] == totals[1], "both processes know the whole loss"
    if rank == 0:
        save_file({name: value.contiguous() for name, value in seen.items()}, out)


if __name__ == "__main__":
    on_ranks(2, lambda rank: work(Path(sys.argv[1]), rank))
