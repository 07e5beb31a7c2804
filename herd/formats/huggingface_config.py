"""``config.json`` of a Llama model, both ways.

What our network cannot do (biases, other activations, other rotary scalings) is refused by its key, never ignored:
a model that loads and speaks nonsense costs more than one that does not load.
"""

from pathlib import Path
from typing import Any

from herd.foundation.errors import HerdError
from herd.foundation.files import read_json
from herd.model.config import ModelConfig, RopeScaling

_LANGUAGE_MODEL = "LlamaForCausalLM"
_REWARD_MODEL = "LlamaForSequenceClassification"
_FIXED = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "model_type": "llama"}


def config_to_json(config: ModelConfig, dtype: str, reward: bool, token_ids: dict[str, Any]) -> dict[str, Any]:
    """The contents of ``config.json`` for a model whose weights are stored as ``dtype``."""
    raw: dict[str, Any] = {
        "architectures": [_REWARD_MODEL if reward else _LANGUAGE_MODEL],
        "vocab_size": config.vocab_size,
        "hidden_size": config.dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.ffn_dim,
        "rope_theta": config.rope_theta,
        "rope_scaling": None if config.rope_scaling is None else _scaling_to_json(config.rope_scaling),
        "rms_norm_eps": config.norm_eps,
        "max_position_embeddings": config.max_positions,
        "tie_word_embeddings": config.tied,
        "torch_dtype": dtype,
        "use_cache": True,
    }
    if reward:
        raw |= {"num_labels": 1, "id2label": {"0": "reward"}, "label2id": {"reward": 0}}
    return raw | _FIXED | token_ids


def _scaling_to_json(scaling: RopeScaling) -> dict[str, Any]:
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_max_positions,
    }


def read_config(path: Path) -> dict[str, Any]:
    """The raw ``config.json`` of a model directory; a missing one, or another architecture's, is a ``HerdError``."""
    file = path / "config.json"
    if not file.exists():
        raise HerdError(f"{path}: is no model, it holds no config.json")
    raw = read_json(file)
    if not isinstance(raw, dict):
        raise HerdError(f"{file}: is not a JSON object")
    for key, value in _FIXED.items():
        if raw.get(key, value) != value:
            raise HerdError(f"{file}: {key} is {raw[key]!r}, Herd's network needs {value!r}")
    return raw


def is_reward_model(raw: dict[str, Any]) -> bool:
    """Whether a raw configuration describes a sequence classifier with one label; any other classifier is refused."""
    architecture = (raw.get("architectures") or [_LANGUAGE_MODEL])[0]
    if architecture == _LANGUAGE_MODEL:
        return False
    if architecture != _REWARD_MODEL:
        raise HerdError(f"config.json: architecture {architecture} is neither {_LANGUAGE_MODEL} nor {_REWARD_MODEL}")
    labels = len(raw["id2label"]) if raw.get("id2label") else raw.get("num_labels", 2)
    if labels != 1:
        raise HerdError(f"config.json: a reward model has one label, this one has {labels}")
    return True


def load_config(path: Path) -> ModelConfig:
    """The shape that a model directory's ``config.json`` describes."""
    raw = read_config(path)
    file = path / "config.json"
    try:
        heads = int(raw["num_attention_heads"])
        config = ModelConfig(
            vocab_size=int(raw["vocab_size"]),
            dim=int(raw["hidden_size"]),
            layers=int(raw["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(raw.get("num_key_value_heads") or heads),
            ffn_dim=int(raw["intermediate_size"]),
            norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
            max_positions=int(raw.get("max_position_embeddings", 2048)),
            tied=bool(raw.get("tie_word_embeddings", False)),
            **_rope_from_json(file, raw),
        )
    except KeyError as error:
        raise HerdError(f"{file}: the key {error.args[0]} is missing") from None
    except (TypeError, ValueError) as error:
        raise HerdError(f"{file}: {error}") from None
    if (raw.get("head_dim") or config.head_dim) != config.head_dim:
        raise HerdError(f"{file}: head_dim {raw['head_dim']} is not hidden_size / num_attention_heads")
    return config


def _rope_from_json(file: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """Rotary base and scaling, from the keys of the releases or from ``rope_parameters`` of newer transformers."""
    scaling = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    theta = float(raw.get("rope_theta") or scaling.get("rope_theta") or 10_000.0)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return {"rope_theta": theta, "rope_scaling": None}
    if kind != "llama3":
        raise HerdError(f"{file}: rope_scaling of type {kind!r} is unknown here, only 'llama3' is")
    return {
        "rope_theta": theta,
        "rope_scaling": RopeScaling(
            factor=float(scaling["factor"]),
            low_freq_factor=float(scaling["low_freq_factor"]),
            high_freq_factor=float(scaling["high_freq_factor"]),
            original_max_positions=int(scaling["original_max_position_embeddings"]),
        ),
    }
