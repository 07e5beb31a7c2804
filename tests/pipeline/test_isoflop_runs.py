"""``herd scale run`` on tokens of one's own: runs, table and laws; what is finished is not run again."""

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from herd.cli import app
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json
from herd.foundation.progress import Progress
from herd.pipeline.isoflop_runs import ScaleConfig, scale
from herd.pipeline.yaml_file import load_yaml
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
