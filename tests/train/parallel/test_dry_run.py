"""The view of one rank among ranks that do not exist, against counts made by hand."""

import math
import sys

import torch.distributed as dist

from herd.model.config import ModelConfig
from herd.train.parallel.dry_run import View, dry_run
from herd.train.parallel.mesh import MeshConfig

LAYERS, ROWS, LENGTH, DIM = 6, 4, 64, 32
SHAPE = ModelConfig(vocab_size=64, dim=DIM, layers=LAYERS, heads=8, kv_heads=4, ffn_dim=64)


def _seen(view: View) -> dict[tuple[str, str], int]:
    return {(kind, over.split(" (")[0]): count for (kind, over), count in view.collectives.items()}


def test_a_step_exchanges_what_the_layers_need() -> None:
    view = dry_run(SHAPE, MeshConfig(tp=2, dp=4, reshard=False), rank=5, rows=1, length=LENGTH)
    assert view.place == {"tp": 1, "cp": 0, "pp": 0, "shard": 2, "replica": 0}
    assert view.parameters * 8 == SHAPE.parameters + (2 * LAYERS + 1) * DIM  # each TP rank has the norms
    gathers = 2 * (2 * LAYERS + 1)  # a norm's output forward, the gradient of what was cut over tokens backward
    assert _seen(view) == {
        ("all-gather", "shard"): LAYERS + 1,  # every layer and the rest, once, as they stay gathered
        ("reduce-scatter", "shard"): LAYERS + 1,
        ("all-gather", "tp"): gathers,
        ("reduce-scatter", "tp"): gathers,
        ("all-reduce", "tp"): 2 * LAYERS + 1 + 2,  # gradients of norms; maximum and sums of the loss
    }
    stream = LENGTH * DIM * 4
    tp = next(moved for (kind, over), moved in view.moved.items() if kind == "all-gather" and over.startswith("tp"))
    assert tp == gathers * stream


def test_the_process_is_afterwards_what_it_was() -> None:
    hook = sys.excepthook
    dry_run(SHAPE, MeshConfig(dp=2), rank=1, rows=1, length=LENGTH)
    assert not dist.is_initialized()
    assert sys.excepthook is hook


def test_a_dry_run_leaves_nothing_behind() -> None:
    """The groups of another rank have other names; what a first run did with its own must not come back."""
    first, second = (dry_run(SHAPE, MeshConfig(tp=2, pp=2), rank, 1, LENGTH).place["pp"] for rank in (0, 2))
    assert (first, second) == (0, 1)


def test_weights_that_are_freed_are_gathered_twice() -> None:
    view = dry_run(SHAPE, MeshConfig(dp=8), rank=0, rows=1, length=LENGTH)
    assert _seen(view)["all-gather", "shard"] == 2 * LAYERS + 1


def test_a_rank_of_four_dimensions_holds_its_stages() -> None:
    view = dry_run(SHAPE, MeshConfig(tp=2, cp=2, pp=2, dp=2, stages=2), rank=13, rows=ROWS, length=LENGTH)
    assert view.place == {"tp": 1, "cp": 0, "pp": 1, "shard": 1, "replica": 0}
    held = {shard.name.split(".")[1] for shard in view.shards if shard.name.startswith("layers.")}
    assert held == {"1", "2", "5"}  # stages 1 and 3 of four, where embedding and output matrix count as layers
    assert not any(shard.name == "embedding.weight" for shard in view.shards)
    for shard in view.shards:
        parts = 2 if math.prod(shard.whole) == DIM else 1  # both ranks of TP hold a norm
        assert math.prod(shard.own) * 8 // parts == math.prod(shard.whole)
    seen = _seen(view)
    assert seen["all-gather", "cp"] == seen["reduce-scatter", "cp"] == 3 * ROWS
    assert seen["send", "pp"] == 2 * ROWS + ROWS  # forward from stage 1, backward from both
    assert seen["receive", "pp"] == 2 * ROWS + ROWS
