"""In which numbers a step multiplies: bf16 where the machine has instructions for it, fp32 elsewhere.

Only the products are rounded; weights, gradients, optimiser, norms and losses stay in fp32 (paper, section 3.3.1).

    with in_precision("auto", device):
        loss = loss_function(model, batch)
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]


def in_precision(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context for a forward pass; the backward pass follows it and stays outside."""
    if precision == "fp32" or (precision == "auto" and not multiplies_bf16(device)):
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def multiplies_bf16(device: torch.device) -> bool:
    """Whether products of bf16 are faster than those of fp32: emulated ones would be slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
