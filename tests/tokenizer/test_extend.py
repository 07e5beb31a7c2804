"""Extending a vocabulary: the base stays, what is protected stays, other languages get shorter."""

import inspect
import json
import textwrap
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from herd.cli import app
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.tokenizer.extend import ExtendConfig, extend_tokenizer, extend_vocabulary
from herd.tokenizer.special import SPLIT_PATTERN
from herd.tokenizer.tokenizer import Tokenizer

GERMAN = ["Straße", "über", "fließend", "Größe", "können", "Schlüssel", "während", "Zeichenkette", "zurückgeben"]
HINDI = ["फ़ंक्शन", "सूची", "मान", "लौटाता", "है", "और", "शब्दकोश", "कुंजी"]


def sentences(words: list[str], count: int = 60) -> list[str]:
    return [" ".join(words[(n * 5 + k * k) % len(words)] for k in range(12)) + ".\n" for n in range(count)]


ENGLISH = [inspect.getsource(module) for module in (json, textwrap)]


@pytest.fixture(scope="module")
def extended(small: Tokenizer) -> Tokenizer:
    return extend_vocabulary(small, sentences(GERMAN) + sentences(HINDI), ENGLISH, 60)


def test_the_base_keeps_its_ranks_and_control_tokens_follow(small: Tokenizer, extended: Tokenizer) -> None:
    ranks = len(small.ranks)
    assert list(extended.ranks.items())[:ranks] == list(small.ranks.items())
    assert len(extended.ranks) == ranks + 60
    assert {name: place - 60 for name, place in extended.special.items()} == small.special


def test_new_tokens_shorten_what_they_were_learnt_from(small: Tokenizer, extended: Tokenizer) -> None:
    for words in (GERMAN, HINDI):
        text = sentences(words)[7]
        assert len(extended.encode(text)) < 0.7 * len(small.encode(text))
        assert extended.decode(extended.encode(text)) == text
    assert any(token.decode(errors="ignore").strip() in GERMAN for token in list(extended.ranks)[len(small.ranks) :])


def test_what_is_protected_keeps_its_ids(small: Tokenizer, extended: Tokenizer) -> None:
    for text in ENGLISH:
        assert extended.encode(text) == small.encode(text)


def test_without_protection_the_same_text_changes(small: Tokenizer) -> None:
    """The mutation: learnt on the English itself, with nothing protected, its ids do change."""
    unprotected = extend_vocabulary(small, ENGLISH, [], 60)
    assert unprotected.encode(ENGLISH[0]) != small.encode(ENGLISH[0])


words = st.lists(st.sampled_from([*GERMAN, "the", "theory", " other", "string", "Zeichen"]) | st.text(max_size=8))


@given(protected=words.map(" ".join))
@settings(deadline=None, max_examples=25)
def test_whatever_is_protected_keeps_its_ids(small: Tokenizer, protected: str) -> None:
    protected = protected.encode(errors="ignore").decode()
    tokenizer = extend_vocabulary(small, [*sentences(GERMAN), *sentences([protected or "x"])], [protected], 12)
    assert tokenizer.encode(protected) == small.encode(protected)


@given(st.text(st.characters(max_codepoint=127)))
@settings(deadline=None)
def test_ascii_is_kept_when_asked(ascii_kept: Tokenizer, small: Tokenizer, text: str) -> None:
    assert ascii_kept.encode(text) == small.encode(text)


@pytest.fixture(scope="module")
def ascii_kept(small: Tokenizer) -> Tokenizer:
    return extend_vocabulary(small, sentences(GERMAN), [], 15, keep_ascii=True)


def test_keeping_ascii_still_learns_the_rest(ascii_kept: Tokenizer, small: Tokenizer) -> None:
    new = list(ascii_kept.ranks)[len(small.ranks) :]
    assert len(new) == 15
    assert not any(token.isascii() for token in new)


def test_no_new_token_spells_what_is_protected(small: Tokenizer) -> None:
    """Neither two neighbours in the base encoding of a protected text nor a whole piece of it, however it is learnt."""
    tokenizer = extend_vocabulary(small, ENGLISH + sentences(GERMAN) + [text.upper() for text in ENGLISH], ENGLISH, 60)
    new = set(list(tokenizer.ranks)[len(small.ranks) :])
    for text in ENGLISH:
        for piece in regex.findall(SPLIT_PATTERN, text):
            tokens = [small.decode_bytes([token]) for token in small.encode(piece)]
            assert piece.encode() not in new
            assert not any(left + right in new for left, right in pairwise(tokens))


