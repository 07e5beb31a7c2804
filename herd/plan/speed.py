"""Seconds of a training step, part by part: arithmetic, memory traffic, links, the pipeline's bubble.

Arithmetic is counted exactly and divided by the share of the peak that the machine reaches; element-wise operators
cost their traffic.  Links: tensor parallelism waits for its collectives (unless they are cut up and overlapped), FSDP
hides behind the arithmetic but for its first and last layer, context parallelism gathers keys and values in the open.
"""

from dataclasses import dataclass

from herd.model.config import ModelConfig
from herd.plan.layout import Layout
from herd.plan.machine_file import Machine
from herd.plan.memory import element_bytes, layers_per_rank, rank_parameters
from herd.plan.stack import Stack

# FlashAttention's backward pass makes the scores again: five products where the forward pass has two.
_ATTENTION_BACKWARD = 2.5
# What overlapping leaves of tensor parallelism's collectives in the open.
_ASYNC_LEFT = 0.7
# Casting to float8 reads and writes every input and gradient of a matrix: bytes for each of their elements.
_CAST_BYTES = 6.0
# Reads and writes of one layer's activations by norms, rotations, products and residuals, forward and backward, as
# elements of d and of f; recomputation adds the forward's third.
_TRAFFIC_D, _TRAFFIC_F = 30.0, 10.0
_LOSS_PASSES = 8.0  # reads and writes of the fp32 logits
_OPTIMIZER_BYTES = 32.0  # AdamW reads four fp32 values of a parameter and writes three, and the bf16 copy


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimiser step on the slowest rank, by what they are spent on."""

    arithmetic: float
    traffic: float
    tensor: float
    context: float
    fsdp: float
    bubble: float
    optimizer: float

    @property
    def total(self) -> float:
        """Their sum."""
        return sum(vars(self).values())


def recomputed_share(model: ModelConfig, layout: Layout) -> float:
    """The part of a layer's matrix products in the forward pass that the backward pass does again."""
    if layout.recompute == "full":
        return 1.0
    if layout.recompute == "none":
        return 0.0
    k = model.kv_heads * model.head_dim
    again = model.dim * (k + model.dim + model.ffn_dim)  # every second matrix: keys, output, up
    return again / (model.layer_parameters - 2 * model.dim)


def step_time(model: ModelConfig, layout: Layout, machine: Machine, stack: Stack) -> StepTime:
    """One optimiser step."""
    arithmetic, traffic = _micro_batch(model, layout, machine, stack)
    tensor, context = _tensor(model, layout, machine), _context(model, layout, machine)
    count = layout.micro_batches
    busy = count * (arithmetic + traffic + tensor + context)
    bubble = busy * (layout.pp - 1) / (layout.chunks * count)
    optimizer = rank_parameters(model, layout) / (layout.dp * layout.cp) * _OPTIMIZER_BYTES / _memory_rate(machine)
    return StepTime(
        count * arithmetic,
        count * traffic,
        count * tensor,
        count * context,
        _fsdp(model, layout, machine, busy),
        bubble,
        optimizer,
    )


def _memory_rate(machine: Machine) -> float:
    return machine.memory_gb_s * 1e9 * machine.bandwidth


def _micro_batch(model: ModelConfig, layout: Layout, machine: Machine, stack: Stack) -> tuple[float, float]:
    """Arithmetic and memory traffic of one micro-batch on the slowest rank, forward and backward."""
    peak = machine.peak_tflops * 1e12
    tokens, layers = layout.tokens / layout.tp, layers_per_rank(model, layout)
    again = recomputed_share(model, layout)
    products = 2.0 * (model.layer_parameters - 2 * model.dim) * (3 + again) * layers
    rate, casts = peak * machine.gemm, 0.0
    if layout.precision == "float8":
        rate = (machine.float8_tflops or machine.peak_tflops) * 1e12 * machine.float8_gemm
        casts = _CAST_BYTES * (4 * model.dim + 2 * model.ffn_dim) * (2 + again) * layers
    head = 0.0 if layout.pp > 1 else 6.0 * model.vocab_size * model.dim
    scores = 2.0 * model.dim * layout.seq * layers  # causal: half of 4 d S
    passes = 1 + _ATTENTION_BACKWARD + (1 if layout.recompute == "full" else 0)
    balance = (2 * layout.cp - 1) / layout.cp if stack.context == "ring" else 1.0
    arithmetic = products / rate + head / (peak * machine.gemm)
    arithmetic += scores * passes * balance / (peak * machine.attention)
    factor = (stack.passes if layout.compiled else stack.eager_passes) * (1 + again / 3) * element_bytes(layout)
    moved = factor * (_TRAFFIC_D * model.dim + _TRAFFIC_F * model.ffn_dim) * layers + casts
    moved += 0.0 if layout.pp > 1 else _LOSS_PASSES * 4 * model.vocab_size
    return tokens * arithmetic, tokens * moved / _memory_rate(machine)


def _links(machine: Machine, inner: int, degree: int) -> float:
    """Bytes per second of each rank in a group whose members are ``inner`` ranks apart.

    Between nodes a ring enters every node once for all of its members there, so that they share the node's network
    links, and the fast links inside bound the rate.
    """
    rate = machine.link_gb_s
    if inner * degree > machine.node:
        rate = min(rate, machine.network_gb_s * max(1, machine.node // inner))
    return rate * 1e9 * machine.link_share


def _tensor(model: ModelConfig, layout: Layout, machine: Machine) -> float:
    """Gathers and scatters of a micro-batch: four a layer forward, four backward, and those made again."""
    if layout.tp == 1:
        return 0.0
    again = {"none": 0, "selective": 2, "full": 3}[layout.recompute]
    volume = layout.tokens * model.dim * element_bytes(layout) * (layout.tp - 1) / layout.tp
    seconds = (8 + again) * layers_per_rank(model, layout) * volume / _links(machine, 1, layout.tp)
    return seconds * (_ASYNC_LEFT if layout.async_tp else 1.0)


def _context(model: ModelConfig, layout: Layout, machine: Machine) -> float:
    """Keys and values gathered forward (again where recomputed), their gradients scattered backward."""
    if layout.cp == 1:
        return 0.0
    width = 2 * model.kv_heads * model.head_dim / layout.tp
    volume = layout.micro_batch * layout.seq * width * element_bytes(layout) * (layout.cp - 1) / layout.cp
    times = 3 if layout.recompute == "full" else 2
    return times * layers_per_rank(model, layout) * volume / _links(machine, layout.tp, layout.cp)


def _fsdp(model: ModelConfig, layout: Layout, machine: Machine, busy: float) -> float:
    """What FSDP leaves in the open of its gathers (bf16) and scatters (fp32) in one step."""
    ranks = layout.dp * layout.cp
    if ranks == 1:
        return 0.0
    gathers = 1 if layout.pp > 1 else 2 * layout.micro_batches
    volume = rank_parameters(model, layout) * (2 * gathers + 4) * (ranks - 1) / ranks
    seconds = volume / _links(machine, layout.tp, ranks if layout.pp == 1 else layout.cp * layout.pp * layout.dp)
    ends = 2 * seconds / max(layers_per_rank(model, layout), 2)
    return max(ends, seconds - busy)
