"""Predicted bytes against PyTorch's own memory tracker: whole steps of the one loop, on fake tensors and ranks."""

import random
from dataclasses import replace

import pytest

from herd.model.config import PRESETS, ModelConfig
from herd.plan.layout import Layout, stage_layers
from herd.plan.memory import passes_in_flight, peak_memory, saved_per_layer
from herd.plan.stack import find_stack
from herd.train.parallel.counted import Step, count_memory
from herd.train.parallel.mesh import PROVEN, MeshConfig
from herd.train.parallel.order import split_layers
from herd.train.recompute import Recompute

HERD = find_stack("herd")
EAGER = Layout(1, 1, 1, 1, seq=512, local_batch=4, micro_batch=4, precision="fp32", compiled=False)


MODES: tuple[Recompute, ...] = ("none", "selective", "full")


def tracked(shape: ModelConfig, layout: Layout) -> int:
    """Peak bytes of a step on one rank, counted by PyTorch's tracker over every storage that the operators make."""
    step = Step(layout.micro_batch, layout.seq, layout.micro_batches, layout.recompute)
    return count_memory(shape, MeshConfig(), step)


def drawn(seed: int, most_layers: int) -> tuple[ModelConfig, Layout]:
    draw = random.Random(seed)
    head, kv = draw.choice((32, 64)), draw.choice((1, 2, 4))
    heads = kv * draw.choice((1, 2, 4))
    shape = ModelConfig(
        vocab_size=draw.choice((2048, 4096, 32_000)),
        dim=head * heads,
        layers=draw.choice([count for count in (1, 2, 4, 8) if count <= most_layers]),
        heads=heads,
        kv_heads=kv,
        ffn_dim=head * heads * draw.choice((2, 3, 4)),
        tied=draw.random() < 0.5,
    )
    rows = draw.choice((1, 2, 4, 8))
    return shape, replace(
        EAGER, seq=draw.choice((128, 512, 1024)), micro_batch=rows, local_batch=rows * draw.choice((1, 2))
    )


@pytest.mark.parametrize("seed", range(3))
def test_predicted_bytes_are_those_of_the_tracker(seed: int) -> None:
    shape, layout = drawn(seed, most_layers=2)
    assert peak_memory(shape, layout, HERD).total == pytest.approx(tracked(shape, layout), rel=0.10)


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_recomputing_keeps_what_is_predicted(recompute: Recompute) -> None:
    """Four layers without a large vocabulary, so that activations are most of the peak."""
    shape = ModelConfig(vocab_size=2048, dim=256, layers=4, heads=4, kv_heads=2, ffn_dim=768)
    layout = replace(EAGER, recompute=recompute)
    used = tracked(shape, layout)
    assert peak_memory(shape, layout, HERD).total == pytest.approx(used, rel=0.10)
    assert used < {"selective": 0.7, "full": 0.5}[recompute] * tracked(shape, EAGER)


@pytest.mark.slow
@pytest.mark.parametrize("recompute", MODES)
@pytest.mark.parametrize("seed", range(100, 120))
def test_predicted_bytes_of_twenty_drawn_configurations(seed: int, recompute: Recompute) -> None:
    shape, layout = drawn(seed, most_layers=8)
    layout = replace(layout, recompute=recompute)
    assert peak_memory(shape, layout, HERD).total == pytest.approx(tracked(shape, layout), rel=0.10)


def drawn_mesh(seed: int) -> tuple[ModelConfig, MeshConfig, Step]:
    """A proven mesh of 2 to 16 ranks, and a network whose activations weigh more than what is rounded."""
    draw = random.Random(seed)
    while True:
        tp, cp, pp, dp = (draw.choice(degrees) for degrees in ((1, 2, 4), (1, 2), (1, 2, 4), (1, 2, 4)))
        mesh = MeshConfig(tp=tp, cp=cp, pp=pp, dp=dp, stages=draw.choice((1, 2)) if pp > 1 else 1)
        if 2 <= mesh.ranks <= 16 and mesh.kinds in PROVEN:
            break
    kv = draw.choice((4, 8))
    heads = kv * draw.choice((1, 2))
    shape = ModelConfig(
        vocab_size=draw.choice((4096, 16_384)),
        dim=64 * heads,
        layers=draw.choice((6, 8)),
        heads=heads,
        kv_heads=kv,
        ffn_dim=64 * heads * draw.choice((2, 3, 4)),
        tied=draw.random() < 0.3,
    )
    step = Step(
        draw.choice((1, 2, 4)),
        draw.choice((1024, 2048)),
        draw.choice((1, 2, 4)),
        draw.choice(("none", "selective", "full")),
    )
    return shape, mesh, step


