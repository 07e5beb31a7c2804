"""A Hugging Face directory written parameter by parameter, and read part by part."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from herd.formats.huggingface import huggingface_name, open_transformer, save_model, save_weights
from herd.foundation.errors import HerdError
from herd.model.transformer import RewardModel
from tests.formats.small import small_transformer

WEIGHTS = "model.safetensors"


@pytest.mark.parametrize("tied", [False, True])
def test_parameters_that_come_one_by_one_make_the_same_directory(tied: bool, tmp_path: Path) -> None:
    model = small_transformer(tied)
    save_model(model, None, tmp_path / "whole")
    save_weights(reversed(list(model.named_parameters())), model.config, None, tmp_path / "parts")
    for name in ("config.json", "generation_config.json"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "parts" / name).read_text()
    whole, parts = load_file(tmp_path / "whole" / WEIGHTS), load_file(tmp_path / "parts" / WEIGHTS)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_part_of_a_tensor_is_read_alone(tmp_path: Path) -> None:
    model = small_transformer()
    save_model(model, None, tmp_path)
    source = open_transformer(tmp_path)
    parameters = dict(model.named_parameters())
    for name, where in {
        "layers.0.ffn.up.weight": (slice(3, 9), slice(2, 5)),
        "embedding.weight": (slice(500, 512), slice(0, 64)),
        "norm.weight": (slice(1, 2),),
    }.items():
        assert torch.equal(source.read_part(huggingface_name(name), where), parameters[name][where])
    with torch.no_grad():
        parameters["norm.weight"][5] = torch.nan
    save_model(model, None, tmp_path)
    source = open_transformer(tmp_path)
    source.read_part("model.norm.weight", (slice(0, 5),))
    with pytest.raises(HerdError, match=r"model\.safetensors: tensor model\.norm\.weight"):
        source.read_part("model.norm.weight", (slice(4, 6),))


def test_a_reward_model_has_no_parts_for_a_language_model(tmp_path: Path) -> None:
    save_model(RewardModel.from_transformer(small_transformer(), 1), None, tmp_path)
    with pytest.raises(HerdError, match="is a reward model, a language model is needed here"):
        open_transformer(tmp_path)
