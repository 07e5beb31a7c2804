"""Predicted bytes against PyTorch's own memory tracker, on one rank: the whole step of the real network, on fakes."""

import random
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from herd.model.attention import DocumentAttention, document_positions
from herd.model.config import PRESETS, ModelConfig
from herd.model.loss import _SummedCrossEntropy
from herd.model.transformer import Transformer
from herd.plan.layout import Layout
from herd.plan.memory import in_flight, peak_memory, saved_per_layer
from herd.plan.stack import find_stack
from herd.train.recompute import Recompute, RecomputedLayers

HERD = find_stack("herd")
EAGER = Layout(1, 1, 1, 1, seq=512, local_batch=4, micro_batch=4, precision="fp32", compiled=False)


def tracked(shape: ModelConfig, layout: Layout) -> int:
    """Peak bytes of two optimiser steps, counted by the tracker over every storage that the operators make."""
    rows, length = layout.micro_batch, layout.seq
    with FakeTensorMode(allow_non_fake_inputs=True):
        tracker, model = MemTracker(), Transformer(shape)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        tracker.track_external(model, optimizer)
        with tracker, RecomputedLayers(model, layout.recompute):
            for _ in range(2):
                for _ in range(layout.micro_batches):
                    tracker.reset_mod_stats()
                    tokens, targets = (torch.zeros(rows * length, dtype=torch.long) for _ in range(2))
                    positions, attend = document_positions([length] * rows), DocumentAttention([length] * rows)
                    hidden = model(tokens, positions, attend)
                    # All tokens are targets; a fake tensor cannot be asked which.
                    loss = _SummedCrossEntropy.apply(hidden, model.head_weight, targets, 512)
                    loss.backward()
                    del hidden, loss
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
    return int(tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"])


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
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("seed", range(100, 120))
def test_predicted_bytes_of_twenty_drawn_configurations(seed: int, recompute: Recompute) -> None:
    shape, layout = drawn(seed, most_layers=8)
    layout = replace(layout, recompute=recompute)
    assert peak_memory(shape, layout, HERD).total == pytest.approx(tracked(shape, layout), rel=0.10)


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
        saved_per_layer(model, replace(EAGER, recompute=kind, compiled=True)) for kind in ("none", "selective", "full")
    ]
    assert kept[0] > kept[1] > kept[2] == EAGER.tokens * 4 * model.dim


def test_a_pipeline_holds_as_many_micro_batches_as_the_schedule_says() -> None:
    """1F1B: one for each rank ahead.  Interleaved: (V-1) PP + 2 (PP-1) + 1 chunks (Narayanan et al. 2021)."""
    pipe = replace(EAGER, pp=4, local_batch=64, micro_batch=1)
    assert [in_flight(pipe), in_flight(pipe, first=False)] == [4, 1]
    assert [in_flight(replace(pipe, chunks=2)), in_flight(replace(pipe, chunks=2), first=False)] == [11, 5]
    assert in_flight(replace(pipe, local_batch=2)) == 2
