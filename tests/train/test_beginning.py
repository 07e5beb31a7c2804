"""Where training begins, in whole and in parts."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from herd.formats.huggingface import save_model
from herd.foundation.errors import HerdError
from herd.model.config import ModelConfig, pocket_config
from herd.model.transformer import RewardModel, Transformer
from herd.train.beginning import Beginning, begin_with

SHAPE = ModelConfig(vocab_size=70, dim=32, layers=2, heads=2, kv_heads=1, ffn_dim=48, max_positions=64)


def lower_right(beginning: Beginning, name: str, whole: Tensor) -> Tensor:
    """The last third of the rows, and of these the last half of the columns."""
    offset = (2 * len(whole) // 3, *(size // 2 for size in whole.shape[1:]))
    place = torch.full([size - begin for size, begin in zip(whole.shape, offset, strict=True)], torch.nan)
    beginning.fill(place, name, whole.shape, offset)
    assert torch.equal(place, whole[tuple(slice(begin, None) for begin in offset)]), name
    return place


@pytest.mark.parametrize("shape", [SHAPE, pocket_config("0.5m", 300)])
def test_fresh_parts_are_those_of_the_fresh_network(shape: ModelConfig) -> None:
    beginning = begin_with(shape, 4, 32)
    for name, parameter in beginning.whole().named_parameters():
        lower_right(beginning, name, parameter.detach())


def test_a_stored_model_begins_in_fp32_with_room_for_longer_rows(tmp_path: Path) -> None:
    model = Transformer(SHAPE)
    model.init_weights(1)
    save_model(model, None, tmp_path, torch.bfloat16)
    beginning = begin_with(tmp_path, 4, 256)
    assert beginning.shape.max_positions == beginning.whole().config.max_positions == 256
    for name, parameter in beginning.whole().named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, dict(model.named_parameters())[name].bfloat16().float())
        lower_right(beginning, name, parameter.detach())


def test_a_reward_model_is_no_beginning(tmp_path: Path) -> None:
    save_model(RewardModel.from_transformer(begin_with(SHAPE, 1, 32).whole(), 2), None, tmp_path)
    with pytest.raises(HerdError, match="is a reward model, a language model is needed here"):
        begin_with(tmp_path, 1, 32)
