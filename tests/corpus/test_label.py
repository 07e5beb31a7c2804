"""Labelling against a real HTTP endpoint: judgements written in the forms that models use, faults, odd answers."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from herd.cli import app
from herd.corpus.documents import DocumentWriter, document_schema
from herd.corpus.label import BEST, LabelConfig, choose, label, read_answer
from herd.corpus.web import Patience
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, read_jsonl
from herd.foundation.progress import Progress

PATIENCE = Patience(timeout=5, attempts=3, first_wait=0.01, longest_wait=0.02)
# Judgements of twelve short texts, written by hand in the forms that chat models use; no model made them.
WRITTEN = {
    "d00": '{"score": 4, "reason": "It explains photosynthesis step by step."}',
    "d01": '```json\n{"score": 1, "reason": "An advertisement."}\n```',
    "d02": 'Here is my judgement:\n{"score": "3", "reason": "Correct, but short."}\nI hope this helps!',
    "d03": '{"score": 0, "reason": "A list of links."}',
    "d04": '{\n  "score": 5,\n  "reason": "A complete proof with\\nan example."\n}',
    "d05": '{"score": 2.0, "reason": "Mostly boilerplate."}',
    "d06": '{"reason": "No reason first.", "score": 3}',
    "d07": '{"score": 4}',
}
MALFORMED = {
    "d08": "I would give this page four out of five.",
    "d09": '{"score": 9, "reason": "Beyond the scale."}',
    "d10": '{"score": null, "reason": "I cannot judge this."}',
    "d11": '{"score": 3.5, "reason": "Between two."}',
}


class Endpoint(ThreadingHTTPServer):
    """Says what was written of the document that is named in the question; ``faults`` come first, in order."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = dict(WRITTEN | MALFORMED)
        self.corrected: dict[str, str] = {}
        self.faults: list[str | bytes] = []
        self.asked: list[dict[str, Any]] = []
        self.headers: list[str | None] = []
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(body)
            self.server.headers.append(self.headers.get("Authorization"))
            fault = self.server.faults.pop(0) if self.server.faults else ""
        if self.path != "/v1/chat/completions":
            return self.send_error(404)
        if fault == "hang up":
            return self.connection.close()
        if isinstance(fault, str) and fault.isdigit():
            return self.send_error(int(fault))
        name = re.search(r"document (d\d\d)", body["messages"][1]["content"])[1]
        said = self.server.corrected.get(name) if len(body["messages"]) > 2 else None
        message = {"role": "assistant", "content": said or self.server.answers[name]}
        data = json.dumps({"choices": [{"index": 0, "message": message}]}).encode()
        data = fault if isinstance(fault, bytes) else data
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
        return None

    def log_message(self, format: str, *arguments: object) -> None:
        """Silent."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    with DocumentWriter(tmp_path / "corpus" / "documents", document_schema(())) as writer:
        for n in range(12):
            text = f"This is document d{n:02d}. " + "It has words. " * (40 * n)
            domain = "code" if n % 4 == 3 else "general"
            writer.add({"id": f"d{n:02d}", "text": text, "domain": domain, "source": "web"})
    return tmp_path / "corpus"


def config(endpoint: Endpoint, **values: Any) -> LabelConfig:
    return LabelConfig(endpoint=endpoint.address, model="judge", patience=PATIENCE, **{"documents": 12} | values)


def scores(out: Path) -> dict[str, int]:
    return {row["id"]: row["score"] for row in read_jsonl(out / "judgements.jsonl")}


WANTED = {"d00": 4, "d01": 1, "d02": 3, "d03": 0, "d04": 5, "d05": 2, "d06": 3, "d07": 4}


def test_judgements_are_read_in_the_forms_that_models_use(endpoint: Endpoint, corpus: Path, tmp_path: Path) -> None:
    label(config(endpoint), corpus, tmp_path / "out", Progress.silent())
    assert scores(tmp_path / "out") == WANTED
    unanswered = {row["id"]: row["problem"] for row in read_jsonl(tmp_path / "out" / "unanswered.jsonl")}
    assert unanswered == dict.fromkeys(MALFORMED, f"no whole number from 0 to {BEST} as score") | {
        "d08": "no JSON object"
    }
    assert len(endpoint.asked) == len(WRITTEN) + 3 * len(MALFORMED)
    stats = read_json(tmp_path / "out" / "stats.json")
    assert (stats["documents"], stats["judged"], stats["unanswered"]) == (12, 8, 4)
    assert stats["scores"]["code"] == {"0": 1, "1": 0, "2": 0, "3": 0, "4": 1, "5": 0}


def test_a_wrong_form_is_asked_for_again_with_a_reminder(endpoint: Endpoint, corpus: Path, tmp_path: Path) -> None:
    endpoint.corrected = dict.fromkeys(MALFORMED, '{"score": 2, "reason": "As asked."}')
    label(config(endpoint), corpus, tmp_path / "out", Progress.silent())
    assert scores(tmp_path / "out") == WANTED | dict.fromkeys(MALFORMED, 2)
    again = [body for body in endpoint.asked if len(body["messages"]) > 2]
    assert len(again) == len(MALFORMED)
    assert {body["messages"][2]["content"] for body in again} == set(MALFORMED.values())
    assert read_json(tmp_path / "out" / "stats.json")["asked again"] == 4


@pytest.mark.parametrize(
    "fault", ["503", "429", "hang up", "cut", b"<html>busy</html>", b'{"choices": []}', b"[" * 5000]
)
def test_faults_of_the_endpoint_pass(endpoint: Endpoint, corpus: Path, tmp_path: Path, fault: str | bytes) -> None:
    endpoint.faults = [fault, fault]
    label(config(endpoint, parallel=1), corpus, tmp_path / "out", Progress.silent())
    assert scores(tmp_path / "out") == WANTED


def test_an_endpoint_that_dies_loses_no_judgement(endpoint: Endpoint, corpus: Path, tmp_path: Path) -> None:
    endpoint.answers = dict.fromkeys(WRITTEN | MALFORMED, '{"score": 3}')
    endpoint.faults = [*[""] * 5, *["503"] * 3]
    with pytest.raises(HerdError, match=r"chat/completions: the server answers 503.*given up after 3 attempts"):
        label(config(endpoint, parallel=1), corpus, tmp_path / "out", Progress.silent())
    with (tmp_path / "out" / "answers.jsonl").open("ab") as journal:
        journal.write(b'{"key": "cut short by a ki')
    endpoint.asked.clear()
    label(config(endpoint, parallel=2), corpus, tmp_path / "out", Progress.silent())
    assert len(endpoint.asked) == 7
    assert len(scores(tmp_path / "out")) == 12
    label(config(endpoint), corpus, tmp_path / "out", Progress.silent())
    assert len(endpoint.asked) == 7
    with pytest.raises(HerdError, match="answers to other questions"):
        label(config(endpoint, requirements="Only poems."), corpus, tmp_path / "out", Progress.silent())


def test_refusals_are_named(endpoint: Endpoint, corpus: Path, tmp_path: Path) -> None:
    endpoint.faults = ["401"]
    with pytest.raises(HerdError, match="the server answers 401"):
        label(config(endpoint), corpus, tmp_path / "a", Progress.silent())
    endpoint.faults.clear()
    endpoint.answers = dict.fromkeys(WRITTEN | MALFORMED, "Certainly!")
    with pytest.raises(HerdError, match="judge answered none of 12 questions"):
        label(config(endpoint), corpus, tmp_path / "b", Progress.silent())
    with pytest.raises(HerdError, match="holds no documents"):
        label(config(endpoint), tmp_path / "none", tmp_path / "c", Progress.silent())


def test_documents_are_drawn_evenly_and_the_same_each_time(endpoint: Endpoint, corpus: Path) -> None:
    six = choose(corpus, config(endpoint, documents=6))
    assert [row["domain"] for row in six] == ["code", "general"] * 3
    assert [row["id"] for row in choose(corpus, config(endpoint))][:6] == [row["id"] for row in six]
    assert all(len(row["text"]) < 220 for row in choose(corpus, config(endpoint, characters=200)))


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    endpoint: Endpoint, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")
    line = ["quality", "label", str(corpus), "--endpoint", endpoint.address, "--model", "judge", "--out",
            str(tmp_path / "out"), "--documents", "3", "--set", "key_variable=JUDGE_KEY"]  # fmt: skip
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    assert "documents judged" in result.output
    assert set(endpoint.headers) == {"Bearer sk-very-secret"}
    assert not any(b"very-secret" in path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert CliRunner().invoke(app, [*line[:4], "ftp://x", *line[5:]]).exit_code == 2


def test_a_number_that_is_no_score_is_none() -> None:
    for number in ('"\u00b2"', "1" * 400, "1" * 5000, f'"{"1" * 5000}"', "1e999", "NaN", "2.5", "true", '"6"'):
        assert read_answer(f'{{"score": {number}}} or rather {{"score": " 4 "}}') == (4, "")
    assert read_answer('{"score": 4.0}') == (4, "")


@given(st.text(max_size=80) | st.text(st.sampled_from('{}"score:0123456789 .-eE[]nultrefasINity,'), max_size=60))
def test_whatever_is_said_gives_a_score_of_the_scale_or_a_reason(said: str) -> None:
    score, reason = read_answer(said)
    assert isinstance(reason, str)
    assert score is None or score in range(BEST + 1)
