"""Meta's format both ways against an independent network in Meta's convention, and sources that must be refused."""

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from herd.formats import rotary_order
from herd.formats.huggingface import load_model, save_model
from herd.formats.meta import layout, params, reader
from herd.formats.meta.reader import MetaSource
from herd.formats.tensors import HEAD
from herd.foundation.errors import HerdError
from herd.model.config import PRESETS, ModelConfig, RopeScaling, pocket_config
from herd.tokenizer.tokenizer import Tokenizer
from tests.formats import metas_network
from tests.formats.small import LENGTH, VOCABULARY, our_logits, small_config, small_transformer, to, tokens, weights

PARAMS = {
    "dim": 64,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "vocab_size": VOCABULARY,
    "ffn_dim_multiplier": 0.5,
    "multiple_of": 32,
    "norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "use_scaled_rope": True,
}
FFN = 96
TOLERANCE = {"atol": 1e-5, "rtol": 0}


def write_meta(out: Path, settings: dict[str, Any], parts: list[metas_network.Weights]) -> Path:
    """A directory as Meta publishes it."""
    out.mkdir()
    (out / "params.json").write_text(json.dumps(settings))
    for rank, part in enumerate(parts):
        torch.save(part, out / f"consolidated.{rank:02d}.pth")
    return out


def read_meta(path: Path) -> tuple[dict[str, Any], metas_network.Weights]:
    files = sorted(path.glob("consolidated.*.pth"))
    return json.loads((path / "params.json").read_text()), metas_network.joined(
        [torch.load(file, weights_only=True) for file in files]
    )


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_metas_network_agrees_on_what_we_write(tmp_path: Path, ranks: int, tied: bool, scaled: bool) -> None:
    model = small_transformer(tied, scaled)
    save_model(model, None, tmp_path / "hf")
    settings, theirs = read_meta(to("meta", tmp_path / "hf", tmp_path / "meta", ranks=ranks))
    found = metas_network.logits(settings, theirs, tokens(), factor=32.0 if tied else 8.0)
    torch.testing.assert_close(our_logits(model), found.float(), **TOLERANCE)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("scaled", [False, True])
def test_transformers_and_we_agree_on_what_meta_writes(tmp_path: Path, ranks: int, scaled: bool) -> None:
    transformers = pytest.importorskip("transformers")
    settings = PARAMS | {"use_scaled_rope": scaled}
    theirs = metas_network.random_weights(settings, FFN, seed=5)
    expected = metas_network.logits(settings, theirs, tokens()).float()
    write_meta(tmp_path / "meta", settings, metas_network.divided(theirs, ranks))
    made = to("hf", tmp_path / "meta", tmp_path / "hf", shard_bytes=100_000)
    assert (made / "model.safetensors.index.json").is_file()
    torch.testing.assert_close(our_logits(made), expected, **TOLERANCE)
    reference = transformers.AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(reference(tokens()[None]).logits[0], expected, **TOLERANCE)


def _no_permutation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "to_halves", lambda weight, heads: weight)


def _wrong_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "to_halves", rotary_order.to_pairs)


def _swapped_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    swapped = {"mlp.gate_proj": "feed_forward.w3", "mlp.up_proj": "feed_forward.w1"}
    monkeypatch.setattr(layout, "_IN_LAYER", layout._IN_LAYER | swapped)


def _no_scaling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "_scaling", lambda raw, tied: None)


def _scaling_of_the_small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "_default_factor", lambda tied: 32.0)


@pytest.mark.parametrize(
    "mistake", [_no_permutation, _wrong_way_round, _swapped_gate, _no_scaling, _scaling_of_the_small_models]
)
def test_the_comparison_sees_the_classic_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: Any
) -> None:
    theirs = metas_network.random_weights(PARAMS, FFN, seed=5)
    write_meta(tmp_path / "meta", PARAMS, [theirs])
    mistake(monkeypatch)
    made = to("hf", tmp_path / "meta", tmp_path / "hf")
    assert (our_logits(made) - metas_network.logits(PARAMS, theirs, tokens())).abs().max() > 100 * 1e-5


