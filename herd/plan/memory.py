"""Bytes on the fullest rank, part by part, at the fullest moment of a training step.

What autograd keeps is counted operator by operator for this network (``herd.model.layers``); the counts stand beside
the code that uses them.  Three moments compete: the end of the first forward pass with the loss, every layer's
backward pass (activations fall while gradients grow), and the end of the backward pass, whose gradients the
optimiser's step reads.

``d`` is the model's dimension, ``f`` the feed-forward's, ``k`` that of the keys; SDPA keeps its fp32 log-sum-exp.
"""

from dataclasses import astuple, dataclass, replace

from herd.model.config import ModelConfig
from herd.plan.layout import Layout
from herd.plan.stack import Stack

# What the allocator loses between blocks in an eager and in a compiled step; fitted to two published pairs.
_EAGER_MARGIN, _COMPILED_MARGIN = 0.10, 0.03


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank; ``total`` is the peak that an allocator would report."""

    parameters: float
    gradients: float
    optimizer: float
    activations: float
    loss: float
    buffers: float
    margin: float

    @property
    def total(self) -> float:
        """Their sum."""
        return sum(astuple(self))


def element_bytes(layout: Layout) -> int:
    """Bytes of an activation's element."""
    return 4 if layout.precision == "fp32" else 2


def saved_per_layer(model: ModelConfig, layout: Layout) -> float:
    """Bytes of one layer and one micro-batch that stay from the forward to the backward pass, on one rank."""
    size, d, f = element_bytes(layout), model.dim, model.ffn_dim
    k = model.kv_heads * model.head_dim
    if layout.recompute == "full":
        per_token: float = size * d
    elif layout.recompute == "selective":
        # The layer's input, the outputs of every second matrix (q, v, gate, down) and those of attention.
        per_token = size * (4 * d + k + f) + 4 * model.heads
    elif layout.compiled:
        # Norms and products are made again inside fused kernels: both residuals, q, k, v, attended, gate, up.
        per_token = size * (4 * d + 2 * k + 2 * f) + 4 * model.heads
    else:
        # Two norms keep two tensors each (and a copy in fp32 of a narrower input), q, k, v, attended twice (the
        # packed copy), two residuals, gate, its activation, up and their product.
        per_token = size * (9 * d + 2 * k + 4 * f) + 4 * model.heads
        per_token += 2 * 4 * d if size < 4 else 0
    return layout.tokens * per_token / layout.tp


def in_flight(layout: Layout, first: bool = True) -> int:
    """Chunks of layers whose activations the first or the last pipeline rank holds at once (Narayanan et al. 2021)."""
    if layout.pp == 1:
        return 1
    ahead = (layout.chunks - 1) * layout.pp + 1
    if first:
        ahead += (layout.pp - 1) * (2 if layout.chunks > 1 else 1)
    return min(ahead, layout.micro_batches * layout.chunks)


