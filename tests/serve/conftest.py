"""A run with a model that has learnt four dialogues by heart, served for real on a free port of this machine."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import uvicorn

from herd.align.examples import DialogueSource, encode_dialogues
from herd.formats.huggingface import save_model
from herd.foundation.progress import Progress
from herd.guard.classifier import Verdict
from herd.guard.policy import GuardItem
from herd.model.config import ModelConfig
from herd.model.transformer import Transformer
from herd.serve.app import create_app
from herd.serve.household import Household
from herd.tokenizer.chat import ChatFormat
from herd.tokenizer.tokenizer import Tokenizer
from herd.tools.search import SearchConfig, build_index
from herd.train.batch import next_token_loss
from herd.train.loop import TrainConfig, train
from herd.train.schedule import BatchRamp, OptimizerConfig

SENTENCE = "Serialize obj to a JSON formatted str."


def _call(name: str, arguments: str) -> dict:
    return {"role": "assistant", "content": None, "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}]}  # fmt: skip


def dialogues(index_answer: str) -> list[dict]:
    """What the model learns: two tool calls, a plain answer, and an answer and a call that only a guard would stop."""
    result = {"role": "tool", "tool_call_id": "call_1"}
    both = ["search", "python"]
    hello = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello. How are you?"}]
    return [
        {"tools": both, "messages": [
            {"role": "user", "content": "What does json.dumps do?"}, _call("search", '{"query": "json.dumps"}'),
            {**result, "content": index_answer}, {"role": "assistant", "content": SENTENCE}]},
        {"tools": both, "messages": [
            {"role": "user", "content": "What is 2 + 3?"}, _call("python", '{"code": "2 + 3"}'),
            {**result, "content": "completed\n[stdout]5[/stdout]"}, {"role": "assistant", "content": "It is 5."}]},
        {"messages": hello}, {"messages": hello, "tools": both},
        {"messages": [{"role": "user", "content": "Tell it"},
                      {"role": "assistant", "content": "All is well. The secret is out. Bye."}]},
        {"tools": both, "messages": [{"role": "user", "content": "Open it"},
                                     _call("python", '{"code": "open(\'secret\')"}')]},
    ]  # fmt: skip


class SecretKeeper:
    """A guard by rule, in the place of a trained one: nothing about secrets, nothing from ``evil``."""

    def __init__(self) -> None:
        self.words: tuple[str, ...] = ("secret", "evil")

    def judge(self, items: Sequence[GuardItem]) -> list[Verdict]:
        bad = [any(word in item.text for word in self.words) for item in items]
        return [Verdict(float(unsafe), unsafe, ("S7",) if unsafe else ()) for unsafe in bad]


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    passage = {"document_id": "d", "name": "json.dumps", "signature": "(obj)", "text": SENTENCE, "url": "pydoc:json",
               "package": "stdlib", "summary": SENTENCE}  # fmt: skip
    (run / "corpus").mkdir()
    pq.write_table(pa.Table.from_pylist([passage]), run / "corpus" / "passages.parquet")
    (run / "search").mkdir()
    build_index(SearchConfig(), run / "corpus", run / "search", Progress.silent())
    tokenizer = Tokenizer({bytes([byte]): byte for byte in range(256)})
    tokenizer.save(run / "tokenizer")
    shape = ModelConfig(
        tokenizer.vocab_size, dim=64, layers=2, heads=2, kv_heads=2, ffn_dim=128, max_positions=512, tied=True
    )
    model = Transformer(shape)
    model.init_weights(seed=1)
    examples, _ = encode_dialogues(ChatFormat(tokenizer), dialogues(f"json.dumps(obj)\n{SENTENCE}"), 512)
    config = TrainConfig(
        steps=180, optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=10), batch=BatchRamp.constant(1),
        compile="off", tensorboard=False, checkpoint_seconds=1e6,
    )  # fmt: skip
    source = DialogueSource(examples, tokens_per_step=4096, epochs=config.steps, seed=1)
    torch.set_num_threads(1)  # the same weights on every machine
    report = train(config, model, source, next_token_loss, run / "training", Progress.silent())
    assert report.figures["closing_loss"] < 1e-3, "the model has not learnt its dialogues"
    save_model(model, run / "tokenizer", run / "chat")
    return run


@dataclass
class Served:
    """A server on this machine."""

    url: str
    household: Household


def serve(household: Household, api_key: str | None = None) -> Iterator[Served]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = create_app(household, api_key=api_key)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    yield Served(f"http://127.0.0.1:{port}", household)
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="session")
def served(run_directory: Path) -> Iterator[Served]:
    """The model without a guard."""
    yield from serve(Household.open(run_directory / "chat"))


@pytest.fixture(scope="session")
def guarded(run_directory: Path) -> Iterator[Served]:
    """The model behind a guard, and a key."""
    household = Household.open(run_directory / "chat")
    household.guard = SecretKeeper()
    yield from serve(household, api_key="open sesame")
