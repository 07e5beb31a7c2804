"""Small models as Hugging Face directories, made once."""

from pathlib import Path

import pytest

from herd.formats.huggingface import save_model
from herd.model.transformer import RewardModel
from herd.tokenizer.bpe import train_bpe
from herd.tokenizer.tokenizer import Tokenizer
from tests.formats.small import VOCABULARY, small_transformer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """No merges: 256 bytes and 256 control tokens."""
    return train_bpe([], VOCABULARY)


@pytest.fixture(scope="session")
def tokenizer_dir(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a directory."""
    place = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(place)
    return place


@pytest.fixture(scope="session")
def hf(tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untied language model with its tokenizer, as a Hugging Face directory.  Not to be changed."""
    out = tmp_path_factory.mktemp("hf") / "model"
    save_model(small_transformer(), tokenizer_dir, out)
    return out


@pytest.fixture(scope="session")
def reward(tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model.  Not to be changed."""
    out = tmp_path_factory.mktemp("reward") / "model"
    save_model(RewardModel.from_transformer(small_transformer(), 12), tokenizer_dir, out)
    return out
