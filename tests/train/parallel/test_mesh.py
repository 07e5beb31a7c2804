"""The mesh: ranks in the paper's order, and everything that does not fit refused with its numbers."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch.distributed as dist

from herd.foundation.errors import HerdError
from herd.model.config import PRESETS, ModelConfig
from herd.train.parallel.dry_run import place_among
from herd.train.parallel.mesh import Mesh, MeshConfig, check_mesh
from herd.train.schedule import BatchRamp, RampStep

SHAPE = ModelConfig(vocab_size=96, dim=32, layers=2, heads=8, kv_heads=4, ffn_dim=48)
RAMP = BatchRamp(ramp=(RampStep(step=0, rows=4), RampStep(step=10, rows=6)))


@pytest.mark.parametrize(
    ("degrees", "ranks", "length", "sentence"),
    [
        ({"tp": 2, "dp": 2}, 2, 64, "tp 2 x cp 1 x pp 1 x dp 2 are 4 ranks, but 2 processes were started"),
        ({"dp": 2, "replicas": 3}, 2, 64, "dp 2 is not divisible by replicas 3"),
        ({"tp": 3}, 3, 66, "the model's 8 heads are not divisible by tp 3"),
        ({"tp": 8}, 8, 64, "the model's 4 key-value heads are not divisible by tp 8"),
        ({"cp": 2}, 2, 66, "the sequence of 66 tokens is not divisible by 2 x cp = 4 chunks"),
        ({"tp": 2}, 2, 65, "the sequence of 65 tokens is not divisible by tp 2"),
        ({"tp": 4, "cp": 2}, 8, 68, "the sequence of 68 tokens, cut to 34 by cp 2, is not divisible by tp 4"),
        ({"dp": 4}, 4, 64, "the batch of 6 rows from step 10 on is not divisible by dp 4"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_numbers(
    degrees: dict[str, Any], ranks: int, length: int, sentence: str
) -> None:
    with pytest.raises(HerdError) as refusal:
        check_mesh(MeshConfig(**degrees), ranks, SHAPE, length, RAMP)
    assert sentence in str(refusal.value)


def test_a_combination_that_nobody_proved_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("herd.train.parallel.mesh.PROVEN", frozenset({frozenset(), frozenset({"tp"})}))
    check_mesh(MeshConfig(tp=2), 2, SHAPE, 64, RAMP)
    with pytest.raises(HerdError, match="fsdp with tp is not among the combinations that are proven"):
        check_mesh(MeshConfig(tp=2, dp=2), 4, SHAPE, 64, RAMP)


@pytest.fixture
def ranks_of_16() -> Iterator[None]:
    with place_among(16, rank=13):
        yield


@pytest.mark.usefixtures("ranks_of_16")
def test_ranks_are_numbered_in_the_papers_order() -> None:
    """Figure 5 of the paper: of 16 ranks and degrees of 2, 0 and 1 share TP, 0 and 2 CP, 0 and 4 PP, 0 and 8 DP."""
    mesh = Mesh(MeshConfig(tp=2, cp=2, pp=2, dp=2), "cpu")
    partners = {name: dist.get_process_group_ranks(mesh.group(name)) for name in ("tp", "cp", "pp", "shard")}
    assert partners == {"tp": [12, 13], "cp": [13, 15], "pp": [9, 13], "shard": [5, 13]}
    assert [mesh.index(name) for name in ("tp", "cp", "pp", "shard", "replica")] == [1, 0, 1, 1, 0]
    joined = mesh.submesh("shard", "cp")
    assert joined is not None
    assert sorted(joined.mesh.tolist()) == [5, 7, 13, 15]


@pytest.mark.usefixtures("ranks_of_16")
def test_the_parts_of_the_rows_count_replicas_first() -> None:
    mesh = Mesh(MeshConfig(tp=2, dp=8, replicas=2), "cpu")
    assert mesh.data_index == 13 // 2
    assert mesh.group("cp") is None
    copies = mesh.submesh("replica", "cp")
    assert copies is not None
    assert copies.mesh.tolist() == [5, 13]
    assert mesh.submesh("cp", "pp") is None


def test_the_papers_mesh_fits_its_model() -> None:
    mesh = MeshConfig(tp=8, pp=16, dp=128, stages=8)
    check_mesh(mesh, 16_384, PRESETS["llama-3.1-405b"], 8192, BatchRamp.constant(2048))
    with pytest.raises(HerdError, match="the batch of 2000 rows from step 0 on is not divisible by dp 128"):
        check_mesh(mesh, 16_384, PRESETS["llama-3.1-405b"], 8192, BatchRamp.constant(2000))
