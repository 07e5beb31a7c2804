"""What a careful reader leaves out is named: planted faults are found, clean tables give no doubt."""

import numpy as np

from herd.scaling.careful import is_isoflop, keep, review
from herd.scaling.laws import ParametricLaw, Point
from tests.scaling.published import chinchilla, present

LAW = ParametricLaw(E=1.7, A=400.0, B=2000.0, alpha=0.34, beta=0.37)


def clean(noise: float = 1e-3, off_centre: float = 1.0) -> list[Point]:
    """Five sizes around the optimum of five budgets; those of the largest are shifted by ``off_centre``."""
    generator = np.random.default_rng(1)
    points = []
    for budget in (1e18, 1e19, 1e20, 1e21, 1e22):
        for ratio in (0.25, 0.5, 1, 2, 4):
            tokens = LAW.optimal_tokens(budget) * ratio * (off_centre if budget == 1e22 else 1)
            params = budget / (6 * tokens)
            points.append(Point(budget, params, tokens, LAW(params, tokens) * (1 + noise * generator.normal())))
    return points


def test_a_clean_table_gives_no_doubt() -> None:
    assert review(clean()) == []
    assert review(clean(noise=0.0)) == []


def test_a_row_that_stands_twice_and_one_that_was_run_twice() -> None:
    points = clean()
    again = Point(points[3].budget, points[3].params, points[3].tokens, points[3].loss * 1.004)
    doubts = review([*points, points[3], again])
    assert [(doubt.index, doubt.left_out_of) for doubt in doubts] == [(25, "every fit"), (26, "none")]


def test_a_diverged_run_is_named_and_left_out_of_every_fit() -> None:
    points = clean()
    points[7] = Point(points[7].budget, points[7].params, points[7].tokens, points[7].loss * 1.15)
    (doubt,) = review(points)
    assert doubt.index == 7
    assert "outlier: the loss is +15%" in doubt.reason
    assert keep(points, [doubt]) == points[:7] + points[8:]


def test_a_budget_whose_sizes_lie_to_one_side_is_left_out_of_the_parabolas_only() -> None:
    points = clean(off_centre=6.0)
    doubts = review(points)
    assert [doubt.index for doubt in doubts] == [20, 21, 22, 23, 24]
    assert all("off-centre budget 1e+22" in doubt.reason and "fewer tokens" in doubt.reason for doubt in doubts)
    assert len(keep(points, doubts)) == 25
    assert keep(points, doubts, parabolas=True) == points[:20]


def test_runs_scattered_over_budgets_are_no_isoflop_table() -> None:
    assert is_isoflop(clean())
    scattered = [Point(p.budget * 1.1**i, p.params, p.tokens * 1.1**i, p.loss) for i, p in enumerate(clean())]
    assert not is_isoflop(scattered)


@present
def test_the_outliers_of_the_chinchilla_figure_contain_the_published_five() -> None:
    """The public refit left out its five highest losses, all of runs with the fewest tokens a parameter."""
    points = chinchilla()
    five = {points.index(point) for point in sorted(points, key=lambda point: -point.loss)[:5]}
    found = {doubt.index for doubt in review(points) if doubt.reason.startswith("outlier")}
    assert five <= found
    assert len(found) <= 8
    assert max(points[index].tokens / points[index].params for index in found) < 0.6
