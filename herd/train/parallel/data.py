"""Data parallel training: weights, gradients and optimiser cut over the ranks that see different tokens (FSDP2).

Each layer is gathered just before it is used.  Gradients are summed in fp32, not averaged: the loop divides once, by
the targets of the whole step (paper, section 3.3.2).  Context-parallel ranks see different tokens too, so the weights
are cut over them as well.
"""

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from herd.model.layers import Layer
from herd.train.parallel.mesh import Mesh


def shard_weights(model: nn.Module, mesh: Mesh) -> None:
    """Cuts every parameter of ``model`` over the data ranks of ``mesh``; nothing where there is only one.

    Every process must hold the same whole weights (or the same tensor-parallel part of them) beforehand.
    """
    ranks = _weights_mesh(mesh)
    if ranks is None:
        return
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    for module in model.modules():
        if isinstance(module, Layer):
            fully_shard(module, mesh=ranks, reshard_after_forward=mesh.config.reshard, mp_policy=policy)
    # The root's weights, embedding and output matrix, stay gathered after the forward pass: the loss needs them next.
    fully_shard(model, mesh=ranks, reshard_after_forward=False, mp_policy=policy)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def release_weights(model: nn.Module) -> None:
    """Gives back what a forward pass without a backward pass has left gathered."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _weights_mesh(mesh: Mesh) -> DeviceMesh | None:
    """The mesh over which weights are cut, or copied and cut."""
    cut = mesh.submesh("shard", "cp")
    if mesh.config.replicas == 1:
        return cut
    if mesh.config.cp == 1:
        return mesh.devices["replica", "shard"]
    assert cut is not None
    return DeviceMesh._concatenate([mesh.devices["replica"], cut])
