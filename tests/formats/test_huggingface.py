"""Hugging Face directories both ways, logits to logits against transformers, and sources that must be refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from herd.formats.huggingface import load_config, load_model, load_transformer, save_model
from herd.foundation.errors import HerdError
from herd.model.attention import DocumentAttention
from herd.model.config import ModelConfig, RopeScaling
from herd.model.transformer import RewardModel, Transformer

transformers = pytest.importorskip("transformers")

SCALING = RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=32)
LENGTH = 96
WEIGHTS = "model.safetensors"


def _config(tied: bool = False, scaling: RopeScaling | None = SCALING) -> ModelConfig:
    return ModelConfig(
        vocab_size=320, dim=64, layers=2, heads=4, kv_heads=2, ffn_dim=96, tied=tied, rope_scaling=scaling
    )


def _tokens() -> torch.Tensor:
    return torch.randint(0, 320, (LENGTH,), generator=torch.Generator().manual_seed(4))


@torch.no_grad()
def _ours(model: Any) -> torch.Tensor:
    tokens = _tokens()
    out = model(tokens, torch.arange(LENGTH), DocumentAttention([LENGTH]))
    return out[-1:] if isinstance(model, RewardModel) else model.logits(out)


@torch.no_grad()
def _theirs(model: Any) -> torch.Tensor:
    return model.eval()(_tokens()[None]).logits[0]


def _make(kind: str, tied: bool, scaling: RopeScaling | None) -> Transformer | RewardModel:
    base = Transformer(_config(tied, scaling))
    base.init_weights(11, induction=False)
    return base if kind == "language" else RewardModel.from_transformer(base, 12)


def _reference(path: Path, kind: str) -> Any:
    name = "AutoModelForCausalLM" if kind == "language" else "AutoModelForSequenceClassification"
    return getattr(transformers, name).from_pretrained(path, dtype=torch.float32)


@pytest.mark.parametrize("kind", ["language", "reward"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("scaling", [None, SCALING], ids=["plain", "scaled"])
def test_transformers_reads_what_we_write(tmp_path: Path, kind: str, tied: bool, scaling: RopeScaling | None) -> None:
    model = _make(kind, tied, scaling)
    save_model(model, None, tmp_path)
    torch.testing.assert_close(_ours(model), _theirs(_reference(tmp_path, kind)), atol=1e-5, rtol=0)
    again = load_model(tmp_path)
    assert type(again) is type(model)
    assert again.config == model.config
    assert torch.equal(_ours(again), _ours(model))


@pytest.mark.parametrize("kind", ["language", "reward"])
@pytest.mark.parametrize("tied", [False, True])
def test_we_read_what_transformers_writes(tmp_path: Path, kind: str, tied: bool) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    config = transformers.LlamaConfig(
        vocab_size=320,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
        rope_parameters=rope,
        tie_word_embeddings=tied,
        num_labels=1,
        rms_norm_eps=1e-5,
    )
    torch.manual_seed(6)
    name = "LlamaForCausalLM" if kind == "language" else "LlamaForSequenceClassification"
    reference = getattr(transformers, name)(config)
    reference.save_pretrained(tmp_path, max_shard_size="100KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()  # several shards
    torch.testing.assert_close(_ours(load_model(tmp_path)), _theirs(reference), atol=1e-5, rtol=0)


def _rewrite(path: Path, change: Any) -> None:
    tensors = load_file(path / WEIGHTS)
    change(tensors)
    save_file(tensors, path / WEIGHTS, metadata={"format": "pt"})


def _permute_queries(tensors: dict[str, torch.Tensor]) -> None:
    """The layout of neighbouring pairs, as Meta's files have it."""
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors[name] = tensors[name].view(4, 2, 8, 64).transpose(1, 2).reshape(64, 64).contiguous()


def _swap_gate(tensors: dict[str, torch.Tensor]) -> None:
    gate, up = "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight"
    tensors[gate], tensors[up] = tensors[up], tensors[gate]


def _forget_scaling(path: Path) -> None:
    raw = json.loads((path / "config.json").read_text())
    raw["rope_scaling"] = None
    (path / "config.json").write_text(json.dumps(raw))


