"""Echo documents: made of the shards' own spans, repeated, and read like any other domain."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from herd.foundation.errors import HerdError
from herd.foundation.files import write_json
from herd.foundation.progress import Progress
from herd.train import echo
from herd.train.echo import ECHO, EchoConfig, add_echoes
from herd.train.stream import Mix, TokenStream
from herd.train.tokens import open_shards

_BEGIN, _END = 744, 745


def tokens_directory(path: Path, begin: int = _BEGIN, end: int = _END) -> Path:
    """A corpus of counting: token n is followed by n + 1, so that every span can be recognised."""
    (path / "train").mkdir(parents=True)
    document = np.concatenate([[begin], np.arange(700), [end]]).astype("<u2")
    np.tile(document, 20).tofile(path / "train" / "general.bin")
    np.save(path / "train" / "general.index.npy", np.arange(21) * len(document))
    np.save(path / "train" / "general.quality.npy", np.ones(20, dtype=np.float32))
    (path / "train" / "general.ids.txt").write_text("x\n" * 20)
    write_json(path / "meta.json", {"dtype": "uint16", "vocab_size": 1000, "splits": {"train": {}}})
    return path


def repeated_share(document: np.ndarray) -> float:
    """The share of adjacent pairs of tokens that stood earlier in the document."""
    seen: set[tuple[int, int]] = set()
    again = 0
    for pair in zip(document.tolist(), document[1:].tolist(), strict=False):
        again += pair in seen
        seen.add(pair)
    return again / max(len(document) - 1, 1)


def test_documents_are_spans_of_the_shards_said_twice(tmp_path: Path) -> None:
    tokens = tokens_directory(tmp_path / "tokens")
    add_echoes(EchoConfig(tokens=30_000, tangled=0), tokens, Progress.silent())
    shard = open_shards(tokens)[ECHO]
    assert 30_000 <= shard.tokens < 32_000
    shares = []
    for number in range(len(shard)):
        document = shard.document(number)
        assert (document[0], document[-1]) == (_BEGIN, _END)
        inner = document[1:-1].astype(int)
        assert inner.max() < 744
        assert np.mean(np.diff(inner) == 1) > 0.8
        shares.append(repeated_share(inner))
    assert min(shares) > 0.25
    assert max(shares) > 0.7


def test_in_tangled_documents_only_a_longer_match_tells_what_follows(tmp_path: Path) -> None:
    tokens = tokens_directory(tmp_path / "tokens")
    add_echoes(EchoConfig(tokens=20_000, tangled=1, shortest=12, near=1), tokens, Progress.silent())
    shard = open_shards(tokens)[ECHO]

    def told(before: int) -> float:
        """The share of tokens before which the last place with the same ``before`` tokens was followed by the same."""
        right = met = 0
        for number in range(len(shard)):
            document = shard.document(number)[1:-1].tolist()
            followers: dict[tuple[int, ...], int] = {}
            for place in range(before, len(document)):
                context = tuple(document[place - before : place])
                met += context in followers
                right += followers.get(context) == document[place]
                followers[context] = document[place]
        return right / met

    assert len(set(shard.document(0)[1:-1].tolist())) <= 24
    assert told(1) < 0.45 < 0.7 < told(3)


def test_the_same_call_gives_the_same_bytes_and_does_not_feed_on_itself(tmp_path: Path) -> None:
    tokens = tokens_directory(tmp_path / "tokens")
    add_echoes(EchoConfig(tokens=5_000), tokens, Progress.silent())
    first = (tokens / "train" / "echo.bin").read_bytes()
    add_echoes(EchoConfig(tokens=5_000), tokens, Progress.silent())
    assert (tokens / "train" / "echo.bin").read_bytes() == first


def test_a_mix_can_ask_for_echoes(tmp_path: Path) -> None:
    tokens = tokens_directory(tmp_path / "tokens")
    add_echoes(EchoConfig(tokens=20_000), tokens, Progress.silent())
    stream = TokenStream(Mix(weights={"general": 0.75, ECHO: 0.25}).sources(open_shards(tokens)), 7, 64)
    domains = [stream.sample(number).domain for number in range(400)]
    assert abs(domains.count(ECHO) / 400 - 0.25) < 0.02


def test_documents_begin_and_end_as_the_shards_do_whatever_the_tokenizer(tmp_path: Path) -> None:
    tokens = tokens_directory(tmp_path / "tokens", begin=901, end=902)
    add_echoes(EchoConfig(tokens=5_000), tokens, Progress.silent())
    shard = open_shards(tokens)[ECHO]
    assert {(int(document[0]), int(document[-1])) for document in map(shard.document, range(len(shard)))} == {
        (901, 902)
    }
    assert max(int(shard.document(number)[1:-1].max()) for number in range(len(shard))) == 699


def test_a_call_that_was_killed_between_two_files_is_made_good_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = tokens_directory(tmp_path / "tokens")
    add_echoes(EchoConfig(tokens=5_000), tokens, Progress.silent())
    monkeypatch.setattr(echo, "write_text", lambda *_: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        add_echoes(EchoConfig(tokens=9_000), tokens, Progress.silent())
    monkeypatch.undo()
    assert ECHO not in open_shards(tokens)
    add_echoes(EchoConfig(tokens=9_000), tokens, Progress.silent())
    assert open_shards(tokens)[ECHO].tokens >= 9_000


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    tokens = tokens_directory(tmp_path / "tokens")
    with pytest.raises(HerdError, match="no shard has more than 20000 tokens to draw echoes from"):
        add_echoes(EchoConfig(gap=20_000), tokens, Progress.silent())
    for lengths in ({"shortest": 30}, {"document": 2_000}):
        with pytest.raises(ValidationError, match="shortest must not be above longest, nor document above"):
            EchoConfig(**lengths)
