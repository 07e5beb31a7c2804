"""Asks a chat model how good documents are: judgements to train a quality classifier on (paper, section 3.1.1).

    herd quality label corpus --endpoint http://127.0.0.1:8080/v1 --model chat --out labels

Any server that speaks OpenAI's chat completions will do, Herd's own among them; a key is taken from the environment.
Documents are drawn by a digest of their ids, as many of each domain as of the others, and read at their beginning and
their middle.  ``judgements.jsonl`` holds score and reason of each; what the model never answered as asked is in
``unanswered.jsonl``.  Every answer is on the disk at once, and the same call goes on where an earlier one ended.  A
page may try to talk to the judge: its text is set apart in the question, which helps and does not protect.
"""

import json
import os
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from herd.corpus.documents import Row, read_documents
from herd.corpus.split import draw
from herd.corpus.web import Patience, UnreliableError, patiently, receive, send
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import digest_value, write_json, write_jsonl
from herd.foundation.progress import Progress

BEST = 5
REQUIREMENTS = """\
You judge pages for the training of a language model. A good page teaches: it explains facts, ideas or methods in whole
sentences, is correct as far as you can tell, can be understood without other pages, and was written for people. A poor
page is advertising, a list of links or names, boilerplate, gossip, a log, or text without sense."""
_FORM = (
    f'Answer with one JSON object and nothing else: {{"score": N, "reason": "..."}}, where N is a whole number from 0 '
    f"(worthless) to {BEST} (excellent) and the reason is one short sentence."
)
_REMINDER = "That was not the form I asked for. " + _FORM
_LONGEST_ANSWER = 1 << 20
_OBJECT = re.compile(r"\{[^{}]*\}")


class LabelConfig(Config):
    """Whom to ask, about what, and how often."""

    endpoint: str = Field(pattern=r"^https?://", description="the address of the API, as http://127.0.0.1:8080/v1")
    model: str = Field(min_length=1, description="the model's name at that endpoint")
    key_variable: str = Field(default="OPENAI_API_KEY", description="the environment's variable that holds the key")
    requirements: str = Field(default=REQUIREMENTS, min_length=1, description="what makes a good document")
    documents: int = Field(default=2000, ge=1, description="how many are judged")
    characters: int = Field(default=4000, ge=100, description="of each document that are shown")
    asked: int = Field(default=3, ge=1, description="how often, if the answer is not in the form that was asked for")
    answer_tokens: int = Field(default=200, ge=10)
    parallel: int = Field(default=4, ge=1, le=256, description="questions at a time")
    seed: int = 0
    patience: Patience = Patience()


@dataclass(frozen=True)
class Judgement:
    """What the model said of one document; ``asked`` is how often it had to be asked."""

    id: str
    domain: str
    source: str
    score: int
    reason: str
    asked: int


def label(config: LabelConfig, corpus: Path, out: Path, progress: Progress) -> None:
    """Writes ``judgements.jsonl``, ``unanswered.jsonl`` and ``stats.json`` to ``out``.

    Raises:
        HerdError: no documents, an endpoint that refuses or never answers (what was judged before stays), or an ``out``
            that holds the answers to other questions.
    """
    key = digest_value(config.model_dump(mode="json", exclude={"parallel", "patience", "endpoint", "documents"}))
    chosen = choose(corpus, config)
    done = _Journal(out / "answers.jsonl", key)
    waiting = [row for row in chosen if row["id"] not in done.rows]
    judge = _Judge(config)
    with progress.task("label", total=len(chosen), unit="documents") as task, closing(done):
        task.advance(len(chosen) - len(waiting))
        for row, answer in _ask_all(judge, waiting, config.parallel):
            done.add(row["id"], answer)
            task.advance()
    answers = [done.rows[row["id"]] for row in chosen]
    judgements = [answer for answer in answers if "score" in answer]
    if not judgements:
        said = f"answered none of {len(chosen)} questions in the form that was asked for"
        raise HerdError(f"{config.endpoint}: {config.model} {said}")
    write_jsonl(out / "judgements.jsonl", judgements)
    write_jsonl(out / "unanswered.jsonl", [answer for answer in answers if "score" not in answer])
    write_json(out / "stats.json", _stats(config, chosen, judgements))


def choose(corpus: Path, config: LabelConfig) -> list[Row]:
    """The documents to judge: of each domain those with the smallest draws, as many as of the others if there are."""
    columns = ["id", "text", "domain", "source"]
    draws: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for row in read_documents(corpus / "documents", ["id", "domain"]):
        draws[row["domain"] or ""].append((draw(row["id"], config.seed), row["id"]))
    ranked = [iter(sorted(found)) for _, found in sorted(draws.items())]
    wanted: list[str] = []
    while ranked and len(wanted) < config.documents:
        for domain in list(ranked):
            found = next(domain, None)
            if found is None:
                ranked.remove(domain)
            elif len(wanted) < config.documents:
                wanted.append(found[1])
    names = set(wanted)
    rows = {row["id"]: row for row in read_documents(corpus / "documents", columns) if row["id"] in names}
    return [rows[name] | {"text": _excerpt(rows[name]["text"], config.characters)} for name in wanted]


