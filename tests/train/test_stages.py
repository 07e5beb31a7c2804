"""Training on documents as a stage: from shards to a model that others can read, and on from there."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from herd.formats.huggingface import load_transformer
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json
from herd.foundation.progress import Progress
from herd.model.config import ModelConfig
from herd.train.average import AverageConfig
from herd.train.schedule import OptimizerConfig
from herd.train.stages import MixFrom, PretrainConfig, RowsFrom, pretrain
from herd.train.stream import Mix

SILENT = Progress.silent()
VOCABULARY = 600


SHAPE = ModelConfig(VOCABULARY, dim=32, layers=2, heads=2, kv_heads=1, ffn_dim=64, max_positions=64, tied=True)
CONFIG = PretrainConfig(
    tokens=20_000,
    sequence_length=64,
    batch=(RowsFrom(share=0, rows=2), RowsFrom(share=0.5, rows=4)),
    optimizer=OptimizerConfig(learning_rate=1e-2),
    average=AverageConfig(last=3, every=5),
    compile="off",
)


def test_tokens_of_a_larger_vocabulary_than_the_model_s_or_of_another_tokenizer_are_refused(
    artifacts: tuple[Path, Path], tmp_path: Path
) -> None:
    tokens, tokenizer = artifacts
    small = replace(SHAPE, vocab_size=500)
    with pytest.raises(HerdError, match="was made with a vocabulary of 600 tokens, but the model knows 500;"):
        pretrain(CONFIG, small, tokens, tokenizer, tmp_path, SILENT)
    other = shutil.copytree(tokenizer, tmp_path / "other")
    with (other / "tokenizer.model").open("a") as ranks:
        ranks.write("\n")
    with pytest.raises(HerdError, match=r"tokens: was made with another tokenizer than .*other"):
        pretrain(CONFIG, SHAPE, tokens, other, tmp_path, SILENT)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_shares_become_steps_and_keep_the_tokens() -> None:
    schedule = CONFIG.schedule()
    assert [(step.step, step.rows) for step in schedule.batch.ramp] == [(0, 2), (78, 4)]
    assert abs(schedule.tokens() - CONFIG.tokens) <= 4 * 64


def test_a_curriculum_changes_the_mix_at_its_step_and_is_refused_where_it_has_none(
    artifacts: tuple[Path, Path], tmp_path: Path
) -> None:
    tokens, tokenizer = shutil.copytree(artifacts[0], tmp_path / "tokens"), artifacts[1]
    for file in (tokens / "train").glob("general.*"):
        shutil.copy(file, file.with_name(file.name.replace("general", "code")))
    (tmp_path / "one").mkdir()
    first, then = Mix(weights={"general": 0.5, "code": 0.5}), Mix(weights={"code": 1.0})
    config = CONFIG.model_copy(
        update={
            "tokens": 2560,
            "mix": first,
            "curriculum": (MixFrom(share=0.45, mix=then),),
            "average": AverageConfig(),
        }
    )
    pretrain(config, SHAPE, tokens, tokenizer, tmp_path / "one", SILENT)
    # 15 steps: ten of two rows, five of four.  The change waits for step 9, the first that begins at 18 rows or more.
    figures = read_json(tmp_path / "one" / "stats.json")
    assert figures["mix"] == pytest.approx({"general": 9 / 40, "code": 31 / 40})
    late = config.model_copy(update={"curriculum": (MixFrom(share=0.99, mix=then),)})
    with pytest.raises(HerdError, match=r"the mix from share 0.99 on gets no step of its own among 15"):
        pretrain(late, SHAPE, tokens, tokenizer, tmp_path / "late", SILENT)
    with pytest.raises(ValueError, match="the shares of curriculum must ascend"):
        PretrainConfig(tokens=1, curriculum=[{"share": 0.5, "mix": {}}, {"share": 0.2, "mix": {}}])


def test_rows_may_begin_short_and_keep_the_tokens() -> None:
    ramp = (RowsFrom(share=0, rows=4, length=32), RowsFrom(share=0.5, rows=4))
    schedule = CONFIG.model_copy(update={"batch": ramp}).schedule()
    assert [(step.step, step.rows, step.pieces) for step in schedule.batch.ramp] == [(0, 2, 2), (78, 4, 1)]
    assert abs(schedule.tokens() - CONFIG.tokens) <= 4 * 64
    for rows, length in ((3, 32), (4, 24), (4, 128)):
        wrong = CONFIG.model_copy(update={"batch": (RowsFrom(share=0, rows=rows, length=length),)})
        with pytest.raises(HerdError, match=f"{rows} rows of {length} tokens are no whole number of rows of 64"):
            wrong.schedule()


def test_steps_of_a_warm_up_that_a_share_would_replace_are_refused() -> None:
    with pytest.raises(ValidationError, match="warmup gives the share of the steps"):
        PretrainConfig(tokens=1000, optimizer=OptimizerConfig(warmup_steps=10))


def test_a_batch_that_the_ramp_cannot_reach_is_refused_with_its_numbers() -> None:
    late = CONFIG.model_copy(update={"batch": (RowsFrom(share=0, rows=2), RowsFrom(share=0.9, rows=64))})
    sentence = "64 rows of 64 tokens are 4,096 tokens a step, but from share 0.9 to 1 of 20,000 tokens there are 2,000"
    with pytest.raises(HerdError, match=sentence):
        late.schedule()
    assert late.model_copy(update={"tokens": 21_000}).schedule().batch.rows(10**6) == 64


def test_a_model_learns_is_saved_averaged_and_goes_on_at_a_greater_length(
    artifacts: tuple[Path, Path], tmp_path: Path
) -> None:
    tokens, tokenizer = artifacts
    for name in ("base", "long"):
        (tmp_path / name).mkdir()
    pretrain(CONFIG, SHAPE, tokens, tokenizer, tmp_path / "base", SILENT)
    figures = read_json(tmp_path / "base" / "stats.json")
    assert figures["held_out"] < 0.5 * math.log(VOCABULARY)
    assert figures["averaged"]["held_out"] == pytest.approx(figures["held_out"], abs=0.3)
    assert not (tmp_path / "base" / "checkpoints").exists()
    longer = CONFIG.model_copy(update={"sequence_length": 256, "tokens": 4096})
    pretrain(longer, tmp_path / "base", tokens, tokenizer, tmp_path / "long", SILENT)
    assert load_transformer(tmp_path / "long").config.max_positions == 256
    assert read_json(tmp_path / "long" / "stats.json")["held_out"] < figures["held_out"] + 0.2


def test_recomputation_is_configured_and_changes_no_byte_of_the_result(
    artifacts: tuple[Path, Path], tmp_path: Path
) -> None:
    tokens, tokenizer = artifacts
    short = CONFIG.model_copy(update={"tokens": 1024, "average": AverageConfig()})
    written = {}
    for kind in ("none", "selective", "full"):
        (out := tmp_path / kind).mkdir()
        pretrain(short.model_copy(update={"recompute": kind}), SHAPE, tokens, tokenizer, out, SILENT)
        written[kind] = (out / "model.safetensors").read_bytes()
    assert written["none"] == written["selective"] == written["full"]


def test_checkpoints_of_another_network_and_damaged_ones_are_refused_before_one_is_made(
    artifacts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, tokenizer = artifacts
    short = CONFIG.model_copy(update={"tokens": 1024, "average": AverageConfig(), "keep_every": 4})
    pretrain(short, SHAPE, tokens, tokenizer, tmp_path, SILENT)
    monkeypatch.setattr("herd.train.beginning.Fresh.whole", None)
    with pytest.raises(HerdError, match=r"network \(network\.ffn_dim was 64, now it is 96\); remove it to start again"):
        pretrain(short, replace(SHAPE, ffn_dim=96), tokens, tokenizer, tmp_path, SILENT)
    newest = max((tmp_path / "checkpoints").glob("0*")) / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.raises(HerdError, match=r"state\.safetensors: is not what was written"):
        pretrain(short, SHAPE, tokens, tokenizer, tmp_path, SILENT)
