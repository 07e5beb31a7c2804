"""Measures the machine's matrix-product rate, the unit in which a plan turns FLOPs into seconds.

``matmul_peak()`` takes about half a second; on a shared machine it varies by a factor of two and more, which is why
a plan prints the rate that it assumed.
"""

import time

_SIDE = 1024
_SECONDS = 0.4


def matmul_peak() -> float:
    """The best observed fp32 matrix-product rate in FLOP/s, with PyTorch's present number of threads."""
    import torch

    a, b = torch.randn(_SIDE, _SIDE), torch.randn(_SIDE, _SIDE)
    torch.mm(a, b)
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < _SECONDS:
        started = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - started)
    return 2.0 * _SIDE**3 / best