def test_rows_go_from_pairs_to_halves() -> None:
    pairs = torch.arange(16).reshape(16, 1)  # two heads of eight rows
    halves = rotary_order.to_halves(pairs, 2)
    assert halves.flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15]
    assert torch.equal(rotary_order.to_pairs(halves, 2), pairs)


# params.json of the releases.
RELEASED = {
    "llama-3.1-8b": {"dim": 4096, "n_layers": 32, "n_heads": 32, "ffn_dim_multiplier": 1.3, "multiple_of": 1024},
    "llama-3.1-70b": {"dim": 8192, "n_layers": 80, "n_heads": 64, "ffn_dim_multiplier": 1.3, "multiple_of": 4096},
    "llama-3.1-405b": {"dim": 16_384, "n_layers": 126, "n_heads": 128, "ffn_dim_multiplier": 1.2, "multiple_of": 4096},
    "llama-3.2-1b": {"dim": 2048, "n_layers": 16, "n_heads": 32, "ffn_dim_multiplier": 1.5, "multiple_of": 256},
    "llama-3.2-3b": {"dim": 3072, "n_layers": 28, "n_heads": 24, "ffn_dim_multiplier": 1.0, "multiple_of": 256},
}


@pytest.mark.parametrize("name", RELEASED)
def test_the_released_settings_give_the_published_shapes(name: str) -> None:
    shared = {"n_kv_heads": 8, "vocab_size": 128_256, "norm_eps": 1e-5, "rope_theta": 5e5, "use_scaled_rope": True}
    shape = PRESETS[name]
    assert params.config_from_params(Path("params.json"), RELEASED[name] | shared, 128_256, shape.tied) == shape


def test_llama_2_leaves_vocabulary_and_rotary_base_open() -> None:
    raw = {"dim": 4096, "multiple_of": 256, "n_heads": 32, "n_layers": 32, "norm_eps": 1e-5, "vocab_size": -1}
    assert params.config_from_params(Path("params.json"), raw, 32_000, tied=False) == PRESETS["llama-2-7b"]


@pytest.mark.parametrize(
    "shape",
    [
        *PRESETS.values(),
        pocket_config("0.8m", 2048),
        small_config(),
        replace(PRESETS["llama-3.2-1b"], rope_scaling=RopeScaling(factor=16.0), max_positions=4096),
        ModelConfig(vocab_size=300, dim=6, layers=1, heads=1, kv_heads=1, ffn_dim=7919),
    ],
)
def test_settings_come_back_as_the_same_shape(shape: ModelConfig) -> None:
    raw = json.loads(json.dumps(params.params_from_config(shape)))
    assert params.config_from_params(Path("params.json"), raw, shape.vocab_size, shape.tied) == shape


def test_a_scaling_that_the_settings_cannot_express_is_refused() -> None:
    shape = replace(small_config(), rope_scaling=RopeScaling(original_max_positions=32))
    with pytest.raises(HerdError, match=r"params\.json: cannot express RopeScaling.*original_max_positions=32"):
        params.params_from_config(shape)


def test_an_embedding_cut_by_its_dimension_is_read(tmp_path: Path) -> None:
    """Llama 2 cut it so, and stored the rotary frequencies beside the weights."""
    theirs = metas_network.random_weights(PARAMS, FFN, seed=5)
    parts = metas_network.divided(theirs, 2)
    for part, columns in zip(parts, theirs["tok_embeddings.weight"].chunk(2, 1), strict=True):
        part |= {"tok_embeddings.weight": columns.clone(), "rope.freqs": torch.ones(8)}
    source = MetaSource(write_meta(tmp_path / "meta", PARAMS | {"vocab_size": -1}, parts))
    assert torch.equal(source.read("model.embed_tokens.weight"), theirs["tok_embeddings.weight"])


