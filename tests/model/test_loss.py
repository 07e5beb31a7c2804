"""Chunked losses against the plain formula, in value and gradient."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils._python_dispatch import TorchDispatchMode

from herd.model.loss import IGNORE, _LogProbs, _SummedCrossEntropy, chunked_cross_entropy, token_log_probs


def _problem(count: int, vocabulary: int, ignored: float, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(count, 12, generator=generator, requires_grad=True)
    head = torch.randn(vocabulary, 12, generator=generator, requires_grad=True)
    targets = torch.randint(0, vocabulary, (count,), generator=generator)
    targets[torch.rand(count, generator=generator) < ignored] = IGNORE
    return hidden, head, targets


def _gradients(value: torch.Tensor, hidden: torch.Tensor, head: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(value, (hidden, head))


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 40),
    vocabulary=st.integers(2, 50),
    chunk=st.integers(1, 50),
    ignored=st.sampled_from([0.0, 0.3, 0.9]),
    seed=st.integers(0, 1000),
)
def test_cross_entropy_is_exact_for_every_chunk(
    count: int, vocabulary: int, chunk: int, ignored: float, seed: int
) -> None:
    hidden, head, targets = _problem(count, vocabulary, ignored, seed)
    total, number = chunked_cross_entropy(hidden, head, targets, chunk)
    expected = F.cross_entropy(hidden @ head.T, targets, reduction="sum", ignore_index=IGNORE)
    assert number == int((targets != IGNORE).sum())
    torch.testing.assert_close(total, expected, atol=1e-4, rtol=1e-5)
    for ours, theirs in zip(_gradients(3 * total, hidden, head), _gradients(3 * expected, hidden, head), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_log_probabilities_are_exact_under_any_weighting(chunk: int) -> None:
    hidden, head, targets = _problem(30, 21, 0.4)
    weights = torch.randn(30, generator=torch.Generator().manual_seed(9))
    ours = token_log_probs(hidden, head, targets, chunk)
    theirs = -F.cross_entropy(hidden @ head.T, targets, reduction="none", ignore_index=IGNORE)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert torch.equal(ours[targets == IGNORE], torch.zeros(int((targets == IGNORE).sum())))
    for one, other in zip(
        _gradients((ours * weights).sum(), hidden, head),
        _gradients((theirs * weights).sum(), hidden, head),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_no_target_gives_zero_with_a_gradient_graph() -> None:
    hidden, head, _ = _problem(5, 11, 0.0)
    total, number = chunked_cross_entropy(hidden, head, torch.full((5,), IGNORE))
    assert (total.item(), number) == (0.0, 0)
    for gradient in _gradients(total, hidden, head):
        assert torch.equal(gradient, torch.zeros_like(gradient))


def test_far_apart_logits_stay_exact() -> None:
    hidden = torch.tensor([[200.0, 0.0]], requires_grad=True)
    total, _ = chunked_cross_entropy(hidden, torch.eye(2), torch.tensor([1]))
    assert total.item() == pytest.approx(200.0)


def test_frozen_head_receives_no_gradient_and_half_precision_keeps_its_type() -> None:
    hidden, head, targets = _problem(20, 30, 0.2)
    total, _ = chunked_cross_entropy(hidden.bfloat16(), head.detach().bfloat16(), targets, chunk=6)
    (gradient,) = torch.autograd.grad(total, (hidden,))
    expected = torch.autograd.grad(
        F.cross_entropy(hidden @ head.T, targets, reduction="sum", ignore_index=IGNORE), (hidden,)
    )[0]
    assert torch.nn.functional.cosine_similarity(gradient.flatten(), expected.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("function", [_SummedCrossEntropy, _LogProbs])
def test_one_chunk_of_logits_lives_at_a_time(function: type[torch.autograd.Function]) -> None:
    """Bytes of every storage as PyTorch's tracker counts them; the head and its gradient are 1% of a chunk each."""
    vocabulary, chunk = 32_000, 512
    with FakeTensorMode():
        tracker = MemTracker()
        hidden, head = (torch.zeros(rows, 8, requires_grad=True) for rows in (4 * chunk, vocabulary))
        targets = torch.zeros(4 * chunk, dtype=torch.long)
        tracker.track_external(hidden, head)
        with tracker:
            function.apply(hidden, head, targets, chunk).sum().backward()
    peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    assert 1.0 < peak / (4 * chunk * vocabulary) < 1.1


class _Products(TorchDispatchMode):
    """Notes the types of all matrix products, and how often a tensor of a shape is converted."""

    def __init__(self) -> None:
        super().__init__()
        self.types: list[torch.dtype] = []
        self.converted: list[torch.Size] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operator.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_):
            self.types += {arg.dtype for arg in args if isinstance(arg, torch.Tensor)}
        if operator is torch.ops.aten._to_copy.default:
            self.converted.append(args[0].shape)
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize("loss", ["cross_entropy", "log_probs"])
def test_under_autocast_all_products_are_bf16_and_the_head_is_converted_once(loss: str) -> None:
    hidden, head, targets = _problem(40, 33, 0.0)

    def value() -> torch.Tensor:
        if loss == "cross_entropy":
            return chunked_cross_entropy(hidden, head, targets, 8)[0]
        return token_log_probs(hidden, head, targets, 8).sum()

    exact = _gradients(value(), hidden, head)
    with _Products() as products:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = value()
        gradients = _gradients(rounded, hidden, head)
    assert rounded.dtype == torch.float32
    assert set(products.types) == {torch.bfloat16}
    assert products.converted.count(head.shape) <= 2  # the gradient's way back is the other
    for one, other in zip(gradients, exact, strict=True):
        assert one.dtype == torch.float32
        assert torch.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.999
