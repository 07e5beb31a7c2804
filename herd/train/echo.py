"""Documents that say things twice: practice in copying, cut from the corpus' own tokens.

    add_echoes(EchoConfig(), tokens, progress)     # adds the domain ``echo`` to a finished tokens directory

A model that answers by reading tools has to repeat names, numbers and sentences that it never met.  Natural text asks
for that too seldom for a model of a few million tokens to learn it (``docs/notebook.md``).  An echo document draws
short spans at random places of the training shards and repeats them: some at once, some after other spans, some after a
page or more.  A *tangled* document puts its spans together from a few tokens, so that one token tells nothing of what
follows and only a longer match does.  Nothing in it comes from held-out documents.  The mix decides how much is seen.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from pydantic import Field, model_validator

from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import atomic_path, read_json, write_json, write_text
from herd.foundation.progress import Progress
from herd.foundation.seeds import numpy_from
from herd.train.shards import META_FILE, token_type
from herd.train.tokens import TokenShard, open_shards

ECHO = "echo"
"""The domain's name in the mix."""


class EchoConfig(Config):
    """How much is made and of which shape; lengths are in tokens."""

    seed: int = 7
    tokens: int = Field(default=600_000, ge=0, description="tokens to make; 0 makes none")
    shortest: int = Field(default=4, ge=2)
    longest: int = Field(default=24, ge=2)
    gap: int = Field(default=16, ge=0, description="longest stretch of other text before the echo of a near one")
    near: float = Field(default=0.7, ge=0, le=1, description="share of documents whose echoes follow closely")
    tangled: float = Field(default=0.5, ge=0, le=1, description="share of documents whose spans are of a few tokens")
    document: int = Field(default=254, gt=64, description="length of a document of near echoes")
    far_document: int = Field(default=1022, gt=64, description="length, at most, of a document of far echoes")

    @model_validator(mode="after")
    def _lengths_ascend(self) -> "EchoConfig":
        if self.shortest > self.longest or self.document > self.far_document:
            raise ValueError("shortest must not be above longest, nor document above far_document")
        return self


def add_echoes(config: EchoConfig, tokens: Path, progress: Progress) -> None:
    """Adds ``train/echo.bin`` with its index to ``tokens`` and its sizes to ``meta.json``.

    ``HerdError`` where no shard is longer than the spans that are to be drawn.
    """
    if config.tokens == 0:
        return
    meta = read_json(tokens / META_FILE)
    longest = max(config.longest, config.gap)
    shards = [shard for name, shard in open_shards(tokens).items() if name != ECHO and shard.tokens > longest]
    if not shards:
        raise HerdError(f"{tokens / 'train'}: no shard has more than {longest} tokens to draw echoes from")
    spans = _Spans(shards)
    documents = []
    made = 0
    with progress.task("echo documents", config.tokens, "tokens") as task:
        for document in _documents(config, spans):
            documents.append(np.array([spans.begin, *document, spans.end]))
            made += len(documents[-1])
            task.advance(len(documents[-1]))
            if made >= config.tokens:
                break
    _write(documents, tokens / "train", token_type(int(meta["vocab_size"])))
    sizes = {"documents": len(documents), "characters": 0, "bytes": 0, "tokens": made}
    meta["splits"]["train"][ECHO] = sizes
    write_json(tokens / META_FILE, meta)


class _Source(Protocol):
    """Where a document's spans come from."""

    def draw(self, chance: np.random.Generator, length: int) -> list[int]:
        """At most ``length`` ids."""
        ...


class _Spans:
    """Draws stretches of ordinary tokens from anywhere in the training shards, each token as likely as any.

    ``begin`` and ``end`` stand around every document, whatever ids the tokenizer gives them.
    """

    def __init__(self, shards: list[TokenShard]) -> None:
        self._shards = shards
        document = shards[0].document(0)
        self.begin, self.end = int(document[0]), int(document[-1])
        sizes = np.array([shard.tokens for shard in shards], dtype=np.float64)
        self._shares = sizes / sizes.sum()

    def draw(self, chance: np.random.Generator, length: int) -> list[int]:
        """At most ``length`` ids; the borders of documents within the stretch are left out."""
        shard = self._shards[int(chance.choice(len(self._shards), p=self._shares))]
        start = int(chance.integers(0, shard.tokens - length))
        return [token for token in shard.stretch(start, start + length).tolist() if token not in (self.begin, self.end)]


class _Few:
    """Draws from few tokens, each as likely as any."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens

    def draw(self, chance: np.random.Generator, length: int) -> list[int]:
        return [self._tokens[place] for place in chance.integers(len(self._tokens), size=length)]


def _documents(config: EchoConfig, spans: _Spans) -> Iterator[list[int]]:
    number = 0
    while True:
        chance = numpy_from(config.seed, "echo", number)
        few = spans.draw(chance, int(chance.integers(4, config.longest + 1)))
        source: _Source = _Few(few) if few and chance.random() < config.tangled else spans
        yield _near(config, source, chance) if chance.random() < config.near else _far(config, source, chance)
        number += 1


def _near(config: EchoConfig, spans: _Source, chance: np.random.Generator) -> list[int]:
    """A span, a short stretch of other text, the span again; and so on."""
    document: list[int] = []
    while len(document) < config.document:
        span = spans.draw(chance, int(chance.integers(config.shortest, config.longest + 1)))
        document += [*span, *spans.draw(chance, int(chance.integers(0, config.gap + 1))), *span]
    return document[: config.document]


def _far(config: EchoConfig, spans: _Source, chance: np.random.Generator) -> list[int]:
    """Several spans, then the same ones again and again, each time in another order."""
    length = int(chance.integers(config.document, config.far_document + 1))
    drawn = [
        spans.draw(chance, int(chance.integers(config.shortest, config.longest + 1)))
        for _ in range(int(chance.integers(4, max(5, length // 40))))
    ]
    document: list[int] = []
    while len(document) < length:
        for index in chance.permutation(len(drawn)):
            document += drawn[index]
    return document[:length]


def _write(documents: list[np.ndarray], directory: Path, dtype: np.dtype) -> None:
    """The four files of a shard, as ``shards`` writes them; a reader knows it by the last, which holds the tokens."""
    offsets = np.concatenate([[0], np.cumsum([len(document) for document in documents])]).astype(np.int64)
    (directory / f"{ECHO}.bin").unlink(missing_ok=True)
    arrays: dict[str, np.ndarray] = {"index": offsets, "quality": np.ones(len(documents), dtype=np.float32)}
    for name, values in arrays.items():
        with atomic_path(directory / f"{ECHO}.{name}.npy") as temporary, temporary.open("wb") as out:
            np.save(out, values)
    write_text(directory / f"{ECHO}.ids.txt", "".join(f"echo-{number}\n" for number in range(len(documents))))
    with atomic_path(directory / f"{ECHO}.bin") as temporary:
        np.concatenate(documents).astype(dtype).tofile(temporary)
