"""The search, the verb's JSON, machines' files, and everything that is refused before it is reckoned."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from herd.cli import app
from herd.foundation.errors import HerdError
from herd.plan.machine_file import Machine, load_machine, machine_names
from herd.plan.planner import Request, describe_training, find_model, plan_training

LARGE = Request(model="llama3.1-405b", machine="h100-80gb", gpus=16_384, global_batch=2048)


def test_the_search_finds_a_layout_as_fast_as_the_papers() -> None:
    """Section 3.3.2 settled on TP 8, PP 16, DP 128 at 8K; the search must find nothing slower."""
    papers = plan_training(Request("llama3.1-405b", "h100-80gb", 16_384, local_batch=16, tp=8, cp=1, pp=16, dp=128))
    found = plan_training(LARGE)
    assert found["tokens_per_s_per_gpu"] >= papers["tokens_per_s_per_gpu"]
    assert found["fits"]
    assert found["layout"]["tp"] == 8
    assert found["runner_up"]["slower_by"] > 0
    assert "of" in found["why"]
    text = describe_training(found)
    assert "it loses most to" in text
    assert "of the time trains" in text


def test_degrees_that_are_given_are_kept() -> None:
    layout = plan_training(Request("llama3.1-70b", "h100-80gb", 64, global_batch=64, tp=4))["layout"]
    assert layout["tp"] == 4
    assert layout["tp"] * layout["cp"] * layout["pp"] * layout["dp"] == 64


def test_memory_decides_recomputation() -> None:
    """8B with 2 x 8192 tokens a rank: without recomputation on 140 GiB, with it on 80."""
    small, large = (
        plan_training(
            Request("llama3.1-8b", machine, 8, tp=1, cp=1, pp=1, dp=8, local_batch=2, stack="torchtitan-2024")
        )
        for machine in ("h100-80gb", "h200")
    )
    assert large["layout"]["recompute"] == "none"
    assert small["layout"]["recompute"] != "none"


def test_a_layout_that_was_asked_for_is_planned_even_where_it_does_not_fit() -> None:
    report = plan_training(
        Request("llama3.1-70b", "a100-80gb", 8, tp=8, cp=1, pp=1, dp=1, local_batch=1, recompute="none")
    )
    assert not report["fits"]
    assert "more than the" in report["why"]


def test_days_hours_and_cost_of_a_whole_run(tmp_path: Path) -> None:
    """The model card: 30.84M hours for 405B on 15.6T tokens; the plan is within a fifth of it."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "\n".join(f"{key}: {value!r}" for key, value in load_machine("h100-80gb").model_dump(exclude_none=True).items())
        + "\ndollars_per_hour: 2.0\n"
    )
    request = Request("llama3.1-405b", str(path), 16_384, local_batch=16, tp=8, cp=1, pp=16, dp=128, tokens=15.6e12)
    run = plan_training(request)["run"]
    assert run["gpu_hours"] == pytest.approx(30.84e6, rel=0.2)
    assert run["dollars"] == pytest.approx(2 * run["gpu_hours"])


REFUSED = {
    "a mesh that does not fit the ranks": ("--gpus 16 --tp 8 --cp 1 --pp 1 --dp 4", "32 ranks, not the 16"),
    "heads that do not divide": ("--gpus 3 --tp 3 --cp 1 --pp 1", "32 heads are not divisible by tp 3"),
    "chunks of the sequence": ("--gpus 8 --cp 8 --tp 1 --pp 1 --seq 8200", "not divisible by 2 x cp = 16"),
    "a pipeline longer than the model": ("--gpus 64 --pp 64 --tp 1 --cp 1", "pp 64 is more than the model's 32 layers"),
    "micro-batches that do not divide": (
        "--gpus 8 --local-batch 3 --micro-batch 2 --tp 1 --cp 1 --pp 1",
        "local-batch 3 is not divisible by micro-batch 2",
    ),
    "no accelerator": ("--gpus 0", "--gpus is 0"),
    "float8 where there is none": ("--gpus 8 --machine a100-80gb --precision float8", "has no float8"),
    "an unknown machine": ("--gpus 8 --machine h900", "there is no machine 'h900'"),
    "an unknown stack": ("--gpus 8 --stack mine", "there is no stack 'mine'"),
    "both batches": ("--gpus 8 --local-batch 1 --global-batch 8", "not both"),
    "a batch that no group divides": ("--gpus 8 --tp 1 --cp 1 --pp 1 --global-batch 12", "no layout makes 8 ranks"),
    "a zero degree": ("--gpus 8 --tp 0", "--tp is 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_built_is_refused_with_its_numbers(case: str) -> None:
    options, sentence = REFUSED[case]
    result = CliRunner().invoke(app, ["plan", "--model", "llama3.1-8b", *options.split()])
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [[], ["pocket", "--model", "llama3.1-8b"], ["--model", "llama9"]])
def test_a_plan_of_nothing_of_two_things_and_of_an_unknown_model(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["plan", *arguments]).exit_code == 2


def test_the_verb_prints_json() -> None:
    options = "--machine h100-80gb --gpus 16384 --tp 8 --cp 1 --pp 16 --dp 128 --seq 8192 --local-batch 16"
    result = CliRunner().invoke(app, ["plan", "--model", "llama3.1-405b", *options.split(), "--json"])
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert {"memory_gib", "tflops_per_gpu", "tokens_per_s_per_gpu", "mfu", "bubble", "goodput"} <= set(report)
    assert sum(report["memory_parts_gib"].values()) == pytest.approx(report["memory_gib"])
    assert sum(report["step_parts_seconds"].values()) == pytest.approx(report["step_seconds"])
    assert report["mfu"] == pytest.approx(report["tflops_per_gpu"] / 989)


def test_the_verb_replays_the_papers_failures() -> None:
    result = CliRunner().invoke(app, ["plan", "--failures"])
    assert result.exit_code == 0
    assert "419 unexpected and 47 planned" in result.stdout


def test_every_machine_that_ships_loads_and_has_a_stack() -> None:
    assert {"h100-80gb", "h100-96gb", "h200", "a100-80gb", "cpu"} <= set(machine_names())
    for name in machine_names():
        machine = load_machine(name)
        assert isinstance(machine, Machine)
        assert machine.name == name
        assert plan_training(Request("1m", name, 1, seq=512, local_batch=4))["tokens_per_s_per_gpu"] > 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: x\n", "memory_gib: Field required"),
        ("nmae: x\n", "Field required|Extra inputs"),
        ("[1, 2", "not a YAML file"),
        ("- 1\n", "the file: Input should be"),
    ],
)
def test_a_wrong_machine_file_is_refused_with_its_key(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(HerdError, match=sentence):
        load_machine(str(path))
    with pytest.raises(HerdError, match="not readable"):
        load_machine(str(tmp_path / "absent.yaml"))


def test_models_are_found_by_their_usual_spellings() -> None:
    assert find_model("llama3.1-405b") == find_model("llama-3.1-405b") == find_model("Llama-3.1-405B")
