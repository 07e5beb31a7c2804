"""Bits per byte against the definition, computed token by token from full logits."""

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from herd.evaluate.perplexity import HeldOut, bits_per_byte, read_held_out, score_documents
from herd.foundation.errors import HerdError
from herd.infer.engine import Engine
from herd.model.attention import DocumentAttention
from tests.evaluate.conftest import Bench


def _by_definition(engine: Engine, text: str, length: int) -> float:
    ids = [engine.tokenizer.bos_id, *engine.tokenizer.encode(text)]
    bits = 0.0
    for start in range(0, len(ids) - 1, length):
        window = torch.tensor(ids[start : start + length + 1])
        n = len(window) - 1
        with torch.no_grad():
            hidden = engine.model(window[:-1], torch.arange(n), DocumentAttention([n]))
            log_probs = torch.log_softmax(engine.model.logits(hidden), -1)
        bits -= log_probs[torch.arange(n), window[1:]].double().sum().item() / math.log(2)
    return bits


def test_bits_are_the_definition_and_independent_of_company(engine: Engine) -> None:
    texts = ["x = json.dumps(value)\n" * 9, "Ä short one.", "a", "Return a list of the words. " * 30]
    documents = [HeldOut(str(i), "code" if i % 2 else "general", text) for i, text in enumerate(texts)]
    scores = score_documents(engine.model, engine.tokenizer, documents, length=48)
    for document, score in zip(documents, scores, strict=True):
        assert score.bits == pytest.approx(_by_definition(engine, document.text, 48), rel=1e-4)
        assert score.bytes == len(document.text.encode())
        [alone] = score_documents(engine.model, engine.tokenizer, [document], length=48)
        assert alone.bits == pytest.approx(score.bits, rel=1e-5)
        assert alone.flops == score.flops > 0
    found = bits_per_byte(scores, seed=3)
    assert found.keys() == {"all", "general", "code"}
    assert found["all"].value == pytest.approx(sum(s.bits for s in scores) / sum(s.bytes for s in scores))


def test_held_out_documents_are_drawn_the_same_every_time(bench: Bench) -> None:
    drawn = read_held_out(bench.corpus, per_domain=5, characters=50, seed=1)
    assert drawn == read_held_out(bench.corpus, per_domain=5, characters=50, seed=1)
    assert len(drawn) == 10
    assert max(len(document.text) for document in drawn) <= 50
    assert drawn != read_held_out(bench.corpus, per_domain=5, characters=50, seed=2)


def test_held_out_documents_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(HerdError, match=r"no documents in heldout"):
        read_held_out(tmp_path, per_domain=5, characters=50, seed=1)
    (tmp_path / "heldout").mkdir()
    shard = tmp_path / "heldout" / "0.parquet"
    pq.write_table(pa.table({"id": ["a"], "text": ["words"]}), shard)
    for _ in range(2):
        with pytest.raises(HerdError, match=f"{shard}: not readable as held-out documents"):
            read_held_out(tmp_path, per_domain=5, characters=50, seed=1)
        shard.write_bytes(b"no parquet")
