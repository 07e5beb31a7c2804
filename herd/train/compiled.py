"""Compiled layers: the two halves of every layer through ``torch.compile``, what lies between them left as it is.

Attention takes documents of any lengths, so it stays outside the compiled regions; the number of tokens is a variable
of the compiled code, and all layers share the same two functions.  So no batch causes a new compilation, and a resumed
run computes with the very code of the first one, whatever batch it begins with.  On a CPU the compiler writes C++, so
without a C++ compiler, or in a run too short to repay the wait, training is eager.
"""

import os
import shutil
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import torch
from torch import nn

from herd.model.layers import Layer

CompileMode = Literal["auto", "on", "off"]

# Compiling takes 10 to 40 s and saves about a tenth of a step; at about 1e11 FLOP/s the wait is repaid within a run
# of this size.
_REPAID_FLOPS = 3e13
# Networks of several shapes may be trained in one process; beyond its limit the compiler would fall back in silence.
_COMPILED_SHAPES = 64


@cache
def compiler_available() -> str | None:
    """None where layers can be compiled, else the reason why not, as a sentence's end."""
    if torch.cuda.is_available():
        return None
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    if any(shutil.which(name) for name in names):
        return None
    return f"there is no C++ compiler ({', '.join(names)}) on this machine"


def decide_compile(mode: CompileMode, flops: float) -> str | None:
    """None to compile a run of ``flops``, else the reason not to; the same answer whenever it is asked."""
    if mode == "off":
        return "the configuration says so"
    if mode == "auto" and flops < _REPAID_FLOPS:
        return f"a run of {flops:.1e} FLOPs is too short to repay it"
    return compiler_available()


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _COMPILED_SHAPES)
    return torch.compile(function, dynamic=True)


class CompiledLayers:
    """Puts compiled halves into the layers of ``model`` inside a ``with`` block; outside it the model is eager again.

    Evaluation stays outside: without gradients and at other lengths it would only cause more compilations.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = [module for module in model.modules() if isinstance(module, Layer)]
        self._halves = [(_compile(layer.project), _compile(layer.merge)) for layer in self._layers]

    def __enter__(self) -> None:
        for layer, (project, merge) in zip(self._layers, self._halves, strict=True):
            layer.__dict__.update(project=project, merge=merge)

    def __exit__(self, *_: object) -> None:
        for layer in self._layers:
            del layer.__dict__["project"], layer.__dict__["merge"]
