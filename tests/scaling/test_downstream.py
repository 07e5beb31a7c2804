"""The two steps on models of a known relation, on 104 published models, and mistakes named by line."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from herd.foundation.errors import HerdError
from herd.scaling.downstream import Model, TwoSteps, describe_forecast, fit_two_steps, forecast_accuracy, read_models
from tests.scaling.published import SCALING, present

TRUTH = TwoSteps(slope=-0.03, intercept=1.9, floor=0.25, ceiling=0.98, steepness=30.0, middle=1.27)


def models(noise: float = 0.0) -> list[Model]:
    """Nine models up to 1e22 FLOPs, and four older ones without FLOPs that reach lower losses."""
    generator = np.random.default_rng(0)
    young = [(flops, TRUTH.nll(flops)) for flops in np.geomspace(6e18, 1e22, 9)]
    old = [(None, nll) for nll in (1.30, 1.26, 1.22, 1.19)]
    return [Model(flops, nll + noise * generator.normal(), TRUTH.accuracy(nll)) for flops, nll in [*young, *old]]


def test_a_known_relation_is_found_and_carried_four_orders_of_magnitude() -> None:
    found = forecast_accuracy(models(noise=5e-4), 3.8e25, chance=0.25)
    truth = TRUTH.accuracy(TRUTH.nll(3.8e25))
    assert found["nll"] == pytest.approx(TRUTH.nll(3.8e25), abs=0.005)
    assert found["accuracy"] == pytest.approx(truth, abs=0.02)
    low, high = found["accuracy_interval"]
    assert low <= truth <= high
    assert found["warnings"] == []
    assert "at 3.8e+25 FLOPs" in describe_forecast(found)


def test_models_without_flops_take_no_part_in_the_line() -> None:
    strange = [Model(None, 5.0, 0.25)]
    assert fit_two_steps([*models(), *strange], 0.25).slope == pytest.approx(fit_two_steps(models(), 0.25).slope)


def test_losses_that_flatten_are_warned_of() -> None:
    bent = [Model(flops, 1 + (flops / 1e18) ** -0.2, 0.3) for flops in np.geomspace(1e16, 1e21, 9)]
    (warning,) = forecast_accuracy([*bent, *models()[9:]], 1e23)["warnings"]
    assert "flatten" in warning


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("flops,nll\n1,2\n", "the column accuracy is missing"),
        ("flops,nll,accuracy\n1e20,,0.5\n", "line 2: nll is empty"),
        ("flops,nll,accuracy\n1e20,1.2,57\n", "line 2: accuracy is 57, it must be a share"),
        ("flops,nll,accuracy\n-1,1.2,0.5\n", "line 2: flops is -1, it must be positive"),
        ("flops,nll,accuracy\nmany,1.2,0.5\n", "line 2: flops is 'many', not a number"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "models.csv"
    path.write_text(text)
    with pytest.raises(HerdError, match=sentence):
        read_models(path)


def test_too_little_to_fit_is_refused() -> None:
    with pytest.raises(HerdError, match="at least 3 budgets"):
        fit_two_steps(models()[9:])
    with pytest.raises(HerdError, match="does not fall"):
        fit_two_steps([Model(flops, 1.0 + index, 0.5) for index, flops in enumerate((1e18, 1e19, 1e20, 1e21, 1e22))])


def published(task: str) -> list[tuple[str, float, float, float, float]]:
    """Name, tokens-per-parameter multiple, FLOPs, loss on C4 and accuracy of every published model."""
    found = []
    with tarfile.open(SCALING / "downstream" / "exp_data.tar.xz") as archive:
        texts = {member.name: archive.extractfile(member) for member in archive if member.name.endswith(".json")}
        read = {name: json.load(io.TextIOWrapper(file, "utf-8")) for name, file in texts.items() if file is not None}
    for name, model in read.items():
        if not name.startswith("exp_data/models/"):
            continue
        stem, settings = Path(name).stem, model["hyperparameters"]
        (loss,) = [one["loss"] for one in model["results"] if "c4_val" in one["val_data"][0]]
        scores = read[f"exp_data/evals/evaluation_{stem}_heavy.json"]["eval_metrics"]["icl"]
        flops = 6.0 * settings["params"] * settings["tokens"]
        found.append((stem, settings["chinchilla_multiplier"], flops, loss, scores[task]))
    return found


@present
@pytest.mark.slow
def test_accuracy_of_the_largest_published_model_from_those_of_a_tenth_of_its_compute() -> None:
    """Loss on C4 stands in for the loss on the answers, which the set has not; arc_easy and piqa within 5 points."""
    for task, chance in (("arc_easy", 0.25), ("piqa", 0.5)):
        rows = published(task)
        assert len(rows) == 104
        name, _, flops, _, truth = max((row for row in rows if row[1] == 1.0), key=lambda row: row[2])
        data = name.split("-")[0]
        table = [
            Model(row[2] if row[1] == 1.0 and row[0].startswith(data) else None, row[3], row[4])
            for row in rows
            if row[2] <= flops / 10
        ]
        found = forecast_accuracy(table, flops, chance, line_from=2e18)
        assert abs(found["accuracy"] - truth) < 0.05
