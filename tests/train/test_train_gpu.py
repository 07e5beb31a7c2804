"""``bench/train_gpu.py`` on a CPU with a tiny shape: its rows follow from each other, mistakes are sentences."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from herd.foundation.errors import HerdError

FILE = Path(__file__).parents[2] / "bench" / "train_gpu.py"
TINY = ["--device", "cpu", "--shapes", "tiny", "--compile", "off", "--steps", "2", "--length", "64"]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    specification = importlib.util.spec_from_file_location("train_gpu", FILE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_a_row_follows_from_its_own_figures(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    bench.main([*TINY, "--document", "32", "--micro-tokens", "128", "--micro-batches", "2", "--recompute", "full"])
    row = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    # 6 for every multiplied parameter, norms and the embedding's lookup left out; 6 for layers x dim x document.
    shape = bench.SHAPES["tiny"]
    multiplied = shape.parameters - shape.dim - 2 * shape.dim * shape.layers
    assert row["flops_per_token"] == 6 * multiplied + 6 * shape.layers * shape.dim * 32
    assert row["tokens_per_step"] == 256
    assert row["tokens_per_second"] == pytest.approx(256 / row["step_seconds"], rel=1e-2)
    assert row["tflops"] == pytest.approx(row["tokens_per_second"] * row["flops_per_token"] / 1e12, abs=1e-4)
    assert row["mfu"] == pytest.approx(row["tflops"] / 0.28, abs=1e-3)
    assert row["recompute"] == "full"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--document", "48"], "--document 48 must divide --length 64"),
        (["--machine", "tpu"], "there is no machine 'tpu'"),
        (["--precision", "float8"], "precision float8: needs a GPU, this training is on the cpu"),
    ],
)
def test_mistakes_are_sentences(
    bench: ModuleType, capsys: pytest.CaptureFixture[str], more: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit):
        bench.main([*TINY, *more])
    assert sentence in capsys.readouterr().err


def test_the_peak_is_that_of_the_gpu_by_its_name(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert bench.machine_of(gpu, None).peak_tflops == 989
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-80GB")
    assert bench.machine_of(gpu, None).peak_tflops == 312
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA T4")
    with pytest.raises(HerdError, match="NVIDIA T4 has no file"):
        bench.machine_of(gpu, None)


def test_the_shapes_have_the_parameters_that_they_are_named_after(bench: ModuleType) -> None:
    sizes = {name: shape.parameters / 1e6 for name, shape in bench.SHAPES.items()}
    assert sizes["125m"] == pytest.approx(125, abs=1)
    assert sizes["1b"] == pytest.approx(1236, abs=1)
    assert sizes["3b"] == pytest.approx(3213, abs=1)
