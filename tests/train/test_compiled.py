"""Compiled layers: the same numbers, one compilation for all batches and layers, and the decision not to compile."""

from pathlib import Path

import pytest
import torch

from herd.model.attention import document_positions
from herd.model.config import ModelConfig
from herd.model.transformer import Transformer
from herd.train import compiled
from herd.train.batch import Batch, next_token_loss
from herd.train.compiled import CompiledLayers, compiler_available, decide_compile


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU needs no C++ compiler")
def test_a_machine_without_a_compiler_is_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    reason = compiler_available.__wrapped__()  # past the memory of this machine's own answer
    assert reason is not None
    assert "no C++ compiler" in reason


def test_the_decision_follows_mode_and_length() -> None:
    assert decide_compile("off", 1e20) == "the configuration says so"
    assert "too short" in (decide_compile("auto", 1e10) or "")
    assert decide_compile("auto", 1e20) == compiler_available()
    assert decide_compile("on", 1.0) == compiler_available()


def test_a_gpu_repays_the_wait_later_and_needs_triton_and_a_c_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    find = compiler_available.__wrapped__
    assert "too short" in (decide_compile("auto", 1e15, "cuda") or "")
    assert find("mps") == "layers on mps are not compiled"
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: None)
    assert find("cuda") == "Triton is not installed"
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("CC", "no-such-compiler")
    assert find("cuda") == "there is no C compiler (no-such-compiler) on this machine"


@pytest.mark.slow
@pytest.mark.skipif(compiler_available() is not None, reason="no C++ compiler to compile layers with")
def test_compiled_layers_agree_with_eager_ones_and_are_compiled_once() -> None:
    model = Transformer(ModelConfig(vocab_size=64, dim=32, layers=3, heads=2, kv_heads=1, ffn_dim=48))
    model.init_weights(0)
    speed = CompiledLayers(model)
    torch._dynamo.reset()  # what another test compiled in this process would serve here too
    torch._dynamo.utils.counters.clear()
    for lengths in ([31, 8], [5, 5, 5], [64]):
        tokens = torch.arange(sum(lengths)) % 61
        batch = Batch(tokens, document_positions(lengths), tokens * 7 % 61, lengths)
        next_token_loss(model, batch).total_sum.backward()
        eager = {name: parameter.grad for name, parameter in model.named_parameters()}
        model.zero_grad()
        with speed:
            next_token_loss(model, batch).total_sum.backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, eager[name], atol=1e-4, rtol=1e-3)
        model.zero_grad()
        assert "project" not in vars(model.layers[0])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
