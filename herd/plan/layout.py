"""How a run is laid out over accelerators: the four degrees, the batch, recomputation, precision and schedule.

Everything that cannot be built is refused here, before anything is reckoned, with the numbers in the sentence.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from herd.foundation.errors import HerdError
from herd.model.config import ModelConfig
from herd.plan.stack import Stack

Recompute = Literal["none", "selective", "full"]
Precision = Literal["bf16", "float8", "fp32"]
Schedule = Literal["1f1b", "interleaved"]


@dataclass(frozen=True)
class Layout:
    """Degrees in the paper's order [TP, CP, PP, DP]; ``local_batch`` is the sequences of one step of a DP group."""

    tp: int
    cp: int
    pp: int
    dp: int
    seq: int
    local_batch: int
    micro_batch: int
    recompute: Recompute = "none"
    precision: Precision = "bf16"
    schedule: Schedule = "interleaved"
    chunks: int = 1
    compiled: bool = True
    async_tp: bool = False

    @property
    def gpus(self) -> int:
        """Accelerators in all."""
        return self.tp * self.cp * self.pp * self.dp

    @property
    def micro_batches(self) -> int:
        """Micro-batches of one step of a DP group."""
        return self.local_batch // self.micro_batch

    @property
    def tokens(self) -> int:
        """Tokens of one micro-batch on one rank, before tensor parallelism splits them for the norms."""
        return self.micro_batch * self.seq // self.cp

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimiser step over all ranks."""
        return self.dp * self.local_batch * self.seq

    def describe(self) -> str:
        """The degrees in a few words."""
        words = f"tp {self.tp}, cp {self.cp}, pp {self.pp}, dp {self.dp}, micro-batch {self.micro_batch}"
        chunks = f", {self.chunks} chunks a rank" if self.chunks > 1 else ""
        return f"{words}, recompute {self.recompute}{chunks}"


def stage_layers(layers: int, stages: int) -> list[int]:
    """Layers of each stage of a pipeline, where embedding and output matrix stand for one each (paper, section 3.3.2).

    What does not divide goes to the middle first, as where Herd trains.
    """
    size, left = divmod(layers + 2, stages)
    last = stages - 1
    enlarged = [*range(1, last), 0, last][:left]
    return [max(0, size + (stage in enlarged) - (stage == 0) - (stage == last)) for stage in range(stages)]


def micro_batch_of(stack: Stack, pp: int, local_batch: int) -> int:
    """Sequences of a micro-batch as the stack chooses them: all at once where there is no pipeline."""
    if pp == 1:
        return local_batch
    return max(1, local_batch // pp) if stack.micro_batches == "stages" else 1


def chunks_of(stack: Stack, model: ModelConfig, pp: int, schedule: Schedule) -> int:
    """Chunks of layers on each rank: one for 1F1B; interleaved, the stack's number or a layer each."""
    if pp == 1 or schedule == "1f1b":
        return 1
    layers = -(-model.layers // pp)
    return min(layers, stack.chunks or layers)


def check_layout(layout: Layout, model: ModelConfig, gpus: int) -> None:
    """Raises ``HerdError`` where the layout cannot be built for ``model`` on ``gpus`` accelerators."""
    for name in ("tp", "cp", "pp", "dp", "seq", "local_batch", "micro_batch"):
        if getattr(layout, name) < 1:
            raise HerdError(f"{name.replace('_', '-')} is {getattr(layout, name)}, it must be at least 1")
    for name, kinds in (("recompute", Recompute), ("precision", Precision), ("schedule", Schedule)):
        if getattr(layout, name) not in get_args(kinds):
            raise HerdError(f"{name} is {getattr(layout, name)!r}; choose from {', '.join(get_args(kinds))}")
    if layout.gpus != gpus:
        raise HerdError(
            f"tp {layout.tp} x cp {layout.cp} x pp {layout.pp} x dp {layout.dp} are {layout.gpus} ranks, "
            f"not the {gpus} accelerators"
        )
    for name, count in (("heads", model.heads), ("key-value heads", model.kv_heads), ("vocabulary", model.vocab_size)):
        if count % layout.tp:
            raise HerdError(f"{count} {name} are not divisible by tp {layout.tp}")
    if layout.cp > 1 and layout.seq % (2 * layout.cp):
        raise HerdError(f"seq {layout.seq} is not divisible by 2 x cp = {2 * layout.cp} chunks")
    if layout.seq // layout.cp % layout.tp:
        raise HerdError(f"seq {layout.seq} / cp {layout.cp} is not divisible by tp {layout.tp} (sequence parallel)")
    if layout.pp > model.layers:
        raise HerdError(f"pp {layout.pp} is more than the model's {model.layers} layers")
    if layout.local_batch % layout.micro_batch:
        raise HerdError(f"local-batch {layout.local_batch} is not divisible by micro-batch {layout.micro_batch}")