def _excerpt(text: str, characters: int) -> str:
    """The text if it is short enough, else its beginning and a piece from its middle."""
    if len(text) <= characters:
        return text
    half, middle = characters // 2, len(text) // 2
    return f"{text[:half]}\n[...]\n{text[max(middle, half) : max(middle, half) + half]}"


class _Journal:
    """The answers so far, one line each, flushed at once; a line that a kill cut short is asked for again."""

    def __init__(self, path: Path, key: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows: dict[str, dict[str, Any]] = {}
        sound = 0
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                entry = None
            if entry is None:
                break
            if entry["key"] != key:
                raise HerdError(f"{path}: holds answers to other questions, or of another model; name another --out")
            self.rows[entry["answer"]["id"]] = entry["answer"]
            sound += len(line)
        self._key = key
        self._file = path.open("ab")
        self._file.truncate(sound)

    def add(self, name: str, answer: dict[str, Any]) -> None:
        """Writes an answer."""
        self.rows[name] = answer
        self._file.write(json.dumps({"key": self._key, "answer": answer}, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _ask_all(judge: "_Judge", rows: Sequence[Row], parallel: int) -> Iterator[tuple[Row, dict[str, Any]]]:
    """The answers in the order of the rows; after a failure no further question is asked."""
    stop = threading.Event()

    def ask(row: Row) -> dict[str, Any] | None:
        if stop.is_set():
            return None
        try:
            return judge.ask(row)
        except HerdError:
            stop.set()
            raise

    with ThreadPoolExecutor(parallel) as pool:
        for row, answer in zip(rows, pool.map(ask, rows), strict=True):
            if answer is not None:
                yield row, answer


class _Judge:
    """One chat model at one endpoint."""

    def __init__(self, config: LabelConfig) -> None:
        self._config = config
        self._url = config.endpoint.rstrip("/") + "/chat/completions"
        key = os.environ.get(config.key_variable)
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}

    def ask(self, row: Row) -> dict[str, Any]:
        """The judgement of a document as a row, or why there is none."""
        question = f"The page begins after this line and ends with the message.\n{'-' * 20}\n{row['text']}"
        messages = [
            {"role": "system", "content": f"{self._config.requirements}\n\n{_FORM}"},
            {"role": "user", "content": question},
        ]
        problem, said = "", ""
        for attempt in range(1, self._config.asked + 1):
            said = self._answer(messages)
            score, reason = read_answer(said)
            if score is not None:
                return asdict(Judgement(row["id"], row["domain"], row["source"], score, reason, attempt))
            problem = reason
            messages = [*messages[:2], {"role": "assistant", "content": said}, {"role": "user", "content": _REMINDER}]
        return {"id": row["id"], "problem": problem, "said": said[:500]}

    def _answer(self, messages: list[dict[str, str]]) -> str:
        body = {
            "model": self._config.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": self._config.answer_tokens,
        }
        return patiently(lambda: self._once(json.dumps(body).encode()), self._config.patience, self._url)

    def _once(self, body: bytes) -> str:
        """The words of one answer; one that is no answer of this API may be a passing fault of what stands between."""
        with closing(send(self._url, self._config.patience, self._headers, body)) as response:
            data = receive(response, _LONGEST_ANSWER)
        try:
            said = json.loads(data)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise UnreliableError("the answer is not that of a chat completion") from None
        return said if isinstance(said, str) else ""


def read_answer(said: str) -> tuple[int | None, str]:
    """Score and reason in an answer, whatever stands around the object; None and what is wrong where there is none."""
    problem = "no JSON object"
    for found in _OBJECT.findall(said):
        try:
            value = json.loads(found)
        except ValueError:
            continue
        score = value.get("score")
        if isinstance(score, str):
            score = {str(each): each for each in range(BEST + 1)}.get(score.strip())
        if isinstance(score, int | float) and not isinstance(score, bool) and score in range(BEST + 1):
            return int(score), " ".join(str(value.get("reason") or "").split())[:300]
        problem = f"no whole number from 0 to {BEST} as score"
    return None, problem


def _stats(config: LabelConfig, chosen: list[Row], judgements: list[dict[str, Any]]) -> dict[str, Any]:
    domains: dict[str, Counter[int]] = defaultdict(Counter)
    for row in judgements:
        domains[row["domain"]][row["score"]] += 1
    return {
        "model": config.model,
        "documents": len(chosen),
        "judged": len(judgements),
        "unanswered": len(chosen) - len(judgements),
        "asked again": sum(row["asked"] > 1 for row in judgements),
        "scores": {name: {str(n): scores[n] for n in range(BEST + 1)} for name, scores in sorted(domains.items())},
    }
