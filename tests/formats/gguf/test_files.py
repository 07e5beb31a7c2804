"""Whole GGUF files: read by the ``gguf`` package and by ``transformers``, read back, resumed, and refused."""

import json
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from herd.formats.gguf.container import GgufFile, header_bytes, lay_out, padded
from herd.formats.gguf.mixture import GGUF_TYPES
from herd.formats.gguf.names import gguf_name
from herd.formats.gguf.reader import GgufSource
from herd.formats.gguf.writer import GgufSink
from herd.formats.huggingface import load_model, save_model
from herd.formats.huggingface_sink import HuggingFaceSink
from herd.formats.huggingface_source import HuggingFaceSource
from herd.formats.tensors import move_tensors
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.model.attention import DocumentAttention
from herd.model.transformer import RewardModel, Transformer
from tests.formats.gguf.conftest import Models, tiny_model, tiny_tokenizer, to_gguf

LENGTH = 160
LARGEST_KL = {"f32": 1e-9, "bf16": 1e-4, "q8_0": 1e-3, "q6_k": 0.01, "q5_k": 0.025, "q4_k": 0.09, "q4_0": 0.13}
LARGEST_ERROR = {"q8_0": 0.01, "q6_k": 0.03, "q5_k": 0.05, "q4_k": 0.1, "q4_0": 0.12}


@torch.no_grad()
def _logits(model: Any) -> torch.Tensor:
    tokens = torch.randint(0, 256, (LENGTH,), generator=torch.Generator().manual_seed(4))
    if isinstance(model, Transformer):
        return model.logits(model(tokens, torch.arange(LENGTH), DocumentAttention([LENGTH])))
    return model.eval()(tokens[None]).logits[0].float()


def _back(file: Path, out: Path) -> Path:
    move_tensors(GgufSource(file), HuggingFaceSink(out), Progress.silent())
    return out


@pytest.mark.parametrize(("type", "dtype"), [("f32", None), ("f16", torch.float16), ("bf16", torch.bfloat16)])
@pytest.mark.parametrize("tied", [False, True])
def test_lossless_types_come_back_bit_for_bit(models: Models, type: str, dtype: torch.dtype | None, tied: bool) -> None:
    source = HuggingFaceSource(models.directory(dtype=dtype, tied=tied))
    back = GgufSource(models.file(type, dtype=dtype, tied=tied))
    assert back.config == source.config
    assert back.tensors == source.tensors
    assert all(torch.equal(back.read(name), source.read(name)) for name in source.tensors)


@pytest.mark.parametrize("type", GGUF_TYPES)
def test_every_value_is_the_independent_readers(models: Models, type: str) -> None:
    file = models.file(type)
    source, reader = GgufSource(file), gguf.GGUFReader(file)
    theirs = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        for tensor in reader.tensors
    }
    assert len(theirs) == len(source.tensors) + 1  # and the rotary divisors
    for name in source.tensors:
        ours, other = source.read(name).float(), torch.from_numpy(theirs[gguf_name(name)])
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = 4 if "q_proj" in name else 2
            other = other.view(heads, -1, 2, other.shape[1]).transpose(1, 2).reshape(other.shape)
        assert torch.equal(ours, other)


@pytest.mark.parametrize("type", LARGEST_ERROR)
def test_quantised_weights_are_near_the_originals(models: Models, type: str) -> None:
    source = HuggingFaceSource(models.directory())
    back = GgufSource(models.file(type))
    for name in source.tensors:
        ours, original = back.read(name), source.read(name)
        assert ours.dtype == torch.float32
        assert float((ours - original).norm() / original.norm()) < LARGEST_ERROR[type]


@pytest.mark.parametrize("type", LARGEST_KL)
def test_what_a_quantised_model_says_stays_near(models: Models, tmp_path: Path, type: str) -> None:
    """Mean divergence of the next token's distribution, in nats, after a file was written, opened and run again."""
    before = _logits(load_model(models.directory())).log_softmax(-1)
    after = _logits(load_model(_back(models.file(type), tmp_path))).log_softmax(-1)
    assert float((before.exp() * (before - after)).sum(-1).mean()) < LARGEST_KL[type]


