"""Compiled layers: the two halves of every layer through ``torch.compile``, what lies between them left as it is.

Attention takes documents of any lengths, so it stays outside the compiled regions; the number of tokens is a variable
of the compiled code, and all layers share the same two functions.  So no batch causes a new compilation, and a resumed
run computes with the very code of the first one, whatever batch it begins with.  On a CPU the compiler writes C++, on a
GPU Triton, so without these, or in a run too short to repay the wait, training is eager.
"""

import importlib.util
import os
import shutil
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import torch
from torch import nn

from herd.model.layers import Layer

CompileMode = Literal["auto", "on", "off"]

# Compiling takes 10 to 40 s and saves about a tenth of a CPU's step; at about 1e11 FLOP/s the wait is repaid within a
# run of this size.  A GPU is a few thousand times as fast (not measured: no GPU was at hand).
_REPAID_FLOPS = {"cpu": 3e13, "cuda": 1e16}
_COMPILERS = {"cpu": ("C++", "CXX", ("g++", "clang++", "c++")), "cuda": ("C", "CC", ("gcc", "clang", "cc"))}
# Networks of several shapes may be trained in one process; beyond its limit the compiler would fall back in silence.
_COMPILED_SHAPES = 64


@cache
def compiler_available(device: str = "cpu") -> str | None:
    """None where layers on a ``device`` ("cpu", "cuda") can be compiled, else the reason not, as a sentence's end."""
    if device not in _COMPILERS:
        return f"layers on {device} are not compiled"
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    language, variable, known = _COMPILERS[device]  # Triton compiles a launcher in C for each kernel
    names = [os.environ[variable]] if os.environ.get(variable) else known
    if any(shutil.which(name) for name in names):
        return None
    return f"there is no {language} compiler ({', '.join(names)}) on this machine"


def decide_compile(mode: CompileMode, flops: float, device: str = "cpu") -> str | None:
    """None to compile a run of ``flops`` on ``device``, else the reason not to; always the same answer."""
    if mode == "off":
        return "the configuration says so"
    if mode == "auto" and flops < _REPAID_FLOPS.get(device, 0.0):
        return f"a run of {flops:.1e} FLOPs is too short to repay it"
    return compiler_available(device)


def compiled(function: Callable[..., Any], never_eager: bool = False) -> Callable[..., Any]:
    """``function`` compiled once for all sizes of its tensors, and anew for each shape of network.

    ``never_eager``: an error where the compiler would give up and run it as it is.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _COMPILED_SHAPES)
    return torch.compile(function, dynamic=True, fullgraph=never_eager)


class CompiledLayers:
    """Puts compiled halves into the layers of ``model`` inside a ``with`` block; outside it the model is eager again.

    Evaluation stays outside: without gradients and at other lengths it would only cause more compilations.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = [module for module in model.modules() if isinstance(module, Layer)]
        self._halves = [(compiled(layer.project), compiled(layer.merge)) for layer in self._layers]

    def __enter__(self) -> None:
        for layer, (project, merge) in zip(self._layers, self._halves, strict=True):
            layer.__dict__.update(project=project, merge=merge)

    def __exit__(self, *_: object) -> None:
        for layer in self._layers:
            del layer.__dict__["project"], layer.__dict__["merge"]
