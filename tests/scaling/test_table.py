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
    assert fitted["at"]["tokens"] == pytest.approx(16.29e12, rel=0.02)
    assert "at 3.8e+25 FLOPs" in describe_fit(fitted)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("budget,params,loss\n1,2,3\n", "the column tokens is missing"),
        ("budget,params,tokens,loss\n1e18,2,3,x\n", r"line 2: loss is 'x', not a number"),
        ("budget,params,tokens,loss\n1e18,2,3,1\n1e18,-2,3,1\n", r"line 3: params is -2, it must be positive"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(HerdError, match=sentence):
        fit_table(path)
