"""The tiled document mask against PyTorch's own tables, against the loop over documents, and under a wrong mask."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from herd.model.attention import DocumentAttention
from herd.train import flex
from herd.train.batch import document_batch
from herd.train.compiled import compiler_available
from herd.train.flex import TILE, TiledAttention, document_attention, document_begins, tiles
from herd.train.parallel import context
from herd.train.parallel.context import ContextAttention, ContextShare, head_tail_chunks

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
CPU = torch.device("cpu")
# A border on a tile's edge, short neighbours in one tile, a document over several tiles, an end inside a tile.
LENGTHS = [128, 5, 1, 60, 300, 130]


def inputs(tokens: int, heads: int = 4, kv_heads: int = 2, dim: int = 16) -> list[Tensor]:
    draw = torch.Generator().manual_seed(tokens)
    return [torch.randn(tokens, count, dim, generator=draw) for count in (heads, kv_heads, kv_heads)]


def tiled(lengths: Sequence[int]) -> TiledAttention:
    begins = document_begins(lengths)
    return TiledAttention(begins, torch.arange(len(begins)), len(begins), CPU)


def same_document(lengths: Sequence[int]) -> Callable[..., Tensor]:
    """The rule in its plainest form, as a mask of FlexAttention."""
    number = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    return lambda b, h, q, k: (number[q] == number[k]) & (q >= k)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 63, 64, 65, 127, 128, 129, 256, 300]), min_size=1, max_size=9))
def test_the_tables_are_those_that_pytorch_finds_by_looking_at_every_pair(lengths: list[int]) -> None:
    size = sum(lengths)
    expected = create_block_mask(same_document(lengths), None, None, size, size, device="cpu", BLOCK_SIZE=TILE)
    ours = tiled(lengths).mask
    for part in ("kv", "full_kv", "q", "full_q"):
        for table in (f"{part}_num_blocks", f"{part}_indices"):
            assert torch.equal(getattr(ours, table), getattr(expected, table)), table
    assert ours.shape == expected.shape


@torch.no_grad()
@pytest.mark.parametrize("lengths", [LENGTHS, [700], [3] * 50, [1]])
def test_tiles_attend_as_the_loop_over_documents(lengths: list[int]) -> None:
    q, k, v = inputs(sum(lengths))
    torch.testing.assert_close(tiled(lengths)(0, q, k, v), DocumentAttention(lengths)(0, q, k, v), atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_a_border_that_is_missed_shows() -> None:
    q, k, v = inputs(sum(LENGTHS))
    wrong = [LENGTHS[0], LENGTHS[1] + LENGTHS[2], *LENGTHS[3:]]
    assert not torch.allclose(tiled(wrong)(0, q, k, v), DocumentAttention(LENGTHS)(0, q, k, v), atol=1e-3)


def test_rows_of_documents_cost_like_documents() -> None:
    short = tiles(document_begins([256] * 32), torch.arange(8192), 8192)[0].sum()
    long = tiles(document_begins([256] * 64), torch.arange(16_384), 16_384)[0].sum()
    assert int(short) == 32 * 3
    assert int(long) == 2 * int(short)


def test_the_tiles_are_laid_out_without_asking_the_device_for_a_value() -> None:
    meta = torch.device("meta")
    attend = TiledAttention(document_begins(LENGTHS), torch.arange(sum(LENGTHS)), sum(LENGTHS), meta)
    assert attend.mask.q_indices.device == meta
    assert attend.mask.shape == tiled(LENGTHS).mask.shape


class LoneShare(ContextShare):
    """One rank's share of a flat axis, whose partners hand over what they would."""

    def __init__(self, tokens: int, degree: int, rank: int) -> None:
        self.chunks = head_tail_chunks(tokens, degree, rank)
        self.by_rank_L = torch.arange(tokens)
        self.whole = torch.empty(0)

    def gather(self, own_NX: Tensor) -> Tensor:
        assert torch.equal(own_NX, self.cut(self.whole))
        return self.whole


@torch.no_grad()
@pytest.mark.parametrize(("degree", "lengths"), [(2, [128, 5, 1, 60, 300, 130]), (4, [624]), (4, [16] * 30 + [144])])
def test_ranks_of_context_parallel_attend_by_tiles_as_one_process(
    monkeypatch: pytest.MonkeyPatch, degree: int, lengths: list[int]
) -> None:
    monkeypatch.setattr(context, "has_tiles", lambda device: True)
    tokens = sum(lengths)
    q, k, v = inputs(tokens)
    expected = DocumentAttention(lengths)(0, q, k, v)
    for rank in range(degree):
        share = LoneShare(tokens, degree, rank)
        share.whole = torch.cat([k, v], dim=1)
        attend = ContextAttention(lengths, share)
        out = attend(0, *(share.cut(x) for x in (q, k, v)))
        torch.testing.assert_close(out, share.cut(expected), atol=2e-6, rtol=1e-5)


def test_a_cpu_keeps_the_loop_and_a_batch_says_where_it_is() -> None:
    batch = document_batch([[1, 2, 3], [4, 5]])
    assert isinstance(document_attention(batch.lengths, batch.tokens_N.device), DocumentAttention)


@pytest.mark.slow
@pytest.mark.skipif(compiler_available() is not None, reason="no C++ compiler to compile the kernel with")
@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_compilation_serves_all_lengths_under_autocast_too(dtype: torch.dtype) -> None:
    kernel = flex.compiled(flex.flex_attention, never_eager=True)
    torch._dynamo.reset()  # what another test compiled in this process would serve here too
    torch._dynamo.utils.counters.clear()
    close = {"atol": 2e-6, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 2e-2, "rtol": 2e-2}
    for lengths in (LENGTHS, [200, 100], [77, 12, 511]):
        attend = tiled(lengths)
        attend._kernel = kernel
        exact = inputs(sum(lengths))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype != torch.float32):
            out = attend(0, *(x.to(dtype) for x in exact))
        assert out.dtype == dtype
        torch.testing.assert_close(out.float(), DocumentAttention(lengths)(0, *exact), **close)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
