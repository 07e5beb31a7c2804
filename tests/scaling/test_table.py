"""A user's table: the paper's own law from points made by it, and mistakes named by line."""

from pathlib import Path

import numpy as np
import pytest

from herd.foundation.errors import HerdError
from herd.scaling.table import describe_fit, fit_table


def write(path: Path, rows: list[tuple[object, ...]]) -> Path:
    path.write_text("budget,params,tokens,loss\n" + "\n".join(",".join(map(str, row)) for row in rows) + "\n")
    return path


def test_the_papers_law_comes_back_and_extrapolates_to_its_flagship(tmp_path: Path) -> None:
    """N*(C) = 0.299 C^0.537 (Figure 3) gives about 16.3T tokens at 3.8e25 FLOPs; the paper states 16.55T."""
    rows = []
    for budget in (6e18, 1e20, 1e21, 1e22):
        best = 0.299 * budget**0.537
        for ratio in (0.25, 0.5, 1, 2, 4):
            tokens = best * ratio
            rows.append((budget, budget / (6 * tokens), tokens, 0.02 * np.log(ratio) ** 2 + 3 * budget**-0.03))
    fitted = fit_table(write(tmp_path / "runs.csv", rows), at=3.8e25)
    assert fitted["alpha"] == pytest.approx(0.537, abs=1e-3)
    assert fitted["A"] == pytest.approx(0.299, rel=0.05)
    assert fitted["tokens"] == fitted["at"]["tokens"] == pytest.approx(16.29e12, rel=0.02)
    assert fitted["params"] == pytest.approx(389e9, rel=0.02)
    assert fitted["doubts"] == []
    assert "at 3.8e+25 FLOPs" in describe_fit(fitted)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("budget,params,loss\n1,2,3\n", "the column tokens is missing"),
        ("budget,params,tokens,loss\n1e18,2,3\n", r"line 2: loss is '', not a number"),
        ("budget,params,tokens,loss\n1e18,2,3,1\n1e18,2,3,1,0\n", r"line 3: more fields than columns"),
        ("\ufeffbudget,params,tokens,loss\n1e18,2,3,x\n", r"line 2: loss is 'x'"),
        ("budget,params,tokens,loss\n1e18,2,3,x\n", r"line 2: loss is 'x', not a number"),
        ("budget,params,tokens,loss\n1e18,2,3,1\n1e18,-2,3,1\n", r"line 3: params is -2, it must be positive"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(HerdError, match=sentence):
        fit_table(path)


def table_of_two() -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for name, shift in (("web", 1.0), ("books", 3.0)):
        for budget in (1e18, 1e19, 1e20):
            for ratio in (0.25, 0.5, 1, 2, 4):
                tokens = shift * budget**0.5 * ratio
                rows.append((budget, budget / (6 * tokens), tokens, 2 + 0.02 * np.log(ratio) ** 2, name))
    return rows


def write_with(path: Path, column: str, rows: list[tuple[object, ...]]) -> Path:
    text = write(path, rows).read_text()
    path.write_text(text.replace("loss\n", f"loss,{column}\n", 1))
    return path


def test_a_table_of_two_experiments_says_so_and_fits_one_on_demand(tmp_path: Path) -> None:
    path = write_with(tmp_path / "runs.csv", "data", table_of_two())
    together = fit_table(path)
    assert any("data holds 2 values (books, web)" in sentence for sentence in together["warnings"])
    alone = fit_table(path, only=["data=books"])
    assert alone["rows"] == 15
    assert alone["optima"][0]["tokens"] == pytest.approx(3e9)
    with pytest.raises(HerdError, match="no row to fit with data=code"):
        fit_table(path, only=["data=code"])
    with pytest.raises(HerdError, match="the column kind is missing"):
        fit_table(path, only=["kind=web"])


def test_left_out_rows_are_named_by_line_and_both_fits_are_shown(tmp_path: Path) -> None:
    rows = [row[:4] for row in table_of_two()[:15]]
    rows[5] = (*rows[5][:3], 2.6)
    fitted = fit_table(write(tmp_path / "runs.csv", [*rows, rows[0]]))
    assert [(doubt["lines"], doubt["left_out_of"]) for doubt in fitted["doubts"]] == [
        ([7], "every fit"),
        ([17], "every fit"),
    ]
    assert fitted["all_points"]["isoflop"]["optima"] != fitted["optima"]
    text = describe_fit(fitted)
    assert "left out: line 7: outlier" in text
    assert "with all 16 rows" in text


def test_budgets_that_differ_by_a_step_are_one(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [(row[0] * (1 + 0.01 * generator.random()), *row[1:4]) for row in table_of_two()[:15]]
    assert len(fit_table(write(tmp_path / "runs.csv", rows))["optima"]) == 3


@pytest.mark.parametrize("at", [-1.0, float("nan"), float("inf")])
def test_an_impossible_budget_is_refused(tmp_path: Path, at: float) -> None:
    with pytest.raises(HerdError, match="--at is"):
        fit_table(write(tmp_path / "runs.csv", [row[:4] for row in table_of_two()]), at=at)


def test_too_few_points_for_either_method_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HerdError, match=r"no IsoFLOP fit: .*; no parametric fit: "):
        fit_table(write(tmp_path / "runs.csv", [row[:4] for row in table_of_two()[:3]]))