@pytest.mark.parametrize(("type", "tied"), [("f32", False), ("f32", True), ("q4_k", True)])
def test_transformers_reads_the_same_model(models: Models, tmp_path: Path, type: str, tied: bool) -> None:
    """Its reader undoes the order of the rows in its own way; it does not know the rotary divisors."""
    file = models.file(type, tied=tied, rope_scaling=None)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    ours = load_model(_back(file, tmp_path))
    torch.testing.assert_close(_logits(ours), _logits(theirs), atol=1e-4, rtol=0)


def test_transformers_reads_the_same_tokenizer(models: Models) -> None:
    file = models.file("q8_0")
    theirs = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer = tiny_tokenizer()
    for text in ("Hello, the thing über-éclair 12345\n\n  end", "<|eot_id|>", " the\tther"):
        assert theirs.encode(text, add_special_tokens=False) == tokenizer.encode(text, allow_special=True)
    assert (theirs.bos_token_id, theirs.eos_token_id) == (tokenizer.bos_id, tokenizer.eos_id)


def test_config_tokenizer_template_and_logits_come_back(models: Models, tmp_path: Path) -> None:
    directory = models.directory()
    back = _back(models.file("f32"), tmp_path)
    assert torch.equal(_logits(load_model(back)), _logits(load_model(directory)))
    for name in ("tokenizer.model", "tokenizer.json", "config.json", "generation_config.json"):
        assert (back / name).read_bytes() == (directory / name).read_bytes()
    templates = [
        json.loads((path / "tokenizer_config.json").read_text())["chat_template"] for path in (back, directory)
    ]
    assert templates[0] == templates[1]


