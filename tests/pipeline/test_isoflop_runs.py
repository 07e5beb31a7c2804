"""``herd scale run`` on tokens of one's own: runs, table and laws; what is finished is not run again."""

import csv
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from herd.cli import app
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, write_json
from herd.foundation.progress import Progress
from herd.pipeline.isoflop_runs import ScaleConfig, scale
from herd.pipeline.yaml_file import load_yaml
from herd.scaling.isoflop import plan
from herd.tokenizer.tokenizer import Tokenizer
from tests.songs import make_songs

SETTINGS = [
    "isoflop.budgets=[4e8, 8e8]",
    "isoflop.batch_tokens=128",
    "isoflop.least_tokens=128",
    "shapes={0.5m: 0.003, 0.8m: 0.002, 1m: 0.001}",
    "processes=1",
    "pretraining.sequence_length=64",
    "pretraining.held_out_tokens=500",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Token shards of counting songs, and their tokenizer."""
    return make_songs(tmp_path_factory.mktemp("made"))


def test_the_verb_spends_the_budgets_fits_and_has_nothing_to_do_again(made: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "laws"
    line = ["scale", "run", *map(str, made), "--out", str(out), *(word for one in SETTINGS for word in ("--set", one))]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, (result.output, result.exception)
    with (out / "runs.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert len(rows) == len(list((out / "runs").iterdir())) >= 4
    for row in rows:
        assert 6 * row["params"] * row["tokens"] == pytest.approx(row["budget"], rel=0.5)
        assert 1 < row["loss"] < 8
    assert {"alpha", "not_fitted"} & set(read_json(out / "laws.json"))
    assert "nothing to do" in CliRunner().invoke(app, line).output


def test_forecasts_of_larger_budgets_are_written_and_then_measured(made: tuple[Path, Path], tmp_path: Path) -> None:
    """The small runs are those of a law, as if made before; the two that check it are trained."""
    own = "own_shapes={wee: {dim: 32, layers: 2, heads: 2, kv_heads: 1, ffn_dim: 64}}"
    shapes = "shapes={wee: 0.004, 0.5m: 0.003, 0.8m: 0.002, 1m: 0.001}"
    config = load_yaml(ScaleConfig, None, [*SETTINGS, own, shapes, "isoflop.budgets=[4e8, 8e8, 16e8]", "check=[2, 3]"])
    vocabulary = Tokenizer.load(made[1]).vocab_size
    for run in plan(config.isoflop, {name: config.shape(name, vocabulary).parameters for name in config.shapes}):
        loss = 5 - 0.1 * np.log(run.budget) + 0.05 * np.log(run.tokens / (0.02 * run.budget**0.5)) ** 2
        write_json(tmp_path / "runs" / run.name / "stats.json", {"held_out": loss})
    scale(config, *made, tmp_path, Progress.silent())
    rows = read_json(tmp_path / "forecasts.json")
    assert [row["budget"] for row in rows] == [32e8, 48e8]
    for row in rows:
        assert row["losses"]["line"]["loss"] == pytest.approx(5 - 0.1 * np.log(row["budget"]), abs=0.05)
        assert (
            row["measured"]
            == read_json(tmp_path / "runs" / f"{row['budget']!r}-{row['run']['size']}" / "stats.json")["held_out"]
        )
        assert row["errors"]["line"] == pytest.approx(row["losses"]["line"]["loss"] / row["measured"] - 1)


@pytest.mark.slow
def test_an_interrupted_call_makes_only_the_runs_that_are_missing(made: tuple[Path, Path], tmp_path: Path) -> None:
    config = load_yaml(ScaleConfig, None, SETTINGS)
    scale(config, *made, tmp_path, Progress.silent())
    table = (tmp_path / "runs.csv").read_text()
    (lost,) = [path for path in (tmp_path / "runs").iterdir() if path.name.startswith("800000000.0-0.5m")]
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/stats.json")}
    (lost / "stats.json").unlink()
    scale(config, *made, tmp_path, Progress.silent())
    assert (tmp_path / "runs.csv").read_text() == table
    again = [path for path, time in finished.items() if path.stat().st_mtime_ns != time]
    assert again == [lost / "stats.json"]


def test_tokens_without_held_out_documents_and_hopeless_budgets_are_refused(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "tokens").mkdir()
    with pytest.raises(HerdError, match="holds no held-out documents"):
        scale(load_yaml(ScaleConfig, None, SETTINGS), tmp_path / "tokens", made[1], tmp_path / "out", Progress.silent())
    poor = [*SETTINGS, "isoflop.budgets=[1e3]"]
    with pytest.raises(HerdError, match="no budget is large enough"):
        scale(load_yaml(ScaleConfig, None, poor), *made, tmp_path / "out", Progress.silent())


@pytest.mark.slow
def test_runs_that_fix_no_law_are_kept(made: tuple[Path, Path], tmp_path: Path) -> None:
    """A refusal at the end must not cost the runs: the sentence goes where the laws would be."""
    config = load_yaml(ScaleConfig, None, [*SETTINGS, "isoflop.budgets=[8e8]"])
    scale(config, *made, tmp_path, Progress.silent())
    assert "no IsoFLOP fit" in read_json(tmp_path / "laws.json")["not_fitted"]
    assert (tmp_path / "runs.csv").exists()
