"""A network that was never trained already copies: what was said once is likelier the second time."""

import pytest
import torch
import torch.nn.functional as F

from herd.model.attention import DocumentAttention
from herd.model.config import ModelConfig, pocket_config
from herd.model.induction import draw_circuit
from herd.model.transformer import Transformer

HALF = 64


def second_time(config: ModelConfig, induction: bool) -> tuple[float, float]:
    """Loss in nats on the second half of random tokens said twice, and the share that is predicted first."""
    model = Transformer(config)
    model.init_weights(seed=3, induction=induction)
    tokens = torch.randint(0, config.vocab_size, (HALF,), generator=torch.Generator().manual_seed(1)).repeat(2)
    with torch.no_grad():
        hidden = model(tokens, torch.arange(2 * HALF), DocumentAttention([2 * HALF]))
        logits = model.logits(hidden)[HALF:-1]
    targets = tokens[HALF + 1 :]
    right = (logits.argmax(-1) == targets).float().mean().item()
    return F.cross_entropy(logits, targets).item(), right


@pytest.mark.parametrize("size", ["0.5m", "1m", "3m"])
def test_every_pocket_size_copies_before_training(size: str) -> None:
    config = pocket_config(size, 4096)
    loss, right = second_time(config, induction=True)
    plain_loss, plain_right = second_time(config, induction=False)
    assert loss < plain_loss - 0.3
    assert plain_right < 0.02
    assert right > 0.03


def test_the_circuit_costs_text_without_repetition_little() -> None:
    config = pocket_config("3m", 4096)
    model = Transformer(config)
    model.init_weights(seed=3)
    tokens = torch.randint(0, 4096, (256,), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = model.logits(model(tokens, torch.arange(256), DocumentAttention([256])))
    loss = F.cross_entropy(logits[:-1], tokens[1:]).item()
    assert loss < torch.log(torch.tensor(4096.0)).item() + 0.6


def test_bases_are_orthonormal_but_for_the_mean() -> None:
    circuit = draw_circuit(pocket_config("1m", 512), seed=5)
    for basis_SDE in (circuit.read_SDE, circuit.kept_SDE, circuit.said_SDE):
        rows = basis_SDE.flatten(0, 1)
        torch.testing.assert_close(rows @ circuit.mean_E, torch.zeros(len(rows)), atol=1e-5, rtol=0)
        assert torch.linalg.matrix_rank(rows, atol=1e-4) == len(rows) - 1
        assert rows.norm(dim=1).max() <= 1 + 1e-5
