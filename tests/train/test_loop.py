"""The one loop: exact accumulation, exact resume after SIGKILL, skipped steps, averages, metrics."""

import importlib.util
import json
import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from herd.foundation.errors import HerdError, Interrupted
from herd.foundation.progress import Progress
from herd.foundation.seeds import numpy_from
from herd.model.config import ModelConfig
from herd.model.loss import IGNORE
from herd.model.transformer import Transformer
from herd.train.average import AverageConfig
from herd.train.batch import Batch, LossParts, document_batch, next_token_loss
from herd.train.compiled import compiler_available
from herd.train.loop import TrainConfig, TrainReport, TrainRun, train
from herd.train.schedule import OptimizerConfig

SCRIPT = Path(__file__).with_name("killed_run.py")
ROOT = Path(__file__).parents[2]
SHAPE = ModelConfig(vocab_size=64, dim=32, layers=2, heads=2, kv_heads=1, ffn_dim=48)


class Fixed:
    """The same micro-batches in every step."""

    def __init__(self, *batches: Batch) -> None:
        self._batches = list(batches)

    def batches(self, step: int) -> list[Batch]:
        return self._batches


def _model() -> Transformer:
    model = Transformer(SHAPE)
    model.init_weights(3)
    return model


def _config(steps: int = 6, **other: Any) -> TrainConfig:
    return TrainConfig(steps=steps, compile="off", tensorboard=False, **other)


