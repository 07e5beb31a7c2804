"""Context parallel: chunks that cost alike, and attention that equals that of one process, gradients too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from herd.foundation.errors import HerdError
from herd.train.parallel.context import head_tail_chunks

HERE = Path(__file__).parent


@pytest.mark.parametrize("degree", [1, 2, 4, 16])
@pytest.mark.parametrize("rows", [1, 3, 4])
def test_every_rank_attends_to_as_much_as_any_other(degree: int, rows: int) -> None:
    length = 96
    shares = [head_tail_chunks(rows * length, degree, rank) for rank in range(degree)]
    places = [place for share in shares for chunk in share for place in chunk]
    assert sorted(places) == list(range(rows * length))
    seen = [sum(place % length + 1 for chunk in share for place in chunk) for share in shares]
    assert len(set(seen)) == 1


def test_chunks_that_would_differ_are_refused() -> None:
    with pytest.raises(HerdError, match="cp 4: 60 tokens cannot be cut into 8 equal chunks"):
        head_tail_chunks(60, 4, 0)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("context")
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[2]), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(HERE / "context_run.py"), str(out)], env=environment, timeout=120, check=True)
    return out


def _whole(results: Path, case: str, degree: int) -> dict[str, Tensor]:
    """What the ranks have, put in its place by the definition: rank i has chunks i and 2 x CP - 1 - i."""
    chunks: dict[str, list[Tensor]] = {}
    parts = [load_file(results / f"{case}-{degree}-{rank}.safetensors") for rank in range(degree)]
    for name in parts[0]:
        early = [part[name].chunk(2)[0] for part in parts]
        late = [part[name].chunk(2)[1] for part in reversed(parts)]
        chunks[name] = early + late
    return {name: torch.cat(tensors) for name, tensors in chunks.items()}


@pytest.mark.parametrize("degree", [2, 4])
def test_packed_documents_across_chunks_attend_as_on_one_process(results: Path, degree: int) -> None:
    expected, got = load_file(results / "whole.safetensors"), _whole(results, "right", degree)
    for name in ("out", "q", "k", "v"):
        torch.testing.assert_close(got[name], expected[name], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("degree", [2, 4])
def test_bf16_is_as_near_as_its_rounding(results: Path, degree: int) -> None:
    expected, got = load_file(results / "whole.safetensors"), _whole(results, "bf16", degree)
    for name in ("out", "q", "k", "v"):
        assert got[name].dtype == torch.bfloat16
        assert (got[name].float() - expected[name]).norm() < 0.01 * expected[name].norm(), name


@pytest.mark.parametrize("case", ["no mask", "wrong order"])
@pytest.mark.parametrize("degree", [2, 4])
def test_without_the_mask_or_the_order_the_test_above_fails(results: Path, degree: int, case: str) -> None:
    expected, got = load_file(results / "whole.safetensors"), _whole(results, case, degree)
    for name in ("out", "q", "k", "v"):
        assert (got[name] - expected[name]).abs().max() > 0.1, name
