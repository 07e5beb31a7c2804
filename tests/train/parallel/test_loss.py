"""The loss over a cut vocabulary equals the loss over a whole one, over several chunks and with targets missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

HERE = Path(__file__).parent


def test_a_cut_vocabulary_gives_the_loss_and_gradients_of_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "loss_run.py"), str(tmp_path / "seen.safetensors")]
    subprocess.run(command, env=environment, timeout=120, check=True)
    seen = load_file(tmp_path / "seen.safetensors")
    monkeypatch.syspath_prepend(HERE)
    from loss_run import inputs

    hidden_NE, head_VE, targets_N = inputs()
    hidden_NE.requires_grad_()
    head_VE.requires_grad_()
    total = torch.nn.functional.cross_entropy(hidden_NE @ head_VE.T, targets_N, reduction="sum")
    (3 * total).backward()
    assert int(seen["targets"]) == int((targets_N >= 0).sum())
    torch.testing.assert_close(seen["total"], total.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(seen["hidden"], hidden_NE.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen["head"], head_VE.grad, rtol=1e-4, atol=1e-3)
