"""Starting weights drawn in parts: the same elements as those of the whole network, however it is cut."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from herd.model import fresh
from herd.model.config import ModelConfig
from herd.model.fresh import FreshWeights, normal_rows
from herd.model.induction import has_room
from herd.model.transformer import Transformer

PLAIN = ModelConfig(vocab_size=61, dim=36, layers=3, heads=6, kv_heads=3, ffn_dim=50)
CIRCUIT = ModelConfig(vocab_size=70, dim=64, layers=4, heads=2, kv_heads=1, ffn_dim=48, tied=True)


@pytest.mark.parametrize("shape", [(1, 9), (48, 1), (49, 1), (17, 3), (33, 5), (100, 7), (128, 16), (65, 40)])
def test_blocks_are_what_is_drawn_at_once(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "_BLOCK", 32)
    blocks = list(normal_rows(shape, 0.5, 3))
    assert len(blocks) > 1 or shape[0] <= 17
    assert [start for start, _ in blocks] == [sum(len(rows) for _, rows in blocks[:i]) for i in range(len(blocks))]
    drawn = torch.cat([rows for _, rows in blocks])
    assert torch.equal(drawn, torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 0.5)


@pytest.mark.parametrize("config", [PLAIN, CIRCUIT, replace(PLAIN, vocab_size=3, ffn_dim=2)])
def test_parts_are_those_of_the_whole_network(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_room(config) == config.tied
    model = Transformer(config)
    model.init_weights(5)
    monkeypatch.setattr(fresh, "_BLOCK", 256)
    weights = FreshWeights(config, 5)
    for name, parameter in reversed(list(model.named_parameters())):
        for offset, part in _parts(parameter.detach()):
            place = torch.full(part.shape, torch.nan)
            weights.fill(place, name, parameter.shape, offset)
            assert torch.equal(place, part), (name, offset)


def _parts(whole: Tensor) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Uneven thirds of the rows, each in halves of its columns where there are columns."""
    for rows in torch.arange(len(whole)).tensor_split(3):
        if len(rows):
            first, part = int(rows[0]), whole[rows]
            half = part.shape[-1] // 2
            if part.ndim == 1:
                yield (first,), part
            else:
                yield (first, 0), part[:, :half]
                yield (first, half), part[:, half:]


def test_seeds_and_names_draw_their_own_numbers() -> None:
    places = [torch.empty(8, 8) for _ in range(3)]
    FreshWeights(PLAIN, 1).fill(places[0], "layers.0.ffn.up.weight", (50, 36), (0, 0))
    FreshWeights(PLAIN, 2).fill(places[1], "layers.0.ffn.up.weight", (50, 36), (0, 0))
    FreshWeights(PLAIN, 1).fill(places[2], "layers.1.ffn.up.weight", (50, 36), (0, 0))
    assert not torch.allclose(places[0], places[1])
    assert not torch.allclose(places[0], places[2])