def _documents(count: int = 8) -> list[tuple[list[int], list[bool]]]:
    """Documents of unequal lengths with unequal numbers of targets."""
    chance = numpy_from(5, "documents")
    documents = []
    for index in range(count):
        length = int(chance.integers(3, 30))
        mask = [place > index * length // count for place in range(length)]
        documents.append((chance.integers(0, 64, length).tolist(), mask))
    return documents


def _metrics(out: Path) -> list[dict[str, Any]]:
    """The diary's lines, which must be JSON to every reader: Python's own also takes NaN."""
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")) for line in lines]


def _train(out: Path, source: Any, loss: Any = next_token_loss, **other: Any) -> tuple[Transformer, TrainReport]:
    model = _model()
    held_out = other.pop("held_out", None)
    report = train(_config(**other), model, source, loss, out, Progress.silent(), held_out=held_out)
    return model, report


def _one_gradient(tmp_path: Path, rows: int) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradient of the same eight documents, ``rows`` to a micro-batch."""
    documents = _documents()
    parts = [documents[start : start + rows] for start in range(0, len(documents), rows)]
    source = Fixed(*(document_batch([ids for ids, _ in part], [mask for _, mask in part]) for part in parts))
    model = _model()
    run = TrainRun(
        _config(optimizer=OptimizerConfig(clip=1e9), precision="fp32"),
        model,
        source,
        next_token_loss,
        tmp_path / str(rows),
    )
    step = run.accumulate(0, 0.0)
    return step.loss, {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_accumulation_changes_neither_loss_nor_gradient(tmp_path: Path, rows: int) -> None:
    whole_loss, whole = _one_gradient(tmp_path, 8)
    loss, gradient = _one_gradient(tmp_path, rows)
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    assert whole.keys() == gradient.keys()
    for name in whole:
        torch.testing.assert_close(gradient[name], whole[name], atol=1e-6, rtol=1e-4)


def test_a_mean_of_means_would_fail_the_test_above(tmp_path: Path) -> None:
    def mean_inside(model: Any, batch: Batch) -> LossParts:
        parts = next_token_loss(model, batch)
        return LossParts(parts.total_sum / parts.weight, 1.0)

    documents = [document_batch([ids], [mask]) for ids, mask in _documents()]
    right = TrainRun(_config(), _model(), Fixed(*documents), next_token_loss, tmp_path / "right").accumulate(0, 0.0)
    wrong = TrainRun(_config(), _model(), Fixed(*documents), mean_inside, tmp_path / "wrong").accumulate(0, 0.0)
    assert abs(wrong.loss - right.loss) > 1e-3


def test_a_step_without_targets_has_loss_zero_and_no_gradient(tmp_path: Path) -> None:
    batch = document_batch([[1, 2, 3, 4]], [[False] * 4])
    assert (batch.targets_N == IGNORE).all()
    parts = next_token_loss(_model(), batch)
    assert parts.total_sum.requires_grad
    model, report = _train(tmp_path, Fixed(batch), steps=2, optimizer=OptimizerConfig(weight_decay=0.0))
    assert [line["loss"] for line in _metrics(tmp_path)] == [0.0, 0.0]
    assert report.figures["skipped"] == 0
    for name, value in _model().state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_the_loop_learns_a_document_by_heart(tmp_path: Path) -> None:
    source = Fixed(document_batch([list(range(20)), [9, 3, 9, 1, 9, 4]]))
    _, report = _train(tmp_path, source, steps=60, optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=5))
    lines = _metrics(tmp_path)
    assert lines[0]["loss"] > 3
    assert report.figures["closing_loss"] < 0.7
    assert report.figures["tokens"] == lines[-1]["tokens"] == 60 * (19 + 5)
    expected = 60 * (19 * SHAPE.flops_per_token(19) + 5 * SHAPE.flops_per_token(5))
    assert report.figures["flops"] == pytest.approx(expected)


def _helper() -> ModuleType:
    specification = importlib.util.spec_from_file_location("killed_run", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def _run_and_kill(out: Path, step: int, *options: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), str(out), str(step), *options], env=environment, timeout=200, check=False
    )
    assert ended.returncode == -signal.SIGKILL


def _assert_same_end(one: tuple[Transformer, TrainReport], other: tuple[Transformer, TrainReport]) -> None:
    states = [model.state_dict() | (report.averaged or {}) for model, report in (one, other)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def _timeless(out: Path) -> list[dict[str, Any]]:
    clocks = ("seconds", "tokens_per_second", "goodput")
    return [{k: v for k, v in line.items() if k not in clocks} for line in _metrics(out)]


def test_killed_at_random_steps_and_resumed_it_ends_bit_for_bit_the_same(tmp_path: Path) -> None:
    helper = _helper()
    whole = helper.run(tmp_path / "whole", fatal_step=-1)
    chance = random.Random(os.urandom(8))
    first, second = sorted(chance.sample(range(1, helper.STEPS), 2))
    _run_and_kill(tmp_path / "killed", first)
    _run_and_kill(tmp_path / "killed", second)
    resumed = helper.run(tmp_path / "killed", fatal_step=-1)
    newest = second // 3 * 3  # the kill may have come while it was being written
    assert resumed[1].figures["resumed_from"] in (newest, newest - 3), (first, second)
    _assert_same_end(whole, resumed)
    assert _timeless(tmp_path / "killed") == _timeless(tmp_path / "whole")
    assert not list((tmp_path / "killed" / "checkpoints").glob(".*"))


@pytest.mark.slow
@pytest.mark.skipif(compiler_available() is not None, reason="no C++ compiler to compile layers with")
def test_a_compiled_run_resumes_bit_for_bit_too(tmp_path: Path) -> None:
    helper = _helper()
    whole = helper.run(tmp_path / "whole", fatal_step=-1, compile_layers=True)
    _run_and_kill(tmp_path / "killed", 8, "compile")
    _assert_same_end(whole, helper.run(tmp_path / "killed", fatal_step=-1, compile_layers=True))


def test_a_finished_run_is_not_run_again_and_another_one_is_refused(tmp_path: Path) -> None:
    source = Fixed(document_batch([[1, 2, 3, 4]]))
    first = _train(tmp_path, source, average=AverageConfig(last=2, every=1))
    again = _train(tmp_path, source, average=AverageConfig(last=2, every=1), keep_checkpoints=5)
    assert again[1].figures["resumed_from"] == 6
    _assert_same_end(first, again)
    with pytest.raises(HerdError, match="belongs to a run of another configuration"):
        _train(tmp_path, source, seed=1)


def test_averages_are_the_mean_of_the_weights_after_the_last_steps(tmp_path: Path) -> None:
    source = Fixed(document_batch([[1, 2, 3, 4]]))
    _, report = _train(tmp_path / "whole", source, average=AverageConfig(last=3, every=2))
    model = _model()
    run = TrainRun(_config(), model, source, next_token_loss, tmp_path / "by hand")
    kept = []
    for step in range(6):
        run.take_step(step)
        if step in (1, 3, 5):
            kept.append({name: parameter.detach().clone() for name, parameter in model.named_parameters()})
    assert report.averaged is not None
    for name, value in report.averaged.items():
        torch.testing.assert_close(value, torch.stack([state[name] for state in kept]).mean(0))


class _Poisoned:
    """The plain loss, not a number in some steps."""

    def __init__(self, bad_calls: set[int]) -> None:
        self.bad_calls, self.calls = bad_calls, 0

    def __call__(self, model: Any, batch: Batch) -> LossParts:
        parts = next_token_loss(model, batch)
        bad = self.calls in self.bad_calls
        self.calls += 1
        return LossParts(parts.total_sum * math.nan if bad else parts.total_sum, parts.weight)


def test_a_step_that_is_not_finite_is_left_out_and_counted(tmp_path: Path) -> None:
    source = Fixed(document_batch([[1, 2, 3, 4]]))
    model, report = _train(tmp_path / "some", source, _Poisoned({1, 4}), steps=6)
    assert report.figures["skipped"] == 2
    lines = _metrics(tmp_path / "some")
    assert [line["skipped"] for line in lines] == [0, 1, 1, 1, 2, 2]
    assert [line["loss"] is None for line in lines] == [False, True, False, False, True, False]
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    _, report = _train(tmp_path / "all", source, _Poisoned({0, 1}), steps=2)
    assert report.figures["closing_loss"] is None


class _Spiky:
    """The plain loss, in one step a thousand times as steep."""

    def __init__(self, call: int) -> None:
        self.call, self.calls = call, 0

    def __call__(self, model: Any, batch: Batch) -> LossParts:
        parts = next_token_loss(model, batch)
        self.calls += 1
        return LossParts(parts.total_sum * (1000 if self.calls == self.call else 1), parts.weight)


def test_a_spike_is_left_out_and_counted_once_there_are_enough_steps_to_know(tmp_path: Path) -> None:
    source = Fixed(document_batch([[1, 2, 3, 4]]))
    quiet = OptimizerConfig(learning_rate=1e-5)
    for call, skipped in ((64, 0), (66, 1)):
        out = tmp_path / str(call)
        _, report = _train(out, source, _Spiky(call), steps=70, optimizer=quiet, spike=20.0, checkpoint_steps=50)
        assert report.figures["skipped"] == skipped
        assert [line["skipped"] for line in _metrics(out)].count(1) == (70 - call + 1) * skipped
    with pytest.raises(HerdError, match="of 1 steps was not finite or a spike, the last at step 65"):
        _train(tmp_path / "end", source, _Spiky(66), steps=70, optimizer=quiet, spike=20.0, max_skipped=0)


def test_asked_to_stop_the_run_saves_leaves_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def stopping(model: Any, batch: Batch) -> LossParts:
        if not (tmp_path / "asked").exists():
            (tmp_path / "asked").touch()
            os.kill(os.getpid(), signal.SIGTERM)
        return next_token_loss(model, batch)

    source = Fixed(document_batch([[1, 2, 3, 4]]))
    whole = _train(tmp_path / "whole", source)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM and saved after step 1$") as caught:
        _train(tmp_path / "stopped", source, stopping)
    assert caught.value.status == 143
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = _train(tmp_path / "stopped", source, stopping)
    assert resumed[1].figures["resumed_from"] == 1
    _assert_same_end(whole, resumed)


def test_too_many_steps_that_are_not_finite_end_the_run_with_a_sentence(tmp_path: Path) -> None:
    source = Fixed(document_batch([[1, 2, 3, 4]]))
    with pytest.raises(HerdError, match="of 3 steps was not finite, the last at step 2"):
        _train(tmp_path, source, _Poisoned(set(range(6))), max_skipped=2)


def test_held_out_sees_the_model_without_gradients_and_its_figures_are_written(tmp_path: Path) -> None:
    seen = []

    def held_out(model: Any) -> dict[str, float]:
        seen.append((model.training, torch.is_grad_enabled()))
        return {"held_out_loss": 1.5 + len(seen)}

    source = Fixed(document_batch([[1, 2, 3, 4]]))
    _, report = _train(tmp_path, source, held_out=held_out, steps=5, eval_every=2)
    assert seen == [(False, False)] * 3
    assert [line.get("held_out_loss") for line in _metrics(tmp_path)] == [None, 2.5, None, 3.5, 4.5]
    assert report.figures["held_out_loss"] == 4.5


def test_weight_decay_spares_vectors_and_gradients_are_clipped(tmp_path: Path) -> None:
    def no_gradient(model: Any, batch: Batch) -> LossParts:
        return LossParts(sum(parameter.sum() for parameter in model.parameters()) * 0.0, 1.0)  # type: ignore[arg-type]

    source = Fixed(document_batch([[1, 2, 3, 4]]))
    optimizer = OptimizerConfig(learning_rate=0.1, weight_decay=0.5, schedule="constant")
    model, _ = _train(tmp_path / "decay", source, no_gradient, steps=1, optimizer=optimizer)
    start = _model()
    torch.testing.assert_close(model.head_weight, start.head_weight * 0.95)
    assert torch.equal(model.norm.weight, start.norm.weight)
    clipped = _config(optimizer=OptimizerConfig(clip=1e-3))
    model = _model()
    run = TrainRun(clipped, model, source, next_token_loss, tmp_path / "clip")
    step = run.accumulate(0, 0.0)
    squares = sum(
        float(parameter.grad.square().sum()) for parameter in model.parameters() if parameter.grad is not None
    )
    assert step.grad_norm > 0.1
    assert math.sqrt(squares) == pytest.approx(1e-3, rel=1e-3)


def test_figures_of_a_loss_are_divided_by_the_same_weight(tmp_path: Path) -> None:
    def with_figures(model: Any, batch: Batch) -> LossParts:
        parts = next_token_loss(model, batch)
        return LossParts(parts.total_sum, parts.weight, {"copy": float(parts.total_sum.detach())})

    source = Fixed(document_batch([[1, 2, 3, 4]]), document_batch([[5, 6]]))
    _train(tmp_path, source, with_figures, steps=2)
    for line in _metrics(tmp_path):
        assert line["copy"] == pytest.approx(line["loss"])


def test_events_are_written_where_tensorboard_is_installed(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = TrainConfig(steps=3, compile="off")
    train(config, _model(), Fixed(document_batch([[1, 2, 3]])), next_token_loss, tmp_path, Progress.silent())
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = [event.value for event in events.Scalars("loss")]
    assert losses == pytest.approx([line["loss"] for line in _metrics(tmp_path)], rel=1e-6)
