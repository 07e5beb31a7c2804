"""Judging a data set by annealing: one that holds what is measured helps, one that is noise does not."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from herd.formats.huggingface import save_model
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, write_json
from herd.foundation.progress import Progress
from herd.model.config import ModelConfig
from herd.model.transformer import Transformer
from herd.pipeline.data_judging import JudgeDataConfig, as_text, judge_data
from herd.train.stages import MixFrom, PretrainConfig
from herd.train.stream import Mix
from tests.songs import VOCABULARY, make_songs

TRAINING = PretrainConfig(tokens=1536, sequence_length=64, batch=[{"share": 0, "rows": 2}], compile="off")
CONFIG = JudgeDataConfig(training=TRAINING, learning_rate=1e-2, seeds=2)


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_songs(tmp_path_factory.mktemp("songs"))


@pytest.fixture
def base(songs: tuple[Path, Path], tmp_path: Path) -> Path:
    model = Transformer(ModelConfig(VOCABULARY, dim=16, layers=1, heads=2, kv_heads=1, ffn_dim=32, tied=True))
    model.init_weights(5)
    save_model(model, songs[1], tmp_path / "base")
    return tmp_path / "base"


def _noise(tokens: Path, place: Path) -> Path:
    """The same documents with drawn tokens; what is held out stays."""
    shutil.copytree(tokens, place)
    file = place / "train" / "general.bin"
    size = file.stat().st_size // 2
    np.random.default_rng(0).integers(0, VOCABULARY, size).astype("<u2").tofile(file)
    return place


def test_songs_help_a_model_that_otherwise_reads_noise(songs: tuple[Path, Path], base: Path, tmp_path: Path) -> None:
    tokens, tokenizer = songs
    (out := tmp_path / "out").mkdir()
    judge_data(CONFIG, base, _noise(tokens, tmp_path / "noise"), tokens, tokenizer, out, Progress.silent())
    found = read_json(out / "judgement.json")
    assert found["verdict"] == "better"
    assert found["differences"]["judged"]["high"] < -0.05
    assert found["losses"]["with"]["judged"]["value"] < found["losses"]["default"]["judged"]["value"]
    assert read_json(out / "with-0" / "stats.json")["mix"] == pytest.approx({"general": 0.7, "candidate-general": 0.3})
    assert not (out / "tokens").exists()
    assert "with the data set: better" in as_text(found)


def test_what_cannot_be_judged_is_refused_before_anything_is_trained(
    songs: tuple[Path, Path], base: Path, tmp_path: Path
) -> None:
    tokens, tokenizer = songs
    other = shutil.copytree(tokens, tmp_path / "other")
    write_json(other / "meta.json", read_json(other / "meta.json") | {"tokenizer": "another"})
    blind = shutil.copytree(tokens, tmp_path / "blind")
    shutil.rmtree(blind / "heldout")
    changing = TRAINING.model_copy(update={"curriculum": (MixFrom(share=0.5, mix=Mix()),)})
    cases = [
        (CONFIG, tokens, other, "other: was made with another tokenizer than"),
        (CONFIG, blind, tokens, "blind: holds no held-out documents"),
        (CONFIG.model_copy(update={"training": changing}), tokens, tokens, "does not change on the way"),
    ]
    for config, default, candidate, sentence in cases:
        with pytest.raises(HerdError, match=sentence):
            judge_data(config, base, default, candidate, tokenizer, tmp_path / "out", Progress.silent())
    assert not list(tmp_path.glob("out/*-0"))
