"""Bytes on the fullest rank, part by part, at the fullest moment of a training step.

What autograd keeps is counted operator by operator for this network (``herd.model.layers``); the counts stand beside
the code that uses them.  Four moments compete: the end of a forward pass with the loss, the backward passes of the
layers (activations fall while gradients grow), the backward pass of the embedding, where the gradients of both large
matrices meet, and the optimiser's step.

``d`` is the model's dimension, ``f`` the feed-forward's, ``k`` that of the keys; SDPA keeps its fp32 log-sum-exp.
"""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from itertools import accumulate

from herd.model.config import ModelConfig
from herd.plan.layout import Layout, stage_layers
from herd.plan.stack import Stack

# What the allocator loses between blocks in an eager and in a compiled step; fitted to two published pairs.
_EAGER_MARGIN, _COMPILED_MARGIN = 0.10, 0.03
# Groups of PP micro-batches of a pipeline that are followed one by one; then all goes on as it does.
_GROUPS = 4


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank; ``total`` is the peak that an allocator would report."""

    parameters: float
    gradients: float
    optimizer: float
    activations: float
    loss: float
    buffers: float
    margin: float = 0.0

    @property
    def total(self) -> float:
        """Their sum."""
        return sum(astuple(self))


def element_bytes(layout: Layout) -> int:
    """Bytes of an activation's element."""
    return 4 if layout.precision == "fp32" else 2


def saved_per_layer(model: ModelConfig, layout: Layout, stack: Stack) -> float:
    """Bytes of one layer and one micro-batch that stay from the forward to the backward pass, on one rank."""
    size, d, f = element_bytes(layout), model.dim, model.ffn_dim
    k = model.kv_heads * model.head_dim
    attention = 4 * model.heads
    # Whole on every rank of TP where all else is a part: what is gathered for matrices, or not yet summed behind one.
    whole = 0.0
    if layout.recompute == "full":
        part: float = size * d
    elif layout.recompute == "selective":
        # The layer's input, the outputs of every second matrix (q, v, gate; whole that of down) and of attention.
        part, whole = size * (3 * d + k + f) + attention, size * d
    elif layout.compiled:
        # Norms and products are made again inside fused kernels: both residuals, q, k, v, attended, gate, up.
        part = size * (4 * d + 2 * k + 2 * f) + attention
    else:
        # What two norms have normalised (and a copy in fp32 of a narrower input), q, k, v, attended twice (the packed
        # copy), two residuals, gate, its activation, up and their product; whole, what the two norms put out.
        if stack.counted:
            k *= layout.cp  # keys and values stay as they were gathered
        part, whole = size * (7 * d + 2 * k + 4 * f) + attention, size * 2 * d
        part += 2 * 4 * d if size < 4 else 0
    return layout.tokens * (part / layout.tp + (whole if stack.counted else whole / layout.tp))


