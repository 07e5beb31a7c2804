"""The mean of models is the mean of their tensors."""

from pathlib import Path

import pytest
import torch

from herd.align.average import AverageModelsConfig, average
from herd.formats.huggingface import load_model, save_model
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.model.transformer import Transformer


def test_the_mean_is_taken_tensor_by_tensor(base: Path, model: Transformer, tmp_path: Path) -> None:
    other = Transformer(model.config)
    other.init_weights(seed=9)
    save_model(other, base, tmp_path / "other")
    average(AverageModelsConfig(weights=(3, 1)), [base, tmp_path / "other"], tmp_path / "mean", Progress.silent())
    mean = load_model(tmp_path / "mean").state_dict()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(mean[name], 0.75 * tensor + 0.25 * other.state_dict()[name])


def test_nothing_to_average_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(HerdError, match="no model"):
        average(AverageModelsConfig(), [], tmp_path, Progress.silent())