def test_the_metadata_is_complete(models: Models, tmp_path: Path) -> None:
    directory = shutil.copytree(models.directory(), tmp_path / "Llama-3.1-Tiny")
    fields = gguf.GGUFReader(to_gguf(directory, tmp_path / "a.gguf", "q4_k")).fields
    found = {key: field.contents() for key, field in fields.items() if not key.startswith("GGUF.")}
    tokenizer = tiny_tokenizer()
    expected = {
        "general.architecture": "llama",
        "general.name": "Llama-3.1-Tiny",
        "general.file_type": int(gguf.LlamaFileType.MOSTLY_Q4_K_M),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        "llama.vocab_size": tokenizer.vocab_size,
        "llama.context_length": 256,
        "llama.embedding_length": 256,
        "llama.block_count": 2,
        "llama.feed_forward_length": 512,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": pytest.approx(1e-5),
        "llama.rope.freq_base": 500_000.0,
        "llama.rope.dimension_count": 64,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.bos_token_id": tokenizer.bos_id,
        "tokenizer.ggml.eos_token_id": tokenizer.eos_id,
        "tokenizer.ggml.eot_token_id": tokenizer.eot_id,
        "tokenizer.ggml.eom_token_id": tokenizer.eom_id,
        "tokenizer.ggml.padding_token_id": tokenizer.pad_id,
        "tokenizer.ggml.add_bos_token": True,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert found["tokenizer.ggml.tokens"][:2] == ["Ā", "ā"]
    assert found["tokenizer.ggml.tokens"][-256:] == list(tokenizer.special)
    assert found["tokenizer.ggml.token_type"] == [1] * len(tokenizer.ranks) + [3] * 256
    assert found["tokenizer.ggml.merges"][:2] == ["Ġ t", "h e"]
    assert "eot_id" in found["tokenizer.chat_template"]


MISTAKES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "permutation": lambda patch: patch.setattr("herd.formats.gguf.writer.to_pairs", lambda weight, heads: weight),
    "scaling": lambda patch: patch.setattr("herd.formats.gguf.writer._factors", lambda config: []),
    "gate": lambda patch: patch.setattr(
        "herd.formats.gguf.writer.gguf_name",
        lambda name: gguf_name(name).replace("ffn_gate", "x").replace("ffn_up", "ffn_gate").replace("x.", "ffn_up."),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_classic_mistakes_change_the_logits(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    directory = models.directory()
    MISTAKES[mistake](monkeypatch)
    file = to_gguf(directory, tmp_path / "wrong.gguf", "f32")
    monkeypatch.undo()
    assert (_logits(load_model(_back(file, tmp_path / "back"))) - _logits(load_model(directory))).abs().max() > 0.1


def test_an_interrupted_file_is_finished_and_no_file_is_there_before(models: Models, tmp_path: Path) -> None:
    directory, whole = models.directory(), models.file("q4_k").read_bytes()
    out = tmp_path / "again.gguf"
    source = HuggingFaceSource(directory)
    first = GgufSink(out, "q4_k")
    first.begin(source)
    names = list(source.tensors)
    for name in names[:7]:
        first.write(name, source.read(name))
    first._files.flush()  # as it does by itself every quarter of a gigabyte
    assert not out.exists()
    second = GgufSink(out, "q4_k")
    assert set(second.begin(source)) == set(names[:7])
    for name in names[7:]:
        second.write(name, source.read(name))
    second.finish()
    assert out.read_bytes() == whole
    assert sorted(path.name for path in out.parent.glob(".*")) == []
    first.begin(source)
    assert not set(GgufSink(out, "q8_0").begin(source)), "what was written as another type is of no use"


def test_a_file_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    save_model(tiny_model(), None, tmp_path / "model")
    source = GgufSource(to_gguf(tmp_path / "model", tmp_path / "a.gguf", "q8_0"))
    assert source.tokenizer is None
    assert GgufFile(source.path).metadata["tokenizer.ggml.model"] == "none"


def test_half_precision_files_with_finer_vectors_are_read_in_single_precision(models: Models) -> None:
    source = GgufSource(models.file("bf16"))  # norms drawn in float32
    assert {info.dtype for info in source.tensors.values()} == {torch.float32}


@pytest.mark.parametrize("type", ["f32", "bf16", "q4_k"])
def test_a_type_that_is_asked_for_is_rounded_to_once(models: Models, type: str) -> None:
    exact, half = GgufSource(models.file(type)), GgufSource(models.file(type), torch.bfloat16)
    for name, info in half.tensors.items():
        assert info.dtype == torch.bfloat16
        assert torch.equal(half.read(name), exact.read(name).to(torch.bfloat16))


def test_what_gguf_cannot_express_is_refused(models: Models, tmp_path: Path) -> None:
    directory = models.directory()
    with pytest.raises(HerdError, match="not written as 'q3_k'; the types are f32, f16"):
        GgufSink(tmp_path / "a.gguf", "q3_k")
    with pytest.raises(HerdError, match="is a directory; a GGUF model is one file"):
        GgufSink(tmp_path, "f32")
    sink = GgufSink(tmp_path / "a.gguf", "f16")
    sink.begin(HuggingFaceSource(directory))
    with pytest.raises(HerdError, match=r"tensor lm_head\.weight .* too large"):
        sink.write("lm_head.weight", torch.full((520, 256), 1e6))
    sink = GgufSink(tmp_path / "b.gguf", "q4_k")
    sink.begin(HuggingFaceSource(directory))
    for value in (1e6, float("nan"), float("inf")):
        with pytest.raises(HerdError, match=r"tensor lm_head\.weight .* not finite or too large for Q6_K"):
            sink.write("lm_head.weight", torch.full((520, 256), value))
    save_model(RewardModel.from_transformer(tiny_model(), 1), None, tmp_path / "reward")
    with pytest.raises(HerdError, match="a reward model has no place in GGUF"):
        GgufSink(tmp_path / "c.gguf", "f32").begin(HuggingFaceSource(tmp_path / "reward"))


def _rewritten(file: Path, out: Path, change: Callable[[dict[str, Any]], None], drop: Collection[str] = ()) -> Path:
    """A copy of a file with other metadata, and without the tensors ``drop``."""
    opened = GgufFile(file)
    change(opened.metadata)
    kept = [stored for stored in opened.tensors.values() if stored.name not in drop]
    table = lay_out([(stored.name, stored.shape, stored.kind) for stored in kept])
    data = bytearray(header_bytes(opened.metadata, table))
    for stored in kept:
        data += opened.data(stored.name).numpy().tobytes().ljust(padded(stored.size), b"\0")
    out.write_bytes(data)
    return out


UNFIT = {
    "architecture": ({"general.architecture": "gemma"}, "general.architecture is 'gemma'"),
    "a part": ({"split.count": 3}, "is one part of a model in several files"),
    "experts": ({"llama.expert_count": 8}, "is a mixture of experts"),
    "yarn": ({"llama.rope.scaling.type": "yarn"}, "scales its rotary frequencies"),
    "heads of their own width": ({"llama.attention.key_length": 80}, "key_length is 80, .* ask for 64"),
    "a width": ({"llama.feed_forward_length": 500}, r"tensor .* has shape .* the configuration asks for"),
    "a vocabulary": ({"llama.vocab_size": 521}, r"tensor token_embd\.weight has shape \(520, 256\)"),
    "an odd width": ({"llama.embedding_length": 254}, "dim 254 is not divisible by heads 4"),
    "no layers": ({"llama.block_count": 0}, "layers is 0, it must be positive"),
    "fewer layers": ({"llama.block_count": 1}, r"tensor blk\.1\..* has no place"),
    "more layers": ({"llama.block_count": 3}, r"tensor blk\.2\..* is missing"),
    "endless layers": ({"llama.block_count": 1 << 31}, "llama.block_count is 2147483648, there are 22"),
    "a list of heads": ({"llama.attention.head_count": np.array([4, 4], dtype=np.int32)}, "holds ndarray, int is"),
    "a negative": ({"llama.context_length": -1}, "max_positions is -1"),
    "no number": ({"llama.rope.freq_base": float("nan")}, "llama.rope.freq_base is nan"),
    "another theta": ({"llama.rope.freq_base": 400.0}, r"tensor rope_freqs\.weight holds a scaling"),
    "a senseless note": ({"herd.rope_scaling.factor": 0.1}, "factor >= 1"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_metadata_that_do_not_fit_are_refused_by_key(models: Models, tmp_path: Path, case: str) -> None:
    changes, sentence = UNFIT[case]
    file = _rewritten(models.file("q8_0"), tmp_path / "a.gguf", lambda metadata: metadata.update(changes))
    with pytest.raises(HerdError, match=rf"a\.gguf: .*{sentence}"):
        GgufSource(file)


@pytest.mark.parametrize("name", ["blk.1.attn_k.weight", "token_embd.weight", "output_norm.weight"])
def test_a_missing_tensor_is_named(models: Models, tmp_path: Path, name: str) -> None:
    file = _rewritten(models.file("q8_0"), tmp_path / "a.gguf", lambda metadata: None, drop=[name])
    with pytest.raises(HerdError, match=rf"tensor {name} is missing"):
        GgufSource(file)


@pytest.mark.parametrize("key", ["llama.block_count", "general.architecture", "llama.context_length"])
def test_a_missing_key_is_named(models: Models, tmp_path: Path, key: str) -> None:
    file = _rewritten(models.file("q8_0"), tmp_path / "a.gguf", lambda metadata: metadata.pop(key))
    with pytest.raises(HerdError, match=f"the metadata key {key} is missing"):
        GgufSource(file)


def test_not_a_number_in_a_tensor_is_refused_by_name(models: Models, tmp_path: Path) -> None:
    whole, file = bytearray(models.file("f32").read_bytes()), tmp_path / "a.gguf"
    whole[-8:-4] = np.array([np.nan], dtype=np.float32).tobytes()
    file.write_bytes(whole)
    with pytest.raises(HerdError, match=r"tensor output\.weight holds values that are not finite"):
        GgufSource(file).read("lm_head.weight")


TOKENS = "tokenizer.ggml.tokens"
WRONG_TOKENIZERS = {
    "another kind": (lambda data: data.update({"tokenizer.ggml.model": "rwkv"}), "of the kind 'rwkv'"),
    "no scores": (lambda data: data.update({"tokenizer.ggml.model": "llama"}), "ggml.scores is missing"),
    "another pattern": (lambda data: data.update({"tokenizer.ggml.pre": "qwen2"}), "'gpt2' / 'qwen2'"),
    "no kinds": (lambda data: data.pop("tokenizer.ggml.token_type"), "token_type is missing"),
    "fewer kinds": (lambda data: data.update({"tokenizer.ggml.token_type": np.ones(3, np.int32)}), "520 tokens in"),
    "twice": (lambda data: data[TOKENS].__setitem__(300, data[TOKENS][301]), "not distinct"),
    "in the middle": (lambda data: data["tokenizer.ggml.token_type"].__setitem__(9, 3), "not all at its end"),
    "no byte": (lambda data: data[TOKENS].__setitem__(260, "漢"), "'漢' in tokenizer.ggml.tokens stands for no byte"),
    "a hole": (lambda data: data[TOKENS].__setitem__(261, data[TOKENS][260]), "ranks do not run from 0"),
    "merges": (lambda data: data["tokenizer.ggml.merges"].pop(), "merges are not those"),
}


@pytest.mark.parametrize("case", WRONG_TOKENIZERS)
def test_tokenizers_whose_ids_would_differ_are_refused(models: Models, tmp_path: Path, case: str) -> None:
    change, sentence = WRONG_TOKENIZERS[case]
    source = GgufSource(_rewritten(models.file("q8_0"), tmp_path / "a.gguf", change))
    assert source.tokenizer is not None
    with pytest.raises(HerdError, match=rf"a\.gguf: .*{sentence}"):
        source.tokenizer.load()


def test_a_tokenizer_that_does_not_fit_the_embedding_is_refused(models: Models, tmp_path: Path) -> None:
    directory = shutil.copytree(models.directory(), tmp_path / "model")
    larger = tiny_tokenizer()
    type(larger)({**larger.ranks, b"zz": len(larger.ranks)}).save(directory)
    with pytest.raises(HerdError, match="the tokenizer has 521 tokens"):
        GgufSink(tmp_path / "a.gguf", "f32").begin(HuggingFaceSource(directory))


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file whose header is most of it."""
    folder = tmp_path_factory.mktemp("small")
    tiny_tokenizer().save(folder / "tokenizer")
    save_model(tiny_model(dim=16, ffn_dim=16, layers=1, heads=2), folder / "tokenizer", folder / "model")
    return to_gguf(folder / "model", folder / "a.gguf", "f16").read_bytes()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes_never_break_out(small_file: bytes, tmp_path: Path, data: st.DataObject) -> None:
    changed = bytearray(small_file)
    for _ in range(data.draw(st.integers(1, 4))):
        # Half of the changes go to the first keys and to the table of tensors, where they hurt most.
        last = data.draw(st.sampled_from([900, len(changed) - 1]))
        changed[data.draw(st.integers(0, last))] = data.draw(st.sampled_from([0, 1, 127, 128, 255]))
    path = tmp_path / "changed.gguf"
    path.write_bytes(changed[: data.draw(st.sampled_from([len(changed), len(changed) // 2]))])
    with suppress(HerdError):
        source = GgufSource(path)
        for name in source.tensors:
            source.read(name)
        if source.tokenizer is not None:
            source.tokenizer.load()
