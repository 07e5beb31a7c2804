"""Every proven mesh against one process: losses, norms, gradients of every step and final weights.

The runs are those of ``mesh_run.py``.  Sums are taken in another order on a mesh, so gradients agree to a relative
2e-5 of a tensor's norm (measured: up to 8e-6 where matrices are cut, 3e-6 where only data is).
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from herd.train.parallel.mesh import PROVEN, MeshConfig

HERE = Path(__file__).parent
TOLERANCE = 2e-5

FAST: dict[str, dict[str, Any]] = {"tp 2 x fsdp 2": {"tp": 2, "dp": 2}}
SLOW: dict[str, dict[str, Any]] = {
    "fsdp 2": {"dp": 2},
    "fsdp 2, kept gathered": {"dp": 2, "reshard": False},
    "replicate 2": {"dp": 2, "replicas": 2},
    "hybrid 2 x 2": {"dp": 4, "replicas": 2},
    "tp 2": {"tp": 2},
    "tp 2, tied": {"tp": 2, "tied": True},
    "tp 2 x fsdp 2, tied": {"tp": 2, "dp": 2, "tied": True},
    "tp 2 x replicate 2": {"tp": 2, "dp": 2, "replicas": 2},
    "cp 2": {"cp": 2},
    "cp 2 x fsdp 2": {"cp": 2, "dp": 2},
    "cp 2 x replicate 2": {"cp": 2, "dp": 2, "replicas": 2},
    "cp 2 x hybrid 2 x 2": {"cp": 2, "dp": 4, "replicas": 2},
    "tp 2 x cp 2": {"tp": 2, "cp": 2},
}


def _run(meshes: list[dict[str, Any]], out: Path) -> None:
    """Makes ``out/0.safetensors`` on one process, tied and not, and the runs of ``meshes`` from number 2 on."""
    command = [sys.executable, str(HERE / "mesh_run.py"), str(out), json.dumps([{}, {"tied": True}, *meshes])]
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[2]), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, timeout=900, check=True)


def _assert_same(out: Path, number: int, tied: bool) -> None:
    expected, got = load_file(out / f"{int(tied)}.safetensors"), load_file(out / f"{number}.safetensors")
    assert got.keys() == expected.keys()
    torch.testing.assert_close(got["figures"], expected["figures"], rtol=TOLERANCE, atol=0)
    for name in sorted(expected.keys() - {"figures"}):
        error = (got[name] - expected[name]).norm() / expected[name].norm()
        assert error < TOLERANCE, f"{name}: off by {error:.1e}"


def test_a_pair_trains_as_one_process_does(tmp_path: Path) -> None:
    _run(list(FAST.values()), tmp_path)
    _assert_same(tmp_path, 2, tied=False)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("meshes")
    _run(list(SLOW.values()), out)
    return out


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", SLOW)
def test_the_mesh_trains_as_one_process_does(results: Path, name: str) -> None:
    _assert_same(results, 2 + list(SLOW).index(name), tied=SLOW[name].get("tied", False))


def test_what_is_accepted_is_what_is_proven_here() -> None:
    runs = [{key: value for key, value in run.items() if key != "tied"} for run in (*FAST.values(), *SLOW.values())]
    assert {MeshConfig(**run).kinds for run in runs} | {frozenset()} == PROVEN
