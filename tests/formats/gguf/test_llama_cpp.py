"""Our files in llama.cpp itself: the same tokens, the same probabilities, the same prompt; its quantisers beside ours.

Runs where llama.cpp's Python package is installed, which Herd does not need: ``pip install xllamacpp``.
"""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from herd.formats.gguf.block_types import Q4_0, Q4_K, Q5_K, Q6_K, Q8_0, BlockType
from herd.formats.gguf.blocks import decode, encode
from herd.formats.gguf.reader import GgufSource
from herd.formats.huggingface import load_transformer
from herd.formats.huggingface_sink import HuggingFaceSink
from herd.formats.tensors import move_tensors
from herd.foundation.progress import Progress
from herd.infer.engine import Engine
from herd.infer.sampling import Sampling
from herd.tokenizer.chat import ChatFormat
from tests.formats.gguf.conftest import Models, tiny_tokenizer

llama = pytest.importorskip("xllamacpp", reason="llama.cpp's package xllamacpp is not installed")

TOKENS = 24
# Largest difference of a log-probability. llama.cpp rounds what it multiplies with weights of half precision or less:
# to half precision, and to eight bits beside quantised weights, so that two tokens of nearly the same probability may
# change places there.
EXACT = {"f32": 1e-4, "f16": 0.01, "bf16": 0.05}
ROUNDED = {"q8_0": 0.2, "q6_k": 0.2, "q5_k": 0.2, "q4_k": 0.2, "q4_0": 0.2}


def _server(file: Path) -> Any:
    options = llama.CommonParams()
    options.model.path = str(file)
    options.n_ctx, options.n_parallel, options.warmup, options.verbosity = 256, 1, False, -1
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    options.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED  # it rounds to half precision
    options.cache_type_k = options.cache_type_v = llama.ggml_type.GGML_TYPE_F32
    return llama.Server(options)


def _prompts() -> list[list[int]]:
    chance = torch.Generator().manual_seed(9)
    tokenizer = tiny_tokenizer()
    return [[tokenizer.bos_id, *torch.randint(0, 256, (length,), generator=chance).tolist()] for length in (3, 90, 170)]


def _continue(server: Any, prompt: list[int] | str) -> dict[str, Any]:
    asked = {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "logprobs": 1, "cache_prompt": False}
    return dict(server.handle_completions(asked))


@pytest.mark.parametrize("type", EXACT | ROUNDED)
def test_greedy_answers_agree_token_by_token(models: Models, tmp_path: Path, type: str) -> None:
    file = models.file(type)
    move_tensors(GgufSource(file), HuggingFaceSink(tmp_path), Progress.silent())
    engine = Engine(load_transformer(tmp_path, torch.float32), tiny_tokenizer())
    server = _server(file)
    greedy = Sampling(max_tokens=TOKENS, temperature=0, stop_ids=())
    for prompt, [ours] in zip(_prompts(), engine.generate(_prompts(), greedy), strict=True):
        theirs = _continue(server, prompt)["choices"][0]["logprobs"]["content"]
        ids = [token["id"] for token in theirs]
        assert len(ids) == TOKENS
        assert ids == ours.ids or type in ROUNDED
        [scores] = engine.score([prompt], [ids])
        assert [token["logprob"] for token in theirs] == pytest.approx(scores, abs=(EXACT | ROUNDED)[type])


def test_text_becomes_the_same_prompt(models: Models) -> None:
    server, tokenizer = _server(models.file("f32")), tiny_tokenizer()
    text = "Hello, the thing: über-éclair 12345\n\n  the end"
    ids = [tokenizer.bos_id, *tokenizer.encode(text)]
    by_text, by_ids = _continue(server, text), _continue(server, ids)
    assert by_text["usage"]["prompt_tokens"] == len(ids)
    assert by_text["choices"][0]["logprobs"] == by_ids["choices"][0]["logprobs"]


def test_a_dialogue_becomes_the_same_prompt(models: Models) -> None:
    """llama.cpp renders our chat template itself; what follows the prompt is as likely as behind our encoder's ids."""
    server = _server(models.file("f32"))
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi there"}]
    ids = ChatFormat(tiny_tokenizer()).encode(messages, open_assistant=True).ids
    asked = {"messages": messages, "max_tokens": TOKENS, "temperature": 0, "logprobs": True, "cache_prompt": False}
    by_dialogue, by_ids = dict(server.handle_chat_completions(asked)), _continue(server, ids)
    assert by_dialogue["usage"]["prompt_tokens"] == len(ids)
    logprobs = [answer["choices"][0]["logprobs"]["content"] for answer in (by_dialogue, by_ids)]
    assert [token["id"] for token in logprobs[0]] == [token["id"] for token in logprobs[1]]


def _ggml(kind: BlockType, x: torch.Tensor) -> torch.Tensor:
    """What ggml's own quantiser makes of ``x``, as bytes."""
    quantise = getattr(ctypes.CDLL(llama.xllamacpp.__file__), f"quantize_{kind.name.replace('Q', 'q')}")
    quantise.restype = ctypes.c_size_t
    source, out = np.ascontiguousarray(x.numpy()), np.empty(kind.size(x.shape), dtype=np.uint8)
    pointers = (source.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p))
    assert quantise(*pointers, ctypes.c_int64(x.shape[0]), ctypes.c_int64(x.shape[1]), None) == len(out)
    return torch.from_numpy(out)


@pytest.mark.parametrize("kind", [Q8_0, Q4_0, Q4_K, Q5_K, Q6_K], ids=lambda kind: kind.name)
def test_our_blocks_are_as_good_as_ggmls(kind: BlockType) -> None:
    x = torch.randn(64, 1024, generator=torch.Generator().manual_seed(1)) * 0.02
    ours, theirs = encode(x, kind), _ggml(kind, x)
    if kind in (Q8_0, Q4_0):
        assert torch.equal(ours, theirs)
    errors = [float((decode(data, kind).view(x.shape) - x).norm() / x.norm()) for data in (ours, theirs)]
    assert errors[0] <= errors[1]