def test_every_new_token_is_used_somewhere(small: Tokenizer, extended: Tokenizer) -> None:
    """None stands idle because something that it is built on was kept out; some are steps to longer ones."""
    used = {token for text in sentences(GERMAN) + sentences(HINDI) for token in extended.encode(text)}
    new = [token for token, rank in extended.ranks.items() if rank >= len(small.ranks)]
    steps = [token for token in new if any(token in other and token != other for other in new)]
    assert all(extended.ranks[token] in used or token in steps for token in new)


def test_asking_for_more_than_there_is_and_too_large_a_base(small: Tokenizer) -> None:
    with pytest.raises(HerdError, match=r"the texts give \d+ new tokens at most; 5000 were asked for"):
        extend_vocabulary(small, sentences(GERMAN), [], 5_000)
    huge = Tokenizer(small.ranks | {bytes([n >> 14, n >> 7 & 127, n & 127, 0]): 768 + n for n in range(131_000)})
    with pytest.raises(HerdError, match="a base of 131768 tokens is too large to extend; 131068 is the limit"):
        extend_vocabulary(huge, ["x"], [], 1)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = [{"text": text, "language": "de"} for text in sentences(GERMAN, 120)]
    rows += [{"text": text, "language": "hi"} for text in sentences(HINDI, 60)]
    rows += [{"text": text, "language": "en"} for text in ENGLISH * 3]
    for number, row in enumerate(rows):
        row["id"] = f"doc-{number}"
    for folder, chosen in (("documents", rows), ("heldout", rows[::7])):
        (tmp_path / "corpus" / folder).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(chosen), tmp_path / "corpus" / folder / "000.parquet")
    return tmp_path / "corpus"


def test_the_verb_writes_a_tokenizer_and_its_figures(small: Tokenizer, corpus: Path, tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    small.save(base)
    settings = ["--set", "new_tokens=40"]
    result = CliRunner().invoke(app, ["extend", str(base), str(corpus), "--out", str(out), *settings])
    assert result.exit_code == 0, result.output
    tokenizer, stats = Tokenizer.load(out), json.loads((out / "stats.json").read_text())
    assert len(tokenizer.ranks) == stats["base_ranks"] + stats["new_tokens"] == 808
    held = [row for row in pq.read_table(corpus / "heldout").to_pylist() if row["language"] == "de"]
    german = stats["languages"]["de"]
    assert german["documents"] == german["documents_changed"] == len(held)
    assert german["tokens_before"] == sum(len(small.encode(row["text"])) for row in held)
    assert german["tokens_after"] == sum(len(tokenizer.encode(row["text"])) for row in held) < german["tokens_before"]
    english = stats["languages"]["en"]
    assert english["documents_changed"] == 0 < english["documents"]
    assert english["characters_per_token_before"] == english["characters_per_token_after"]
    assert stats["sampled_shares"].keys() == {"de", "hi"}
    assert "hi: " in result.stderr


def test_documents_without_a_language_are_one_of_their_own(small: Tokenizer, corpus: Path, tmp_path: Path) -> None:
    rows = [{"id": f"n-{n}", "text": text, "language": None} for n, text in enumerate(sentences(GERMAN))]
    schema = pa.schema([("id", pa.string()), ("text", pa.string()), ("language", pa.string())])
    pq.write_table(pa.Table.from_pylist(rows, schema), corpus / "documents" / "001.parquet")
    small.save(tmp_path / "base")
    config = ExtendConfig(new_tokens=20, languages=("unknown", "hi"), language_weights={"unknown": 3.0})
    (tmp_path / "out").mkdir()
    extend_tokenizer(config, tmp_path / "base", corpus, tmp_path / "out", Progress.silent())
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert stats["sampled_shares"] == {"hi": 1.0, "unknown": 1.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"languages": ("fr",)}, "holds no text in 'fr'; there is de, en, hi"),
        ({"languages": ("de", "en")}, "the language 'en' cannot both be learnt from and be protected"),
        ({"protected": ("de", "en", "hi")}, "holds nothing but de, en, hi"),
        ({"language_weights": {"en": 2.0}}, "the language 'en' has a weight but is not learnt from"),
        ({"new_tokens": 9_000}, "9000 were asked for"),
    ],
)
def test_settings_that_do_not_fit_the_corpus(
    small: Tokenizer, corpus: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    small.save(tmp_path / "base")
    with pytest.raises(HerdError, match=message):
        config = ExtendConfig.model_validate(changes)
        extend_tokenizer(config, tmp_path / "base", corpus, tmp_path / "out", Progress.silent())
    assert not (tmp_path / "out").exists()