def work_order(layout: Layout, rank: int) -> list[tuple[bool, int]]:
    """A pipeline rank's passes, one after another: whether forward, and through which of its own stages.

    Before the first backward pass come (V - 1) PP forward passes and two for each rank that follows (one without
    interleaving; Narayanan et al. 2021), then the two take turns.  What repeats itself later is left out.
    """
    count, after, stages = max(layout.micro_batches // layout.pp, 1), layout.pp - 1 - rank, range(layout.chunks)
    size, left = divmod(layout.micro_batches, count)
    groups = [size + (number < left) for number in range(min(count, _GROUPS))]
    forward = [stage for group in groups for stage in stages for _ in range(group)]
    backward = [stage for group in groups for stage in reversed(stages) for _ in range(group)]
    ahead = min(after if layout.chunks == 1 else (layout.chunks - 1) * groups[0] + 2 * after, len(forward))
    order = [(True, stage) for stage in forward[:ahead]]
    for begun, ended in zip(forward[ahead:], backward, strict=False):
        order += [(True, begun), (False, ended)]
    return order + [(False, stage) for stage in backward[len(forward) - ahead :]]


def passes_in_flight(layout: Layout, rank: int) -> int:
    """Passes through stages whose activations a pipeline rank holds at most."""
    return max(accumulate(1 if forward else -1 for forward, _ in work_order(layout, rank)))


def layers_per_rank(model: ModelConfig, layout: Layout) -> int:
    """Layers on the fullest rank."""
    return -(-model.layers // layout.pp)


def rank_parameters(model: ModelConfig, layout: Layout) -> float:
    """Parameters on the fullest pipeline rank, split by tensor parallelism but not yet by FSDP."""
    ends = model.vocab_size * model.dim * (1 if layout.pp > 1 or model.tied else 2)
    return (layers_per_rank(model, layout) * model.layer_parameters + ends + model.dim) / layout.tp


def peak_memory(model: ModelConfig, layout: Layout, stack: Stack) -> Memory:
    """The fullest moment of the fullest rank.

    In a pipeline that is the first, which runs ahead, the second, which may have a layer more, or the last, with the
    loss.
    """
    if stack.counted and (layout.tp > 1 or layout.pp > 1):
        layout = replace(layout, compiled=False)  # such layers of Herd's are not compiled
    ranks = sorted({0, min(1, layout.pp - 1), layout.pp - 1})
    moments = (moment for rank in ranks for moment in _Rank(model, layout, stack, rank).moments())
    peak = max(moments, key=lambda moment: moment.total)
    if layout.precision == "fp32":
        return peak
    return replace(peak, margin=(_COMPILED_MARGIN if layout.compiled else _EAGER_MARGIN) * peak.total)


class _Rank:
    """One rank of a pipeline, or the only one: what it holds, moment by moment."""

    def __init__(self, model: ModelConfig, layout: Layout, stack: Stack, rank: int) -> None:
        self.model, self.layout, self.stack = model, layout, stack
        self.first, self.last = rank == 0, rank == layout.pp - 1
        self.stages = stage_layers(model.layers, layout.pp * layout.chunks)[rank :: layout.pp]
        self.shards, self.size = layout.dp * layout.cp, element_bytes(layout)
        self.stream = layout.tokens * model.dim * self.size / layout.tp
        self.saved = saved_per_layer(model, layout, stack)
        # Parameters: of a layer, of its matrix that has a gradient first, and of embedding or output matrix, which are
        # one where they are tied and together.
        self.layer, self.down = model.layer_parameters / layout.tp, model.ffn_dim * model.dim / layout.tp
        self.matrix = model.vocab_size * model.dim / layout.tp
        self.ends = 1 if layout.pp == 1 and model.tied else self.first + self.last
        self.parameters = sum(map(self._parameters, range(len(self.stages))))
        # fp32 master weights; so are gradients, and each of the two moments.
        self.state = 4 * self.parameters / self.shards
        self.fullest = self._fullest(rank)

    def _fullest(self, rank: int) -> dict[tuple[int, frozenset[int]], float]:
        """Most bytes of activations at the begin of a stage's backward pass, by the stages that have had one before."""
        fullest: dict[tuple[int, frozenset[int]], float] = {}
        now, passed = 0.0, frozenset[int]()
        for forward, stage in work_order(self.layout, rank):
            embedded = self.stream if self.first and stage == 0 else 0.0
            kept = self.stages[stage] * self.saved + embedded
            if forward:
                now += kept
                continue
            fullest[stage, passed] = max(now, fullest.get((stage, passed), 0.0))
            now, passed = now - kept, passed | {stage}
        return fullest

    def moments(self) -> Iterator[Memory]:
        """Those that may be the fullest."""
        for (stage, passed), kept in self.fullest.items():
            if self.last and stage == len(self.stages) - 1:
                yield self._at_loss(kept, passed)
            # From layer to layer activations fall by what one keeps and gradients grow; from the second on there is
            # the reduction of the one before.
            for done in sorted({0, 1, self.stages[stage] - 1} & set(range(self.stages[stage]))):
                yield self._at_layer(stage, done, kept, passed)
        yield self._at_ends()
        whole = self._of_tensor_parallel() if self.shards == 1 else 0.0
        yield self._memory(self.state + whole, 0.0, 0.0, self._ready() + self._of_norm())

    def _memory(self, gradients: float, activations: float, loss: float, buffers: float) -> Memory:
        return Memory(self.state, gradients, 2 * self.state, activations, loss, buffers)

    def _at_loss(self, kept: float, passed: frozenset[int]) -> Memory:
        """After a forward pass, while the loss makes its gradients."""
        layout, stack, tokens = self.layout, self.stack, self.layout.tokens
        chunk = min(tokens, stack.loss_chunk or tokens)
        whole = layout.tp == 1 or stack.loss_chunk is not None
        buffers = stack.loss_buffers if whole else stack.sharded_loss_buffers
        loss = chunk * self.model.vocab_size / layout.tp * (4 * buffers + (self.size if self.size < 4 else 0))
        if stack.loss_chunk is not None:
            # Hidden states' gradient in the forward pass, and the head's in fp32.
            loss += self.stream * layout.tp + 4 * self.matrix
        # What the last norm has normalised, and what it put out: whole, since the loss reads all of it.
        hidden = self.stream * (1 + (layout.tp if stack.counted else 1))
        return self._memory(self._gradients(passed), kept + hidden, loss, self._gathered(0) + self._ready())

    def _at_layer(self, stage: int, done: int, kept: float, passed: frozenset[int]) -> Memory:
        """In a layer's backward pass, after those of ``done`` others of its stage."""
        head = self.matrix if self.last and stage == len(self.stages) - 1 else 0.0
        buffers = self._gathered(min(2, self.stages[stage] - done)) + self._ready()
        fresh = 0.0 if stage in passed else done * self.layer
        if self.shards > 1 and self.layout.pp == 1 and self.stack.counted:
            # Whole are the layer's first gradient, the head's until that of the embedding is there too, and what the
            # layer before has handed to its reduction.
            buffers += 4 * (self.down + head + (self.layer if done else 0.0))
        elif stage not in passed:
            fresh += self.down + head
        activations = kept - done * self.saved + self._working()
        return self._memory(self._gradients(passed, fresh), activations, 0.0, buffers)

    def _at_ends(self) -> Memory:
        """In the backward pass of the embedding, after all layers."""
        if not self.stack.counted and self.shards > 1:
            gradients, buffers = self.state, self._gathered(0)
        elif self.shards == 1:
            # Apart before they are added: a tied matrix's gradients as a lookup and as the output matrix.
            tied = (2 if self.layout.micro_batches == 1 else 3) if self.model.tied and self.layout.pp == 1 else 0
            again = self.first and not tied and self.layout.micro_batches > 1
            gradients = self.state + self._of_tensor_parallel()
            buffers = self._gathered(0) + 4 * self.matrix * (tied + (self.layout.tp if again else 0))
        else:
            # The gathered weights and both gradients; then the gradients and what is handed to their reduction.
            alone = self.layout.pp == 1
            meeting = 4 * (2 + self.model.tied) * alone + self._gathered_bytes() * self.ends
            buffers = self.matrix * max(meeting, 4 * (1 + alone) * self.ends) + self._of_tensor_parallel()
            again = self.layout.micro_batches > 1 or not alone
            gradients = self._gradients(frozenset(range(len(self.stages)) if again else ()))
            gradients += 0.0 if again else 4 * self.stages[0] * self.layer / self.shards
        return self._memory(gradients, self.stream, 0.0, buffers + self._ready())

    def _working(self) -> float:
        """What a layer's backward pass makes again, and the gradients of its widest part."""
        layout, d, f = self.layout, self.model.dim, self.model.ffn_dim
        tokens = layout.tokens * self.size / layout.tp
        # Three gradients of f at once where gate and up meet, while the product that was kept has just been let go.
        working = tokens * (2 * f + 2 * d)
        if layout.tp > 1:
            gathered = tokens * layout.tp * d
            # Two whole gradients of what gate and up have read, and their sum; most of f's width is gone by then.
            working = max(working, 3 * gathered - 2 * tokens * f) if self.stack.counted else working + 2 * gathered
        if layout.recompute != "none":
            # A whole layer is there once more.
            working += saved_per_layer(self.model, replace(layout, recompute="none"), self.stack) - self.saved
        return working

    def _gradients(self, passed: frozenset[int], fresh: float = 0.0) -> float:
        """Bytes of gradients after backward passes of some stages, and of ``fresh`` other parameters."""
        if self.layout.pp > 1 and not self.stack.counted:
            return self.state
        # In a pipeline they are reduced once, after the last pass, and are whole until then.
        shards = 1 if self.layout.pp > 1 else self.shards
        whole = self._of_tensor_parallel() if 0 in passed and shards == 1 else 0.0
        return 4 * (sum(map(self._parameters, passed)) + fresh) / shards + whole

    def _parameters(self, stage: int) -> float:
        """Parameters of one of the rank's stages."""
        ends = (self.first and stage == 0) + (self.last and stage == len(self.stages) - 1)
        return self.stages[stage] * self.layer + min(ends, self.ends) * self.matrix

    def _gathered_bytes(self) -> float:
        """Bytes of a gathered weight: Herd gathers the master weights, others what they multiply."""
        return 4.0 if self.stack.counted or self.layout.precision == "fp32" else 2.0

    def _gathered(self, layers: int) -> float:
        """What FSDP gathers while ``layers`` are at hand, and the copies of weights in the type of products."""
        copies = 0.0 if self.layout.precision == "fp32" else 2.0 * self.parameters
        if self.shards == 1:
            return copies
        if self.stack.counted:
            return copies + self._gathered_bytes() * (self.ends * self.matrix + layers * self.layer)
        if self.layout.pp > 1:
            # All weights of the rank, and their gradients in fp32.
            return ((1.0 if self.layout.precision == "float8" else self._gathered_bytes()) + 4.0) * self.parameters
        # Two layers and the head, and the reduction of a layer.
        return self._gathered_bytes() * (2 * self.layer + self.matrix) + 4.0 * self.layer

    def _ready(self) -> float:
        """Room for what stages exchange."""
        layout = self.layout
        if layout.pp == 1:
            return 0.0
        if self.stack.counted:
            # What is received lies ready for all micro-batches of a step: inputs, and gradients of outputs.
            ends = self.first + self.last
            return layout.micro_batches * self.stream * (2 * layout.chunks - ends)
        if self.stack.whole_stage_buffers:
            return 2 * min(layout.pp, layout.micro_batches) * self.stream * layout.tp
        return 0.0

    def _of_tensor_parallel(self) -> float:
        """The embedding's gradient comes whole on every rank of TP, and stays so until FSDP or the norm cuts it."""
        return 4 * self.matrix * (self.layout.tp - 1) if self.stack.counted and self.first else 0.0

    def _of_norm(self) -> float:
        """The gradients' norm squares one after another: the largest."""
        if not self.stack.counted or self.layout.gpus == 1:
            return 0.0
        return 4 * max(self.matrix if self.ends else 0.0, self.down) / self.shards
