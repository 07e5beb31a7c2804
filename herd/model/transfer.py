"""From host to GPU without waiting: a copy that the GPU takes up in its turn, while the host goes on.

    tokens_N = send(tokens_N, device)

A plain ``.to`` from pageable memory makes the host wait until the GPU has done all that was asked of it before; with
one such wait in every micro-batch, the GPU would stand still while the host prepares the next.
"""

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``; itself where it is there already."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)  # pinned memory is kept until the copy is done
    return tensor.to(device)
