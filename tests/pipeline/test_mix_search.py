"""The mix search: its statistics against independent ones, its graph, its mistakes, and the whole in miniature."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from herd.cli import app
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json
from herd.pipeline.mix_comparison import Run, as_text, compare, line_at, mean_interval
from herd.pipeline.mix_search import load_mix_search, search_stages


def losses(mix: str, size: str, seed: int, flops: float, loss: float) -> Run:
    return Run(mix, size, seed, flops, {"judged": loss, "held_out/general": loss + 0.1, "held_out/code": loss - 0.1})


def made(edge: float, noise: float, generator: np.random.Generator, seeds: int = 3) -> list[Run]:
    """Runs whose loss is 50 C^-0.1 but for noise that pairs share in part; mix b is better by ``edge`` in the log."""
    runs = []
    for size, flops in (("s", 1e10), ("m", 1e11)):
        for seed in range(seeds):
            shared = generator.normal(0, noise)
            for mix, gain in (("a", 0.0), ("b", edge)):
                log = np.log(50) - 0.1 * np.log(flops) + shared + generator.normal(0, noise / 4) - gain
                runs.append(losses(mix, size, seed, flops, float(np.exp(log))))
    return runs


def test_the_interval_of_a_mean_is_students() -> None:
    values = [1.0, 1.4, 0.9, 1.2]
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found["low"], found["high"]) == pytest.approx((low, high))


def test_the_interval_of_a_line_covers_new_values_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    x, hits = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0], 0
    for _ in range(1000):
        found = line_at(x, [2 - 0.5 * each + generator.normal(0, 0.1) for each in x], 3.0)
        hits += found["low"] <= 2 - 1.5 + generator.normal(0, 0.1) <= found["high"]
    assert 0.93 < hits / 1000 < 0.97


def test_a_better_mix_is_found_and_the_forecast_is_right() -> None:
    found = compare(made(0.05, 0.01, np.random.default_rng(1)), 1e12)
    assert found["best"]["mix"] == "b"
    assert found["sizes"]["m"]["mixes"]["b"]["verdict"] == "better"
    assert found["forecast"]["b"]["ratio"]["value"] == pytest.approx(np.exp(-0.05), abs=0.02)
    truth = 50 * 1e12**-0.1
    judged = found["forecast"]["a"]["judged"]
    assert judged["low"] < truth < judged["high"]
    assert found["forecast"]["a"]["exponent"] == pytest.approx(-0.1, abs=0.02)
    assert "b does best" in as_text(found)


def test_equal_mixes_are_rarely_told_apart() -> None:
    generator = np.random.default_rng(3)
    verdicts = [compare(made(0.0, 0.01, generator), 1e12)["sizes"]["m"]["mixes"]["b"]["verdict"] for _ in range(300)]
    assert 0.02 < 1 - verdicts.count("not told apart") / 300 < 0.09


def test_pairs_see_what_their_own_noise_would_hide() -> None:
    runs = made(0.01, 0.02, np.random.default_rng(5), seeds=6)
    row = compare(runs, 1e12)["sizes"]["m"]["mixes"]["b"]
    assert row["verdict"] == "better"
    apart = stats.ttest_ind(*([r.losses["judged"] for r in runs if r.size == "m" and r.mix == mix] for mix in "ab"))
    assert apart.pvalue > 0.05


def test_a_far_forecast_and_a_broken_run_are_said() -> None:
    runs = made(0.05, 0.01, np.random.default_rng(1))
    assert any("a line that far" in note for note in compare(runs, 1e14)["notes"])
    with pytest.raises(HerdError, match="mix a, s, seed 9: the loss is no number"):
        compare([*runs, losses("a", "s", 9, 1e10, float("nan"))], 1e12)


def test_one_size_gives_no_forecast() -> None:
    runs = [run for run in made(0.05, 0.01, np.random.default_rng(1)) if run.size == "s"]
    found = compare(runs, 1e12)
    assert "forecast" not in found
    assert any("one size only" in note for note in found["notes"])
    assert "forecast  " not in as_text(found)


def test_sizes_of_equal_compute_give_no_forecast_either() -> None:
    runs = [replace(run, flops=1e10) for run in made(0.05, 0.01, np.random.default_rng(1))]
    found = compare(runs, 1e12)
    assert "forecast" not in found
    assert np.isfinite(list(found["best"]["forecast"].values())).all()


def test_a_mix_that_is_added_leaves_the_others_as_they_are() -> None:
    before = {stage.name: stage for stage in search_stages(load_mix_search("mix-search", []))}
    after = {stage.name: stage for stage in search_stages(load_mix_search("mix-search", ["mixes.even={general: 1}"]))}
    assert set(after) - set(before) == {"runs-even"}
    for name in ("pages", "corpus", "tokenizer", "tokens", "runs-as-published", "runs-more-code"):
        assert before[name].config == after[name].config, name
    assert before["comparison"].config != after["comparison"].config


def test_another_seed_reaches_everything() -> None:
    one, other = (load_mix_search("mix-search", [f"seed={seed}"]) for seed in (7, 8))
    assert one.corpus.split.seed != other.corpus.split.seed
    assert one.pretraining.seed != other.pretraining.seed


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("mixes={one: {general: 1}}", "mixes: dictionary should have at least 2 items"),
        ("mixes.none={}", "none: weights must not be negative and must add up"),
        ("mixes.less={general: -1, code: 2}", "less: weights must not be negative"),
        ("sizes.small.shape=9z", "there is no pocket size '9z'"),
        ("seeds=1", "seeds: input should be greater than or equal to 2"),
        ("mixs={}", "mixs: there is no such key; did you mean mixes?"),
    ],
)
def test_mistakes_are_named(override: str, sentence: str) -> None:
    result = CliRunner().invoke(app, ["run", "mix-search", "--dry-run", "--set", override])
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_the_plan_is_printed() -> None:
    result = CliRunner().invoke(app, ["run", "mix-search", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "smallest       6 runs of" in result.output


@pytest.mark.slow
def test_the_whole_search_in_miniature(tmp_path: Path) -> None:
    line = ["run", "mix-search", "--set", f"output={tmp_path}/out", "--set", "processes=1"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = read_json(tmp_path / "out" / "comparison" / "comparison.json")
    # What a mix has more of it learns better.
    at_size = found["sizes"]["small"]["mixes"]["more-code"]
    assert at_size["code"]["value"] < at_size["general"]["value"]
    large = read_json(tmp_path / "out" / "large" / "stats.json")
    assert large["trained_on"] == found["best"]["mix"]
    again = CliRunner().invoke(app, line)
    assert "0 of 8 stages ran" in again.output
    wrong = CliRunner().invoke(app, [*line, "--set", "mixes.maths={math: 1}"])
    assert wrong.exit_code == 2
    assert "mix maths: the corpus has no math documents" in wrong.output
