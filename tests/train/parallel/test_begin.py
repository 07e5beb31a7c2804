"""What the first weights cost a process: its own part and a block or two, as the kernel counts it, not the network."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from herd.model.config import ModelConfig
from herd.train.beginning import Fresh
from herd.train.parallel.dry_run import place_among
from herd.train.parallel.mesh import Mesh, MeshConfig
from herd.train.parallel.pipeline import processes_of

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
SHAPE = ModelConfig(vocab_size=12_000, dim=512, layers=8, heads=8, kv_heads=4, ffn_dim=1376)
TINY = ModelConfig(vocab_size=64, dim=64, layers=8, heads=8, kv_heads=4, ffn_dim=64)
WHOLE = 4 * SHAPE.parameters  # 141 MB
BLOCKS = 40e6


@pytest.fixture
def rank_21_of_32() -> Iterator[None]:
    with place_among(32, rank=21):
        yield


def resident(kind: str) -> int:
    return next(int(line.split()[1]) * 1024 for line in STATUS.read_text().splitlines() if line.startswith(kind))


@pytest.mark.skipif(not FORGET.exists(), reason="only Linux counts the highest resident memory and forgets it")
@pytest.mark.usefixtures("rank_21_of_32")
@pytest.mark.parametrize(
    ("degrees", "part"),
    [
        ({"dp": 32}, 1 / 32),
        ({"dp": 32, "replicas": 4}, 1 / 8),
        ({"tp": 2, "cp": 2, "pp": 4, "dp": 2}, 1 / 32),
    ],
)
def test_a_process_draws_no_more_than_its_part(degrees: dict[str, int], part: float) -> None:
    processes = processes_of(Mesh(MeshConfig(**degrees), "cpu"))
    processes.begin(Fresh(TINY, 7), torch.device("cpu"))  # what is loaded at first use is no weight
    gc.collect()
    before = resident("VmRSS")
    FORGET.write_text("5")
    model = processes.begin(Fresh(SHAPE, 7), torch.device("cpu"))
    risen = resident("VmHWM") - before
    assert any(True for _ in model.parameters())
    assert risen < 1.5 * part * WHOLE + BLOCKS < WHOLE / 2
    assert not any(weight.is_meta for weight in model.parameters())
