"""``params.json`` both ways: the shape of a model as Meta's reference code reads it (fact sheet, sections 3.1 and 3.3).

The file says less than a configuration does.  Whether the head is tied is seen in the weights; ``use_scaled_rope``
alone means the scaling of Llama 3.1, and, where the head is tied, that of the small Llama 3.2 models.  What departs
from this is written under keys of its own (``rope_scaling_factor``, ``max_position_embeddings``), over which the
reference code passes.
"""

from pathlib import Path
from typing import Any

from herd.foundation.errors import HerdError
from herd.foundation.files import read_json
from herd.model.config import ModelConfig, RopeScaling

FILE = "params.json"
_UNSUPPORTED = ("moe_args", "vision_chunk_size", "vision_model", "quantization_args", "lora_args")
_FACTOR, _FACTOR_TIED = 8.0, 32.0
_LONG, _LLAMA_3, _LLAMA_2 = 131_072, 8192, 4096
_LLAMA_3_THETA = 500_000.0
_MULTIPLE_OF = 256
_LARGEST_MULTIPLE = 4096


def ffn_width(dim: int, multiplier: float | None, multiple_of: int) -> int:
    """Two thirds of four times ``dim``, times ``multiplier``, rounded up to a multiple; fractions are cut each time."""
    width = int(2 * (4 * dim) / 3)
    if multiplier is not None:
        width = int(multiplier * width)
    return -(-width // multiple_of) * multiple_of


def read_params(path: Path) -> dict[str, Any]:
    """The raw ``params.json`` of a directory; ``HerdError`` where it is missing or asks for another network."""
    file = path / FILE
    raw = read_json(file)
    if not isinstance(raw, dict):
        raise HerdError(f"{file}: is not a JSON object")
    for key in _UNSUPPORTED:
        if raw.get(key) not in (None, -1):
            raise HerdError(f"{file}: {key} is set, which Herd's network has no place for")
    return raw


def config_from_params(file: Path, raw: dict[str, Any], vocab_rows: int, tied: bool) -> ModelConfig:
    """The configuration that ``params.json`` and the weights describe together; ``HerdError`` names file and key.

    ``vocab_rows`` are the rows of the embedding, which count where the file leaves the vocabulary open (-1).
    """
    try:
        dim, heads = int(raw["dim"]), int(raw["n_heads"])
        multiplier = raw.get("ffn_dim_multiplier")
        scaled = bool(raw.get("use_scaled_rope", False))
        theta = float(raw.get("rope_theta", 10_000.0))
        vocab_size = int(raw.get("vocab_size", -1))
        return ModelConfig(
            vocab_size=vocab_size if vocab_size > 0 else vocab_rows,
            dim=dim,
            layers=int(raw["n_layers"]),
            heads=heads,
            kv_heads=int(raw.get("n_kv_heads") or heads),
            ffn_dim=ffn_width(
                dim, None if multiplier is None else float(multiplier), int(raw.get("multiple_of", _MULTIPLE_OF))
            ),
            rope_theta=theta,
            rope_scaling=_scaling(raw, tied) if scaled else None,
            norm_eps=float(raw.get("norm_eps", 1e-5)),
            max_positions=int(raw.get("max_position_embeddings") or _context(scaled, theta)),
            tied=tied,
        )
    except KeyError as error:
        raise HerdError(f"{file}: the key {error.args[0]} is missing") from None
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise HerdError(f"{file}: {error}") from None


def _scaling(raw: dict[str, Any], tied: bool) -> RopeScaling:
    return RopeScaling(factor=float(raw.get("rope_scaling_factor") or _default_factor(tied)))


def _default_factor(tied: bool) -> float:
    return _FACTOR_TIED if tied else _FACTOR


def _context(scaled: bool, theta: float) -> int:
    """The context of the release that such a file comes from."""
    if scaled:
        return _LONG
    return _LLAMA_3 if theta == _LLAMA_3_THETA else _LLAMA_2


def params_from_config(config: ModelConfig) -> dict[str, Any]:
    """The contents of ``params.json``; ``HerdError`` where it cannot express the rotary scaling."""
    scaling = config.rope_scaling
    if scaling is not None and scaling != RopeScaling(factor=scaling.factor):
        raise HerdError(f"{FILE}: cannot express {scaling}; all but its factor must be as in {RopeScaling()}")
    multiplier, multiple_of = _ffn_rule(config.dim, config.ffn_dim)
    params: dict[str, Any] = {
        "dim": config.dim,
        "n_layers": config.layers,
        "n_heads": config.heads,
        "n_kv_heads": config.kv_heads,
        "vocab_size": config.vocab_size,
        "ffn_dim_multiplier": multiplier,
        "multiple_of": multiple_of,
        "norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "use_scaled_rope": scaling is not None,
    }
    if scaling is not None and scaling.factor != _default_factor(config.tied):
        params["rope_scaling_factor"] = scaling.factor
    if config.max_positions != _context(scaling is not None, config.rope_theta):
        params["max_position_embeddings"] = config.max_positions
    return params


def _ffn_rule(dim: int, width: int) -> tuple[float, int]:
    """A multiplier, with as few digits as do, and a multiple that together make the feed-forward ``width``.

    Every product from just above the multiple below up to ``width`` is rounded up to it; we aim at the middle.
    """
    multiple_of = min(width & -width, _LARGEST_MULTIPLE)
    middle = (width - multiple_of / 2 + 0.5) / int(2 * (4 * dim) / 3)
    for digits in range(1, 17):
        multiplier = round(middle, digits)
        if ffn_width(dim, multiplier, multiple_of) == width:
            return multiplier, multiple_of
    raise HerdError(f"{FILE}: no multiplier makes a feed-forward width of {width} from a dimension of {dim}")
