"""In which numbers a step multiplies: bf16 on an accelerator that has instructions for it, fp32 elsewhere.

``float8`` is bf16 with the products of the layers in float8 (``herd.train.float8``), and only where it is asked for.
Only the products are rounded; weights, gradients, optimiser, norms and losses stay in fp32 (paper, section 3.3.1).

    with in_precision("auto", device):
        loss = loss_function(model, batch)
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16", "float8"]


def in_precision(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context for a forward pass; the backward pass follows it and stays outside."""
    if precision == "fp32" or (precision == "auto" and not multiplies_bf16(device)):
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a step with products in bf16 is the faster one.

    Emulated, it never is; and on a CPU attention's backward pass loses in bf16 more than the products win.
    """
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