def layers_per_rank(model: ModelConfig, layout: Layout) -> int:
    """Layers on the fullest rank."""
    return -(-model.layers // layout.pp)


def rank_parameters(model: ModelConfig, layout: Layout) -> float:
    """Parameters on the fullest pipeline rank, split by tensor parallelism but not yet by FSDP."""
    ends = model.vocab_size * model.dim * (1 if layout.pp > 1 or model.tied else 2)
    return (layers_per_rank(model, layout) * model.layer_parameters + ends + model.dim) / layout.tp


def peak_memory(model: ModelConfig, layout: Layout, stack: Stack) -> Memory:
    """The fullest moment of the fullest rank: the first of a pipeline, which runs ahead, or the last, with the loss."""
    parameters, shards = rank_parameters(model, layout), layout.dp * layout.cp
    state = 4.0 * parameters / shards  # fp32 master weights; so are gradients, and each of the two moments
    chunk = saved_per_layer(model, layout) * layers_per_rank(model, layout) / layout.chunks
    # The embedded tokens, and the last norm's input.
    ends = layout.tokens * model.dim * element_bytes(layout) / layout.tp * (2 if layout.pp == 1 else 1)
    moments = [
        _at_loss(model, layout, stack, chunk * in_flight(layout, first=False) + ends, state),
        _at_backward(model, layout, chunk * in_flight(layout) + ends, state),
        Memory(state, state + _tied_gradients(model, layout), 2 * state, 0.0, 0.0, 0.0, 0.0),
    ]
    peak = max(moments, key=lambda moment: moment.total)
    buffers = _unsharded(model, layout, parameters, shards) + _stage_buffers(model, layout, stack)
    peak = replace(peak, buffers=buffers)
    if layout.precision == "fp32":
        return peak
    return replace(peak, margin=(_COMPILED_MARGIN if layout.compiled else _EAGER_MARGIN) * peak.total)


def _at_loss(model: ModelConfig, layout: Layout, stack: Stack, kept: float, state: float) -> Memory:
    """After the first forward pass, while the loss makes its gradients; accumulated gradients are there already."""
    tokens, size = layout.tokens, element_bytes(layout)
    chunk = min(tokens, stack.loss_chunk or tokens)
    whole = layout.tp == 1 or stack.loss_chunk is not None
    logits = chunk * model.vocab_size / layout.tp
    buffers = stack.loss_buffers if whole else stack.sharded_loss_buffers
    loss = logits * (4 * buffers + (size if size < 4 else 0))
    if stack.loss_chunk is not None:
        # Hidden states' gradient in the forward pass, and the head's in fp32.
        loss += tokens * model.dim * size + 4.0 * model.vocab_size * model.dim / layout.tp
    gradients = state if layout.micro_batches > 1 else 0.0
    hidden = 2 * tokens * model.dim * size / layout.tp  # the last norm's two tensors
    return Memory(state, gradients, 2 * state, kept + hidden, loss, 0.0, 0.0)


def _at_backward(model: ModelConfig, layout: Layout, kept: float, state: float) -> Memory:
    """In the backward pass of a layer: what it makes again and the gradients of its widest part."""
    tokens, size = layout.tokens / layout.tp, element_bytes(layout)
    # Three gradients of f at once where gate and up meet, while the product that was kept has just been let go.
    working = tokens * size * (2 * model.ffn_dim + 2 * model.dim)
    if layout.recompute != "none":
        # A whole layer is there once more.
        whole = saved_per_layer(model, replace(layout, recompute="none"))
        working += whole - saved_per_layer(model, layout)
    if layout.tp > 1:
        working += 2 * layout.tokens * model.dim * size  # the gathered sequence and its gradient
    # Layer by layer activations fall by what a layer keeps and gradients grow by its parameters: the first or the
    # last layer's pass is the fullest.
    layer_gradient = 4.0 * model.layer_parameters / layout.tp / (layout.dp * layout.cp)
    head_gradient = 4.0 * model.vocab_size * model.dim / layout.tp / (layout.dp * layout.cp)
    first = Memory(state, head_gradient + layer_gradient, 2 * state, kept + working, 0.0, 0.0, 0.0)
    left = kept / max(layers_per_rank(model, layout), 1)
    last = Memory(state, state - _gradients_to_come(model, layout), 2 * state, left + working, 0.0, 0.0, 0.0)
    return max(first, last, key=lambda moment: moment.total)


def _tied_gradients(model: ModelConfig, layout: Layout) -> float:
    """Bytes of a tied matrix's gradients as a lookup and as the output matrix, made apart before they are added.

    Their sum is a third; it becomes the gradient in the first micro-batch and is added to it later.
    """
    if not model.tied or layout.pp > 1:
        return 0.0
    copies = 2 if layout.micro_batches == 1 else 3
    return copies * 4.0 * model.vocab_size * model.dim / layout.tp


def _gradients_to_come(model: ModelConfig, layout: Layout) -> float:
    """Bytes of gradients that are not there yet where gate and up meet in the first layer's backward pass."""
    if layout.micro_batches > 1 or layout.pp > 1:
        return 0.0  # they are there from the micro-batch before
    embedding = 0 if model.tied else model.vocab_size * model.dim
    layer = model.layer_parameters - model.ffn_dim * model.dim  # all but that of down
    return 4.0 * (layer + embedding) / layout.tp / (layout.dp * layout.cp)


def _unsharded(model: ModelConfig, layout: Layout, parameters: float, shards: int) -> float:
    """What FSDP gathers: two layers and the head; under a pipeline all weights and fp32 gradients of the rank."""
    if shards == 1:
        return 0.0 if layout.precision == "fp32" else 2.0 * parameters
    if layout.pp > 1:
        weight = 1.0 if layout.precision == "float8" else 2.0
        return (weight + 4.0) * parameters
    layer, head = model.layer_parameters / layout.tp, model.vocab_size * model.dim / layout.tp
    return 2 * 2.0 * layer + 2.0 * head + 4.0 * layer


def _stage_buffers(model: ModelConfig, layout: Layout, stack: Stack) -> float:
    """Inputs and outputs of every micro-batch in flight between stages, where a stack keeps them whole."""
    if layout.pp == 1 or not stack.whole_stage_buffers:
        return 0.0
    held = min(layout.pp, layout.micro_batches)
    return 2 * held * layout.tokens * model.dim * element_bytes(layout)
