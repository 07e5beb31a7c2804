"""Step time: the paper's bubble, FLOPs as counted elsewhere, and links that cost what they carry."""

from dataclasses import replace

import pytest

from herd.model.config import PRESETS
from herd.plan.layout import Layout
from herd.plan.machine_file import load_machine
from herd.plan.speed import recomputed_share, step_time
from herd.plan.stack import find_stack

MODEL, MACHINE, STACK = PRESETS["llama-3.1-405b"], load_machine("h100-80gb"), find_stack("llama3")
LAYOUT = Layout(8, 1, 16, 128, seq=8192, local_batch=16, micro_batch=1, chunks=8)


def test_the_bubble_is_the_papers_ratio() -> None:
    """(PP - 1) / (V M), section 3.3.2, of the time in which the rank works."""
    for chunks, batch in ((8, 16), (8, 32), (1, 16)):
        time = step_time(MODEL, replace(LAYOUT, chunks=chunks, local_batch=batch), MACHINE, STACK)
        busy = time.arithmetic + time.traffic + time.tensor + time.context
        assert time.bubble / busy == pytest.approx(15 / (chunks * batch))


def test_arithmetic_at_full_shares_takes_the_models_flops() -> None:
    """A machine that reaches its peak in all kernels takes FLOPs / peak; attention's backward costs 2.5 forwards."""
    model = PRESETS["llama-3.1-8b"]
    ideal = MACHINE.model_copy(update={"gemm": 1.0, "attention": 1.0})
    layout = Layout(1, 1, 1, 1, seq=8192, local_batch=1, micro_batch=1)
    attention = 6.0 * model.layers * model.dim * layout.seq
    flops = (model.flops_per_token(layout.seq) + attention * (3.5 / 3 - 1)) * layout.tokens
    assert step_time(model, layout, ideal, STACK).arithmetic == pytest.approx(flops / 989e12)


def test_recomputation_does_a_forward_pass_again() -> None:
    """Full: a third more products.  Selective: keys, output and up projection, 37% of a forward pass at 8B."""
    model = PRESETS["llama-3.1-8b"]
    assert recomputed_share(model, replace(LAYOUT, recompute="full")) == 1
    assert recomputed_share(model, replace(LAYOUT, recompute="none")) == 0
    assert recomputed_share(model, replace(LAYOUT, recompute="selective")) == pytest.approx(0.365, abs=0.005)


def test_unbalanced_rings_cost_and_gathers_do_not_grow_with_the_queries() -> None:
    long = replace(LAYOUT, cp=16, dp=8, seq=131_072)
    ring = step_time(MODEL, long, MACHINE, replace(STACK, context="ring"))
    assert ring.arithmetic > step_time(MODEL, long, MACHINE, STACK).arithmetic
    assert step_time(MODEL, replace(LAYOUT, cp=1), MACHINE, STACK).context == 0
    assert step_time(MODEL, long, MACHINE, STACK).context > 0


def test_tensor_parallelism_beyond_a_node_goes_over_the_network() -> None:
    inside = step_time(MODEL, LAYOUT, MACHINE, STACK).tensor
    outside = step_time(MODEL, LAYOUT, MACHINE.model_copy(update={"node": 4}), STACK).tensor
    assert outside > 2 * inside
    assert step_time(MODEL, replace(LAYOUT, async_tp=True), MACHINE, STACK).tensor < inside
    assert step_time(MODEL, replace(LAYOUT, tp=1), MACHINE, STACK).tensor == 0


def test_one_rank_talks_to_nobody() -> None:
    time = step_time(
        PRESETS["llama-3.2-1b"], Layout(1, 1, 1, 1, seq=4096, local_batch=2, micro_batch=2), MACHINE, STACK
    )
    assert time.tensor == time.context == time.fsdp == time.bubble == 0
