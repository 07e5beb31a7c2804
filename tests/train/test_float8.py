"""float8: refused with a sentence where it cannot be; in torchao's emulation near fp32, and only products change."""

from pathlib import Path

import pytest
import torch

from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.model.config import ModelConfig
from herd.model.transformer import Transformer
from herd.train import float8
from herd.train.batch import document_batch, next_token_loss
from herd.train.float8 import check_float8, multiply_in_float8
from herd.train.loop import TrainConfig, train

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
SHAPE = ModelConfig(vocab_size=64, dim=64, layers=2, heads=2, kv_heads=1, ffn_dim=96, tied=True)


def model() -> Transformer:
    made = Transformer(SHAPE)
    made.init_weights(3, induction=False)
    return made


class NoBatches:
    """Nothing to train on: the refusal comes first."""

    def batches(self, step: int) -> list:
        raise AssertionError("a batch was asked for")


def test_a_cpu_is_refused_before_a_step(tmp_path: Path) -> None:
    config = TrainConfig(steps=1, precision="float8")
    with pytest.raises(HerdError, match="precision float8: needs a GPU, this training is on the cpu; choose auto"):
        train(config, model(), NoBatches(), next_token_loss, tmp_path / "run", Progress.silent())
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("capability", "installed", "processes", "sentence"),
    [
        ((8, 0), True, 1, "needs a GPU of compute capability 8.9, A100 has 8.0; choose bf16"),
        ((9, 0), False, 1, "torchao is not installed"),
        ((9, 0), True, 4, "not proven on several processes, here are 4"),
        ((9, 0), True, 1, None),
    ],
)
def test_a_gpu_is_refused_where_something_is_missing(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], installed: bool, processes: int, sentence: str | None
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
    monkeypatch.setattr(float8.importlib.util, "find_spec", lambda name: object() if installed else None)
    if sentence is None:
        check_float8(GPU, processes)
        return
    with pytest.raises(HerdError, match=sentence):
        check_float8(GPU, processes)


@pytest.mark.slow
def test_emulated_products_are_near_the_exact_ones_and_parameters_stay_what_they_are() -> None:
    pytest.importorskip("torchao", reason="torchao is not installed (extra float8)")
    batch = document_batch([list(range(50)), list(range(10, 40))])
    exact, rounded = model(), model()
    before = {name: id(parameter) for name, parameter in rounded.named_parameters()}
    multiply_in_float8(rounded, emulate=True)
    multiply_in_float8(rounded, emulate=True)
    assert {name: id(parameter) for name, parameter in rounded.named_parameters()} == before
    kinds = [type(module).__name__ for module in rounded.modules()]
    assert kinds.count("Float8Linear") == 7 * SHAPE.layers
    losses = [next_token_loss(each, batch).total_sum for each in (exact, rounded)]
    assert losses[0] != losses[1]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.02)
    for loss in losses:
        loss.backward()
    for (name, one), other in zip(exact.named_parameters(), rounded.parameters(), strict=True):
        assert other.grad is not None
        assert other.grad.dtype == torch.float32
        # Three bits of a weight's and an input's fraction are left, two of a gradient's.
        assert torch.cosine_similarity(one.grad.flatten(), other.grad.flatten(), dim=0) > 0.95, name
