"""The choice of a token against the definitions: transformers' filters, and exact frequencies."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

from herd.foundation.errors import HerdError
from herd.infer.sampling import Sampling, choose, uniform


def pick(logits: torch.Tensor, temperature: float, top_p: float, top_k: int, u: torch.Tensor) -> torch.Tensor:
    rows = len(logits)
    return choose(
        logits, torch.full((rows,), temperature), torch.full((rows,), top_p), torch.full((rows,), top_k), u.double()
    )


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10_000),
    st.sampled_from([5, 64, 65, 300]),
    st.sampled_from([0.2, 1.0, 3.0]),
    st.sampled_from([0.05, 0.5, 0.9, 0.99, 1.0]),
    st.sampled_from([0, 1, 3, 64, 80, 1000]),
)
def test_the_tokens_in_reach_are_those_of_the_reference_filters(
    seed: int, vocabulary: int, temperature: float, top_p: float, top_k: int
) -> None:
    logits = torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(seed)) * 2
    scores = logits / temperature
    if top_k:
        scores = TopKLogitsWarper(min(top_k, vocabulary))(None, scores)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    expected = set(torch.isfinite(scores[0]).nonzero().squeeze(1).tolist())
    draws = 4000
    u = torch.arange(draws) / draws
    reached = set(pick(logits.expand(draws, -1), temperature, top_p, top_k, u).tolist())
    assert reached <= expected
    probable = torch.softmax(scores[0], 0) > 2 / draws
    assert set(probable.nonzero().squeeze(1).tolist()) <= reached


def test_evenly_spread_numbers_give_exact_frequencies() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.0, 0.6, 0.3]]))
    draws = 10_000
    chosen = pick(logits.expand(draws, -1), 1.0, 1.0, 0, torch.arange(draws) / draws)
    assert torch.bincount(chosen, minlength=4).tolist() == pytest.approx([1000, 0, 6000, 3000], abs=2)


def test_the_ends_of_the_unit_interval_never_choose_a_token_without_probability() -> None:
    logits = torch.tensor([[-torch.inf, 1.0, 0.0, -torch.inf]])
    assert pick(logits, 1.0, 1.0, 0, torch.tensor([0.0])).item() == 1
    assert pick(logits, 1.0, 1.0, 0, torch.tensor([1 - 2**-32], dtype=torch.float64)).item() == 2


def test_rows_keep_their_own_settings() -> None:
    logits = torch.tensor([0.0, 1.0, 0.9]).expand(3, -1)
    chosen = choose(
        logits,
        torch.tensor([0.0, 1.0, 1.0]),
        torch.tensor([1.0, 1.0, 1.0]),
        torch.tensor([0, 0, 1]),
        torch.tensor([0.99, 0.99, 0.99], dtype=torch.float64),
    )
    assert chosen.tolist() == [1, 2, 1]


def test_numbers_depend_on_seed_and_step_and_fill_the_interval() -> None:
    seeds, steps = np.repeat(np.arange(200, dtype=np.uint64) * 7919, 100), np.tile(np.arange(100), 200)
    u = uniform(seeds, steps)
    assert (u == np.concatenate([uniform(seeds[i : i + 1], steps[i : i + 1]) for i in range(len(u))])).all()
    counts = np.histogram(u, bins=20, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-squared, 19 degrees of freedom, p = 0.001
    grid = u.reshape(200, 100)
    assert abs(np.corrcoef(grid[:-1].ravel(), grid[1:].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(grid[:, :-1].ravel(), grid[:, 1:].ravel())[0, 1]) < 0.03


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_k": -1},
        {"stop": ("",)},
        {"logprobs": -1},
    ],
)
def test_impossible_wishes_are_refused(wrong: dict) -> None:
    with pytest.raises(HerdError):
        Sampling(**wrong)
