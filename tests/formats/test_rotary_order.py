"""The order of rows, against its definition written out."""

import torch

from herd.formats.rotary_order import to_halves, to_pairs

HEADS, PAIRS, WIDTH = 3, 4, 5


def test_the_partners_of_a_pair_become_neighbours() -> None:
    weight = torch.arange(HEADS * 2 * PAIRS * WIDTH).view(-1, WIDTH)
    neighbours = to_pairs(weight, HEADS)
    for head in range(HEADS):
        for pair in range(PAIRS):
            for partner in (0, 1):
                halves_row = head * 2 * PAIRS + partner * PAIRS + pair
                assert torch.equal(neighbours[head * 2 * PAIRS + 2 * pair + partner], weight[halves_row])
    assert torch.equal(to_halves(neighbours, HEADS), weight)
    assert not torch.equal(neighbours, to_halves(weight, HEADS))
