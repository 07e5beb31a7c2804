"""A model of Llama 2's kind through every format: weights, tokenizer, and the ids that begin and end a text."""

import json
import random
from io import BytesIO
from pathlib import Path

import gguf
import pytest

from herd.formats.convert import open_source
from herd.formats.huggingface import load_transformer, save_model
from herd.foundation.errors import HerdError
from herd.infer.engine import Engine
from herd.infer.grammar import Grammar
from herd.infer.sampling import Sampling
from herd.model.config import ModelConfig
from herd.model.transformer import Transformer
from herd.tokenizer.pieces import Kind
from herd.tokenizer.sentencepiece import SentencePieceTokenizer
from herd.tokenizer.tokenizer import Tokenizer
from tests.formats.small import assert_same_weights, to

sentencepiece = pytest.importorskip("sentencepiece", reason="the package sentencepiece is not installed")

TEXT = "  Über 12 é☃ <s> words\n\n    and    spaces\t"
SIZE = 600


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``tokenizer.model`` alone beside weights, as Llama 2's first releases; not to be changed."""
    place, learnt = tmp_path_factory.mktemp("llama-2"), BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(Path(random.__file__).read_text().splitlines()),
        model_writer=learnt,
        vocab_size=SIZE,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        num_threads=1,
        minloglevel=2,
    )
    (place / "tokenizer.model").write_bytes(learnt.getvalue())
    Tokenizer.load(place / "tokenizer.model").save(place / "tokenizer")
    shape = ModelConfig(
        vocab_size=SIZE, dim=64, layers=2, heads=4, kv_heads=4, ffn_dim=96, rope_theta=10_000.0, max_positions=4096
    )
    network = Transformer(shape)
    network.init_weights(3, induction=False)
    save_model(network, place / "tokenizer", place / "model")
    (place / "model" / "tokenizer.json").unlink()
    return place / "model"


def expected(model: Path) -> list[int]:
    return list(sentencepiece.SentencePieceProcessor(model_file=str(model / "tokenizer.model")).encode(TEXT))


def test_there_and_back(model: Path, tmp_path: Path) -> None:
    meta = to("meta", model, tmp_path / "meta", ranks=2)
    file = to("gguf", meta, tmp_path / "model.gguf")
    back = to("hf", file, tmp_path / "back")
    assert_same_weights(model, back)
    assert load_transformer(back).config == load_transformer(model).config
    assert (meta / "tokenizer.model").read_bytes() == (model / "tokenizer.model").read_bytes()
    for place in (meta, file, back):
        source = open_source(place)
        assert source.tokenizer is not None
        tokenizer = source.tokenizer.load()
        assert tokenizer.encode(TEXT) == expected(model)
        assert isinstance(tokenizer, SentencePieceTokenizer)
    written = sentencepiece.SentencePieceProcessor(model_file=str(back / "tokenizer.model"))
    assert written.encode(TEXT) == expected(model)


def test_the_configuration_names_its_begin_and_end(model: Path, tmp_path: Path) -> None:
    for place in (model, to("hf", to("meta", model, tmp_path / "meta"), tmp_path / "hf")):
        for name in ("config.json", "generation_config.json"):
            found = json.loads((place / name).read_text())
            assert (found["bos_token_id"], found["eos_token_id"]) == (1, 2)
            assert "pad_token_id" not in found
    assert "chat_template" not in json.loads((tmp_path / "hf" / "tokenizer_config.json").read_text())


def test_its_begin_and_end_are_known_without_the_tokenizer_too(model: Path, tmp_path: Path) -> None:
    meta, file = to("meta", model, tmp_path / "meta"), to("gguf", model, tmp_path / "model.gguf")
    for place in (model, meta, file):
        bare = to("hf", place, tmp_path / f"of-{place.name}", tokenizer=False)
        for name in ("config.json", "generation_config.json"):
            found = json.loads((bare / name).read_text())
            assert (found["bos_token_id"], found["eos_token_id"]) == (1, 2)
            assert "pad_token_id" not in found
        assert not (bare / "tokenizer.model").exists()


def test_a_model_file_alone_is_a_tokenizer_for_training(model: Path, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "tokenizer.model").write_bytes((model / "tokenizer.model").read_bytes())
    save_model(load_transformer(model), tmp_path / "alone", tmp_path / "saved")
    assert (tmp_path / "saved" / "tokenizer.json").is_file()
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["eos_token_id"] == 2
    assert Tokenizer.load(tmp_path / "saved").encode(TEXT) == expected(model)


def test_the_independent_reader_finds_pieces_scores_and_kinds(model: Path, tmp_path: Path) -> None:
    fields = gguf.GGUFReader(to("gguf", model, tmp_path / "model.gguf")).fields
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(model / "tokenizer.model"))
    assert fields["tokenizer.ggml.model"].contents() == "llama"
    tokens, scores, kinds = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "scores", "token_type"))
    assert tokens == [theirs.id_to_piece(token) for token in range(SIZE)]
    assert scores == [theirs.get_score(token) for token in range(SIZE)]
    assert kinds[:4] == [Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL, Kind.BYTE]
    assert [fields[f"tokenizer.ggml.{key}_token_id"].contents() for key in ("unknown", "bos", "eos")] == [0, 1, 2]


def test_llama_cpp_makes_the_same_prompt(model: Path, tmp_path: Path) -> None:
    llama = pytest.importorskip("xllamacpp", reason="llama.cpp's package xllamacpp is not installed")
    options = llama.CommonParams()
    options.model.path = str(to("gguf", model, tmp_path / "model.gguf", type="f32"))
    options.n_ctx, options.n_parallel, options.warmup, options.verbosity = 256, 1, False, -1
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    server = llama.Server(options)
    asked = {"max_tokens": 8, "temperature": 0, "logprobs": 1, "cache_prompt": False}
    text = TEXT.replace("<s>", "s")  # names of control tokens become these there
    ids = [1, *Tokenizer.load(model).encode(text)]
    by_text, by_ids = (dict(server.handle_completions(asked | {"prompt": prompt})) for prompt in (text, ids))
    assert by_text["usage"]["prompt_tokens"] == len(ids)
    assert by_text["choices"][0]["logprobs"] == by_ids["choices"][0]["logprobs"]


def test_the_engine_continues_a_text(model: Path) -> None:
    """The space before a word that continues the prompt stays; there is no chat."""
    engine = Engine(load_transformer(model), Tokenizer.load(model))
    prompt = [1, *expected(model)]
    words = Sampling(max_tokens=4, temperature=0, grammar=Grammar.regex(" the the"))
    [[answer]] = engine.generate([prompt], words)
    assert answer.text.startswith(" ")
    ends = Sampling(max_tokens=4, temperature=0, stop_ids=tuple(range(SIZE)))
    [[ended]] = engine.generate([prompt], ends)
    assert (len(ended.ids), ended.text, ended.finish_reason) == (1, "", "stop")
    with pytest.raises(HerdError, match=r"no control token <\|start_header_id\|>"):
        _ = engine.chat


def test_a_reader_of_other_spaces_is_refused(model: Path, tmp_path: Path) -> None:
    file = to("gguf", model, tmp_path / "model.gguf")
    data = file.read_bytes()
    key = b"tokenizer.ggml.add_space_prefix"
    place = data.index(key) + len(key) + 4
    file.write_bytes(data[:place] + b"\0" + data[place + 1 :])
    tokenizer = open_source(file).tokenizer
    assert tokenizer is not None
    with pytest.raises(HerdError, match=r"model\.gguf: tokenizer\.ggml\.add_space_prefix is False"):
        tokenizer.load()
