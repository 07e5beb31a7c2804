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
from torch import Tensor

from herd.train.compiled import compiler_available
from herd.train.parallel.mesh import PROVEN, MeshConfig

HERE = Path(__file__).parent
TOLERANCE = 2e-5

FAST: dict[str, dict[str, Any]] = {
    "tp 2 x fsdp 2": {"tp": 2, "dp": 2},
    "pp 2 x cp 2": {"pp": 2, "cp": 2, "stages": 2, "micro_rows": 3},
}
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
    "cp 2, tied": {"cp": 2, "tied": True},
    "cp 4": {"cp": 4},
    "cp 2 x fsdp 2": {"cp": 2, "dp": 2},
    "cp 2 x hybrid 2 x 2": {"cp": 2, "dp": 4, "replicas": 2},
    "cp 2 x replicate 2": {"cp": 2, "dp": 2, "replicas": 2},
    "cp 2 x tp 2": {"cp": 2, "tp": 2},
    "pp 2, 1F1B": {"pp": 2, "micro_rows": 1},
    "pp 2, interleaved, N 3": {"pp": 2, "stages": 2, "together": 3, "micro_rows": 1, "layers": 6},
    "pp 2, interleaved, all together": {"pp": 2, "stages": 2, "together": 8, "micro_rows": 1},
    "pp 2, tied": {"pp": 2, "tied": True},
    "pp 4, 1F1B": {"pp": 4, "micro_rows": 1},
    "pp 4, interleaved": {"pp": 4, "stages": 2, "micro_rows": 1, "layers": 6},
    "pp 4, interleaved, fewer micro-batches than ranks, unlike ones": {
        "pp": 4,
        "stages": 2,
        "micro_rows": 3,
        "layers": 6,
    },
    "pp 2 x fsdp 2": {"pp": 2, "dp": 2, "stages": 2, "micro_rows": 1},
    "pp 2 x fsdp 2, kept gathered": {"pp": 2, "dp": 2, "stages": 2, "micro_rows": 1, "reshard": False},
    "pp 2 x replicate 2": {"pp": 2, "dp": 2, "replicas": 2, "stages": 2, "micro_rows": 1},
    "pp 2 x fsdp 2, tied": {"pp": 2, "dp": 2, "stages": 2, "tied": True},
    "pp 2 x tp 2": {"pp": 2, "tp": 2, "stages": 2},
    "tp 2 x cp 2 x fsdp 2": {"tp": 2, "cp": 2, "dp": 2},
    "tp 2 x pp 2 x fsdp 2": {"tp": 2, "pp": 2, "dp": 2, "stages": 2},
    "cp 2 x pp 2 x fsdp 2": {"cp": 2, "pp": 2, "dp": 2, "stages": 2},
    "tp 2 x cp 2 x pp 2": {"tp": 2, "cp": 2, "pp": 2, "stages": 2},
    "pp 2 x tp 2, tied": {"pp": 2, "tp": 2, "tied": True},
    "tp 2 x hybrid 2 x 2": {"tp": 2, "dp": 4, "replicas": 2},
    "pp 2 x hybrid 2 x 2": {"pp": 2, "dp": 4, "replicas": 2, "stages": 2, "micro_rows": 1},
    "tp 2 x cp 2 x replicate 2": {"tp": 2, "cp": 2, "dp": 2, "replicas": 2},
    "tp 2 x pp 2 x replicate 2": {"tp": 2, "pp": 2, "dp": 2, "replicas": 2, "stages": 2},
    "cp 2 x pp 2 x replicate 2": {"cp": 2, "pp": 2, "dp": 2, "replicas": 2, "stages": 2},
    "tp 2 x pp 2 x hybrid 2 x 2": {"tp": 2, "pp": 2, "dp": 4, "replicas": 2, "stages": 2},
    "cp 2 x pp 2 x hybrid 2 x 2": {"cp": 2, "pp": 2, "dp": 4, "replicas": 2, "stages": 2},
    "tp 2 x cp 2 x pp 2 x fsdp 2": {"tp": 2, "cp": 2, "pp": 2, "dp": 2, "stages": 2},
    "tp 2 x fsdp 2, from a directory": {"tp": 2, "dp": 2, "stored": True},
    "pp 2 x cp 2, tied, from a directory": {"pp": 2, "cp": 2, "tied": True, "stored": True},
}
if compiler_available() is None:
    SLOW |= {
        "fsdp 2, compiled": {"dp": 2, "compile": "on"},
        "cp 2 x fsdp 2, compiled": {"cp": 2, "dp": 2, "compile": "on"},
    }


class Proof:
    """The runs of ``meshes`` and those of their networks on one process, each made once."""

    def __init__(self, meshes: list[dict[str, Any]], out: Path) -> None:
        self.out, networks = out, [_network(mesh) for mesh in meshes]
        self.runs = [network for number, network in enumerate(networks) if network not in networks[:number]] + meshes
        command = [sys.executable, str(HERE / "mesh_run.py"), str(out), json.dumps(self.runs)]
        environment = os.environ | {"PYTHONPATH": str(HERE.parents[2]), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, check=True)

    def load(self, run: dict[str, Any]) -> dict[str, Tensor]:
        """What a run gave."""
        return load_file(self.out / f"{self.runs.index(run)}.safetensors")


def _network(mesh: dict[str, Any]) -> dict[str, Any]:
    return {key: mesh[key] for key in ("tied", "layers") if key in mesh}


def _assert_same(proof: Proof, mesh: dict[str, Any]) -> None:
    expected, got = proof.load(_network(mesh)), proof.load(mesh)
    assert got.keys() == expected.keys()
    torch.testing.assert_close(got["figures"], expected["figures"], rtol=TOLERANCE, atol=0)
    for name in sorted(expected.keys() - {"figures"}):
        if name.startswith("start/"):
            assert torch.equal(got[name], expected[name]), name
        error = (got[name] - expected[name]).norm() / expected[name].norm()
        assert error < TOLERANCE, f"{name}: off by {error:.1e}"


def test_two_pairs_train_as_one_process_does(tmp_path: Path) -> None:
    proof = Proof(list(FAST.values()), tmp_path)
    for mesh in FAST.values():
        _assert_same(proof, mesh)


@pytest.fixture(scope="module")
def proof(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Proof:
    """The runs of those meshes that were asked for: ``-k "tp 2"`` need not wait for the others."""
    asked = {item.callspec.params["name"] for item in request.session.items if "proof" in item.fixturenames}
    return Proof([mesh for name, mesh in SLOW.items() if name in asked], tmp_path_factory.mktemp("meshes"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_the_mesh_trains_as_one_process_does(proof: Proof, name: str) -> None:
    _assert_same(proof, SLOW[name])


def test_what_is_accepted_is_what_is_proven_here() -> None:
    meshes = [
        MeshConfig(**{key: value for key, value in run.items() if key in MeshConfig.model_fields})
        for run in (*FAST.values(), *SLOW.values())
    ]
    assert {mesh.kinds for mesh in meshes} | {frozenset()} == PROVEN
