"""bf16 rounds the products and nothing else; fp32 is left alone; ``auto`` asks the machine."""

from pathlib import Path

import pytest
import torch

from herd.model.config import ModelConfig
from herd.model.transformer import Transformer
from herd.train import precision
from herd.train.batch import Batch, document_batch, next_token_loss
from herd.train.loop import TrainConfig, TrainRun
from herd.train.precision import Precision, in_precision

CPU = torch.device("cpu")
SHAPE = ModelConfig(vocab_size=64, dim=64, layers=2, heads=2, kv_heads=1, ffn_dim=96, tied=True)


def loss_and_gradient(chosen: Precision) -> tuple[torch.Tensor, torch.Tensor]:
    model = Transformer(SHAPE)
    model.init_weights(3, induction=False)
    batch = document_batch([list(range(50)), list(range(10, 40))])
    with in_precision(chosen, CPU):
        loss = next_token_loss(model, batch).total_sum
    loss.backward()
    gradient = model.layers[0].get_parameter("ffn.gate.weight").grad
    assert gradient is not None
    return loss.detach(), gradient


def test_bf16_is_near_fp32_but_not_the_same_and_gradients_stay_fp32() -> None:
    exact, exact_gradient = loss_and_gradient("fp32")
    rounded, gradient = loss_and_gradient("bf16")
    assert rounded != exact
    assert float(rounded) == pytest.approx(float(exact), rel=5e-3)
    assert rounded.dtype == gradient.dtype == torch.float32
    assert torch.cosine_similarity(gradient.flatten(), exact_gradient.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("native", [True, False])
def test_auto_takes_bf16_only_where_the_machine_multiplies_it(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: native)
    expected = loss_and_gradient("bf16" if native else "fp32")
    for found, value in zip(loss_and_gradient("auto"), expected, strict=True):
        assert torch.equal(found, value)


class OneBatch:
    """The same documents in every step."""

    def batches(self, step: int) -> list[Batch]:
        return [document_batch([list(range(50)), list(range(10, 40))])]


def test_a_step_in_bf16_keeps_weights_and_optimiser_in_fp32_and_is_fused(tmp_path: Path) -> None:
    model = Transformer(SHAPE)
    model.init_weights(3)
    config = TrainConfig(steps=1, precision="bf16", compile="off", tensorboard=False)
    run = TrainRun(config, model, OneBatch(), next_token_loss, tmp_path)
    before = model.embedding.weight.detach().clone()
    assert run.take_step(0).finite
    assert not torch.equal(model.embedding.weight, before)
    kept = [tensor for state in run.optimizer.state.values() for tensor in state.values()]
    assert {tensor.dtype for tensor in [*model.parameters(), *kept]} == {torch.float32}
    assert all(group["fused"] for group in run.optimizer.param_groups)
