"""Small models as directories of each format, and the ways to compare them."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from herd.formats.convert import ConvertConfig, convert
from herd.formats.huggingface import load_transformer
from herd.foundation.progress import Progress
from herd.model.attention import DocumentAttention
from herd.model.config import ModelConfig, RopeScaling
from herd.model.transformer import Transformer

VOCABULARY = 512
LENGTH = 256


def small_config(tied: bool = False, scaled: bool = True) -> ModelConfig:
    """A shape that all three formats can express; it is short enough of heads for two model-parallel ranks."""
    return ModelConfig(
        vocab_size=VOCABULARY,
        dim=64,
        layers=2,
        heads=4,
        kv_heads=2,
        ffn_dim=96,
        tied=tied,
        rope_scaling=RopeScaling(factor=32.0 if tied else 8.0) if scaled else None,
    )


def small_transformer(tied: bool = False, scaled: bool = True) -> Transformer:
    """Random weights, all of them of consequence."""
    model = Transformer(small_config(tied, scaled))
    model.init_weights(11, induction=False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    return model


def to(form: str, source: Path, out: Path, **options: object) -> Path:
    """Converts and gives the place of the result."""
    convert(ConvertConfig(to=form, **options), source, out, Progress.silent())
    return out


def tokens() -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (LENGTH,), generator=torch.Generator().manual_seed(4))


@torch.no_grad()
def our_logits(model: Transformer | Path) -> torch.Tensor:
    """Logits (LENGTH, VOCABULARY) of a model or of the one in a directory, in single precision."""
    model = load_transformer(model, torch.float32) if isinstance(model, Path) else model
    return model.logits(model(tokens(), torch.arange(LENGTH), DocumentAttention([LENGTH])))


def weights(directory: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a Hugging Face directory, by name."""
    return {name: tensor for file in directory.glob("*.safetensors") for name, tensor in load_file(file).items()}


def assert_same_weights(first: Path, second: Path) -> None:
    """The same names, types and bits."""
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype, name
        assert torch.equal(tensor, theirs[name]), name