def test_a_head_that_equals_the_embedding_is_tied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_COMPARED_BYTES", 1000)  # in many pieces
    theirs = metas_network.random_weights(PARAMS, FFN, seed=5)
    theirs["output.weight"] = theirs["tok_embeddings.weight"].clone()
    source = MetaSource(write_meta(tmp_path / "tied", PARAMS, metas_network.divided(theirs, 2)))
    assert source.config.tied
    assert source.config.rope_scaling == RopeScaling(factor=32.0)
    assert HEAD not in source.tensors
    theirs["output.weight"][-1, -1] += 1
    assert not MetaSource(write_meta(tmp_path / "untied", PARAMS, metas_network.divided(theirs, 2))).config.tied
    del theirs["output.weight"]
    assert MetaSource(write_meta(tmp_path / "absent", PARAMS, [theirs])).config.tied


def test_an_archive_is_whole_for_every_reader(hf: Path, tmp_path: Path) -> None:
    for file in to("meta", hf, tmp_path / "meta", ranks=2).glob("*.pth"):
        with zipfile.ZipFile(file) as archive:
            assert archive.testzip() is None  # every checksum holds
            assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_the_tokenizer_goes_along(hf: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    meta = to("meta", hf, tmp_path / "meta")
    assert (meta / "tokenizer.model").read_bytes() == (hf / "tokenizer.model").read_bytes()
    back = to("hf", meta, tmp_path / "back")
    for name in ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        assert (back / name).read_bytes() == (hf / name).read_bytes()
    assert Tokenizer.load(back).special == tokenizer.special


def test_a_reward_model_has_no_place(reward: Path, tmp_path: Path) -> None:
    with pytest.raises(HerdError, match="is a reward model, for which Meta's format has no place"):
        to("meta", reward, tmp_path / "meta")


def test_ranks_must_divide_the_heads(hf: Path, tmp_path: Path) -> None:
    with pytest.raises(HerdError, match="2 heads of keys cannot be divided among 4 ranks"):
        to("meta", hf, tmp_path / "meta", ranks=4)


class Evil:
    """Runs a command when it is unpickled without care."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch /tmp/herd-was-here",)


def _break(path: Path, what: str) -> None:
    first, second = path / "consolidated.00.pth", path / "consolidated.01.pth"
    part = torch.load(second, weights_only=True)
    norm = "layers.1.ffn_norm.weight"
    if what == "code":
        torch.save({"norm.weight": Evil()}, second)
    elif what == "cut":
        first.write_bytes(first.read_bytes()[:-5000])
    elif what == "empty":
        first.write_bytes(b"")
    elif what == "last rank":
        second.unlink()
    elif what == "first rank":
        first.unlink()
    elif what == "settings":
        (path / "params.json").unlink()
    elif what == "no matrix":
        for file in (first, second):
            torch.save(torch.load(file, weights_only=True) | {"tok_embeddings.weight": torch.tensor(1.0)}, file)
    elif what == "list":
        torch.save([torch.ones(2)], second)
    elif what == "number":
        torch.save(part | {"step": 3}, second)
    else:
        changed = {
            "missing": {},
            "nan": {norm: part[norm], "layers.0.attention.wq.weight": torch.full((32, 64), float("nan"))},
            "other norm": {norm: part[norm] + 1},
            "shape": {norm: torch.ones(63)},
            "integers": {norm: torch.ones(64, dtype=torch.int8)},
            "surplus": {norm: part[norm], "extra.weight": torch.ones(2)},
        }[what]
        torch.save({name: tensor for name, tensor in part.items() if name != norm} | changed, second)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("code", r"consolidated\.01\.pth: refused, since it holds code or objects beside tensors"),
        ("cut", r"consolidated\.00\.pth: not readable as a PyTorch checkpoint, it may be cut off"),
        ("empty", r"consolidated\.00\.pth: not readable as a PyTorch checkpoint"),
        ("first rank", r"consolidated\.00\.pth: is missing, there are files of later ranks"),
        (
            "last rank",
            r"\(1 of consolidated\.NN\.pth\): tensor tok_embeddings.weight has shape \(256, 64\).*\(512, 64\)",
        ),
        ("settings", r"params\.json: there is no such file"),
        ("list", r"consolidated\.01\.pth: holds no dictionary of tensors"),
        ("number", r"consolidated\.01\.pth: 'step' is no tensor"),
        ("missing", r"consolidated\.01\.pth: tensor layers\.1\.ffn_norm\.weight is missing"),
        ("nan", r"consolidated\.01\.pth: tensor layers\.0\.attention\.wq\.weight holds values that are not finite"),
        ("other norm", r"consolidated\.01\.pth: tensor layers\.1\.ffn_norm\.weight differs from the one in"),
        ("shape", r"consolidated\.01\.pth: tensor layers\.1\.ffn_norm\.weight is torch\.float32 of shape \(63,\)"),
        ("no matrix", r"tensor tok_embeddings\.weight is missing, or no matrix"),
        ("integers", r"consolidated\.01\.pth: tensor layers\.1\.ffn_norm\.weight is of type torch\.int8"),
        ("surplus", r"consolidated\.01\.pth: tensor extra\.weight is not in consolidated\.00\.pth"),
    ],
)
def test_a_bad_source_is_named_with_file_and_tensor(hf: Path, tmp_path: Path, what: str, sentence: str) -> None:
    meta = to("meta", hf, tmp_path / "meta", ranks=2)
    _break(meta, what)
    with pytest.raises(HerdError, match=sentence):
        to("hf", meta, tmp_path / "out")
    assert not Path("/tmp/herd-was-here").exists()
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_bare_pickle_is_not_run(hf: Path, tmp_path: Path) -> None:
    import pickle

    meta = to("meta", hf, tmp_path / "meta")
    (meta / "consolidated.00.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(HerdError, match=r"consolidated\.00\.pth: "):
        MetaSource(meta)
    assert not Path("/tmp/herd-was-here").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"dim": None}, r"params\.json: .*NoneType"),
        ({"n_heads": 5}, "not divisible"),
        ({"multiple_of": 0}, r"params\.json: .*division|modulo"),
        ({"vision_chunk_size": 448}, "vision_chunk_size is set"),
        ({"vocab_size": 300}, r"tok_embeddings.weight has shape \(512, 64\).*\(300, 64\)"),
        ({"n_layers": 3}, r"tensor layers\.2\.attention\.wk\.weight is missing"),
    ],
)
def test_wrong_settings_are_named(hf: Path, tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    meta = to("meta", hf, tmp_path / "meta")
    raw = json.loads((meta / "params.json").read_text())
    (meta / "params.json").write_text(json.dumps(raw | change))
    with pytest.raises(HerdError, match=sentence):
        MetaSource(meta)


def test_a_missing_setting_is_named(hf: Path, tmp_path: Path) -> None:
    meta = to("meta", hf, tmp_path / "meta")
    raw = json.loads((meta / "params.json").read_text())
    (meta / "params.json").write_text(json.dumps({key: value for key, value in raw.items() if key != "n_layers"}))
    with pytest.raises(HerdError, match="the key n_layers is missing"):
        MetaSource(meta)
    (meta / "params.json").write_text("[1]")
    with pytest.raises(HerdError, match="is not a JSON object"):
        MetaSource(meta)


def test_what_went_through_meta_is_what_it_was(hf: Path, tmp_path: Path) -> None:
    back = to("hf", to("meta", hf, tmp_path / "meta", ranks=2), tmp_path / "back")
    assert load_model(back).config == load_model(hf).config
    for name, tensor in weights(hf).items():
        assert torch.equal(weights(back)[name], tensor)
    assert our_logits(back).shape == (LENGTH, VOCABULARY)
