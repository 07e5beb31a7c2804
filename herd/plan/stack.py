"""How a training software behaves where the planner has to know: what it keeps in memory, and what it overlaps.

The same machine runs different software.  ``STACKS`` holds what is known of four, from their documentation and from
the runs they published; a machine's file names the one that its figures were fitted to.
"""

from dataclasses import dataclass
from typing import Literal

from herd.foundation.errors import HerdError


@dataclass(frozen=True)
class Stack:
    """A training software; counts of passes and buffers are per element and were read off its operators."""

    name: str
    # fp32 tensors of the size of the logits that live at once in the loss, besides the logits themselves; ...
    loss_buffers: float
    # ... and how many tokens' logits are made at a time (None: all of a micro-batch).
    loss_chunk: int | None = None
    # The same where the vocabulary is split: the log-softmax over ranks is written out in single operators.
    sharded_loss_buffers: float = 4.5
    # Ring attention that leaves causal work unbalanced, or head-tail chunks with keys and values gathered.
    context: Literal["ring", "balanced"] = "balanced"
    # Micro-batches of a pipeline: one sequence each, or as many as there are stages.
    micro_batches: Literal["sequences", "stages"] = "sequences"
    # Whether what passes between stages is kept unsplit, as inputs and outputs of every micro-batch in flight.
    whole_stage_buffers: bool = False
    # Chunks of layers of each rank in the interleaved schedule; None is one layer a chunk.
    chunks: int | None = 2
    # Whether its operators were counted on meshes one by one; of others is known what they published.
    counted: bool = False
    # Memory traffic of element-wise operators, in reads and writes of a layer's activations.
    passes: float = 1.0
    eager_passes: float = 3.0


STACKS = {
    stack.name: stack
    for stack in (
        Stack("herd", loss_buffers=1, loss_chunk=512, counted=True),
        Stack("llama3", loss_buffers=1, loss_chunk=8192, chunks=None),
        Stack("torchtitan-2024", loss_buffers=3, context="ring", micro_batches="stages", whole_stage_buffers=True),
        Stack("torchtitan-2025", loss_buffers=1, context="ring", micro_batches="stages", whole_stage_buffers=True),
    )
}


def find_stack(name: str) -> Stack:
    """The stack of that name; unknown names raise ``HerdError``."""
    if name not in STACKS:
        raise HerdError(f"there is no stack {name!r}; there are {', '.join(STACKS)}")
    return STACKS[name]