@pytest.mark.parametrize("mistake", ["permutation", "gate", "scaling"])
def test_the_parity_test_sees_the_classic_mistakes(tmp_path: Path, mistake: str) -> None:
    model = _make("language", False, SCALING)
    save_model(model, None, tmp_path)
    if mistake == "scaling":
        _forget_scaling(tmp_path)
    else:
        _rewrite(tmp_path, _permute_queries if mistake == "permutation" else _swap_gate)
    assert (_ours(load_model(tmp_path)) - _ours(model)).abs().max() > 1e-3
    assert (_theirs(_reference(tmp_path, "language")) - _ours(model)).abs().max() > 1e-3


NORM = "model.layers.1.input_layernorm.weight"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tensors: tensors.pop(NORM), f"tensor {NORM} is missing"),
        (lambda tensors: tensors.update({"model.extra.bias": torch.ones(2)}), "tensor model.extra.bias has no place"),
        (lambda tensors: tensors.update({NORM: torch.ones(63)}), rf"tensor {NORM} has shape \(63,\).*\(64,\)"),
        (lambda tensors: tensors.update({NORM: torch.full((64,), float("nan"))}), f"tensor {NORM} .*not finite"),
        (lambda tensors: tensors.update({NORM: torch.ones(64, dtype=torch.int8)}), f"tensor {NORM} is of type I8"),
    ],
)
def test_mismatching_tensors_are_refused_by_name(tmp_path: Path, change: Any, sentence: str) -> None:
    save_model(_make("language", False, None), None, tmp_path)
    _rewrite(tmp_path, change)
    with pytest.raises(HerdError, match=sentence):
        load_model(tmp_path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    save_model(_make("language", False, None), None, tmp_path)
    whole = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HerdError, match=r"model\.safetensors: not readable as safetensors"):
        load_model(tmp_path)


def test_a_pickled_checkpoint_is_not_even_opened(tmp_path: Path) -> None:
    save_model(_make("language", False, None), None, tmp_path)
    (tmp_path / WEIGHTS).rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(HerdError, match=r"holds neither model\.safetensors nor"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("attention_bias", True, "attention_bias is True"),
        ("hidden_act", "gelu", "hidden_act is 'gelu'"),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}, "type 'yarn' is unknown"),
        ("rope_scaling", {"rope_type": "llama3", "factor": 4.0}, "low_freq_factor is missing"),
        ("hidden_size", 66, "not divisible"),
        ("head_dim", 32, "head_dim 32"),
        ("architectures", ["MistralForCausalLM"], "MistralForCausalLM"),
    ],
)
def test_what_the_network_cannot_do_is_refused_by_key(tmp_path: Path, key: str, value: object, sentence: str) -> None:
    save_model(_make("language", False, None), None, tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text()) | {key: value}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(HerdError, match=sentence):
        load_model(tmp_path)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    save_model(_make("language", False, None), None, tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    del raw["hidden_size"]
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(HerdError, match="the key hidden_size is missing"):
        load_config(tmp_path)


def test_the_directory_is_complete_and_stops_at_all_three_ends(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text("{}")
    (tokenizer / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    out = tmp_path / "model"
    save_model(_make("language", True, None), tokenizer, out)
    generation = json.loads((out / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [64 + 1, 64 + 8, 64 + 9]  # 320 tokens, of which the last 256 are special
    assert generation["bos_token_id"] == 64
    assert (out / "tokenizer_config.json").read_text() == (tokenizer / "tokenizer_config.json").read_text()
    assert not list(out.glob(".*"))
    with pytest.raises(HerdError, match=r"tokenizer\.json"):
        save_model(_make("language", True, None), tmp_path, out)


def test_a_language_model_is_not_taken_for_a_reward_model(tmp_path: Path) -> None:
    save_model(_make("reward", False, None), None, tmp_path)
    with pytest.raises(HerdError, match="is a reward model"):
        load_transformer(tmp_path)


def test_half_precision_is_stored_and_restored(tmp_path: Path) -> None:
    model = _make("language", False, None)
    save_model(model, None, tmp_path, dtype=torch.bfloat16)
    stored = load_model(tmp_path)
    assert next(stored.parameters()).dtype == torch.bfloat16
    assert next(model.parameters()).dtype == torch.float32
    assert next(load_model(tmp_path, dtype=torch.float32).parameters()).dtype == torch.float32