def counted(shape: ModelConfig, mesh: MeshConfig, step: Step) -> int:
    """Bytes of the fullest rank: those of a pipeline differ, all others are alike."""
    return max(count_memory(shape, mesh, step, place * mesh.tp * mesh.cp) for place in range(mesh.pp))


def layout_of(mesh: MeshConfig, step: Step) -> Layout:
    """The same in the planner's words."""
    return replace(
        EAGER, tp=mesh.tp, cp=mesh.cp, pp=mesh.pp, dp=mesh.dp, chunks=mesh.stages, seq=step.length,
        local_batch=step.rows * step.micro_batches, micro_batch=step.rows, recompute=step.recompute,
    )  # fmt: skip


# One rank's part of each kind, and all of its pipeline.
FEW = {
    "tp": (MeshConfig(tp=2), Step(2, 1024, 2)),
    "cp x fsdp, full": (MeshConfig(cp=2, dp=2), Step(2, 1024, 1, "full")),
    "pp x fsdp": (MeshConfig(pp=2, dp=2, stages=2), Step(1, 1024, 4)),
}


@pytest.mark.parametrize("name", FEW)
def test_predicted_bytes_of_a_mesh(name: str) -> None:
    shape = ModelConfig(vocab_size=4096, dim=512, layers=2, heads=8, kv_heads=4, ffn_dim=1536)
    mesh, step = FEW[name]
    assert peak_memory(shape, layout_of(mesh, step), HERD).total == pytest.approx(counted(shape, mesh, step), rel=0.10)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 220))
def test_predicted_bytes_of_twenty_drawn_meshes(seed: int) -> None:
    shape, mesh, step = drawn_mesh(seed)
    assert peak_memory(shape, layout_of(mesh, step), HERD).total == pytest.approx(counted(shape, mesh, step), rel=0.10)


def test_fsdp_splits_the_state_and_nothing_else() -> None:
    """8B on 128 instead of 8 ranks: 16 bytes a parameter, times 1/8 - 1/128 of them, are what is saved."""
    model, stack = PRESETS["llama-3.1-8b"], find_stack("torchtitan-2024")
    eight = Layout(1, 1, 1, 8, seq=8192, local_batch=2, micro_batch=2, recompute="selective")
    few, many = peak_memory(model, eight, stack), peak_memory(model, replace(eight, dp=128), stack)
    assert few.activations == many.activations
    assert (few.parameters + few.optimizer) - (many.parameters + many.optimizer) == pytest.approx(
        12 * model.parameters * (1 / 8 - 1 / 128)
    )


def test_recomputing_keeps_less_and_less() -> None:
    model = PRESETS["llama-3.1-8b"]
    kept = [
        saved_per_layer(model, replace(EAGER, recompute=kind, compiled=True), HERD)
        for kind in ("none", "selective", "full")
    ]
    assert kept[0] > kept[1] > kept[2] == EAGER.tokens * 4 * model.dim


def test_a_pipeline_holds_as_many_micro_batches_as_the_schedule_says() -> None:
    """1F1B: one for each rank ahead.  Interleaved: (V-1) PP + 2 (PP-1) + 1 chunks (Narayanan et al. 2021)."""
    pipe = replace(EAGER, pp=4, local_batch=64, micro_batch=1)
    assert [passes_in_flight(pipe, rank) for rank in range(4)] == [4, 3, 2, 1]
    assert [passes_in_flight(replace(pipe, chunks=2), rank) for rank in range(4)] == [11, 9, 7, 5]
    assert passes_in_flight(replace(pipe, local_batch=2), 0) == 2


def test_stages_have_the_layers_that_training_gives_them() -> None:
    for layers, stages in ((126, 128), (32, 4), (32, 12), (9, 4), (6, 8)):
        assert stage_layers(layers, stages) == [len(each) for each in split_layers(layers, stages)]
