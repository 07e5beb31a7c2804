"""Products in float8, on GPUs that have instructions for them, through torchao (the extra ``float8``).

    check_float8(device, processes=1)
    multiply_in_float8(model)

Only the seven matrices of each layer change the way they multiply: inputs, weights and gradients are scaled by their
largest value and rounded on the way in.  The weights themselves, the output matrix, norms and the optimiser stay as
they are, and so do all names.  The paper trained in bf16 and served in float8 (section 6.2); nobody has run this on a
GPU yet, only torchao's emulation on a CPU.
"""

import importlib.util

import torch
from torch import nn

from herd.foundation.errors import HerdError
from herd.model.layers import Layer

_CAPABILITY = (8, 9)
_MULTIPLE = 16
"""What both sides of a matrix must be a multiple of for the instructions."""


def check_float8(device: torch.device, processes: int) -> None:
    """``HerdError`` where a training on ``device``, by so many processes, cannot multiply in float8."""
    if device.type != "cuda":
        raise HerdError(f"precision float8: needs a GPU, this training is on the {device.type}; choose auto")
    capability = torch.cuda.get_device_capability(device)
    if capability < _CAPABILITY:
        raise HerdError(
            f"precision float8: needs a GPU of compute capability {'.'.join(map(str, _CAPABILITY))}, "
            f"{torch.cuda.get_device_name(device)} has {'.'.join(map(str, capability))}; choose bf16"
        )
    if importlib.util.find_spec("torchao") is None:
        raise HerdError('precision float8: torchao is not installed; pip install "herd-llm[float8]", or choose bf16')
    if processes > 1:
        raise HerdError(f"precision float8: is not proven on several processes, here are {processes}; choose bf16")


def multiply_in_float8(model: nn.Module, emulate: bool = False) -> None:
    """Makes the layers of ``model`` multiply in float8, their parameters being the same objects as before.

    ``emulate`` rounds the same way and multiplies in the usual types, which any machine can.
    """
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    config = Float8LinearConfig(emulate=emulate)
    for layer in model.modules():
        if isinstance(layer, Layer):
            convert_to_float8_training(layer, config=config, module_filter_fn=_fits)


def _fits(module: nn.Module, name: str) -> bool:
    return type(module) is nn.Linear and not (module.in_features % _MULTIPLE or module.out_features % _MULTIPLE)
