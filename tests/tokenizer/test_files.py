"""The formats on disk: what is written is read back the same by us and by others, and broken files are named."""

import base64
import json
from pathlib import Path

import pytest
import tiktoken.load
import tokenizers
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from herd.foundation.errors import HerdError
from herd.tokenizer.files import byte_characters, merges_of, token_bytes, token_text
from herd.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def directory(small: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    small.save(path)
    return path


def test_every_file_gives_the_tokenizer_back(small: Tokenizer, directory: Path) -> None:
    for path in (directory, directory / "tokenizer.model", directory / "tokenizer.json"):
        loaded = Tokenizer.load(path)
        assert loaded.ranks == small.ranks
        assert loaded.special == small.special


def test_tiktoken_reads_our_ranks(small: Tokenizer, directory: Path) -> None:
    assert tiktoken.load.load_tiktoken_bpe(str(directory / "tokenizer.model")) == small.ranks


def test_the_published_file_is_written_byte_for_byte(published_directory: Path) -> None:
    shared = Path(__file__).parents[2].parent / "shared" / "data" / "llama3-tokenizer" / "tokenizer.model"
    assert (published_directory / "tokenizer.model").read_bytes() == shared.read_bytes()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100))
@settings(deadline=None)
def test_tokenizers_and_transformers_give_the_same_ids(small: Tokenizer, readers: list, text: str) -> None:
    assume("<|" not in text)  # others make control tokens of their names
    library, transformer = readers
    assert library.encode(text, add_special_tokens=False).ids == small.encode(text)
    assert library.encode(text).ids == [small.bos_id, *small.encode(text)]
    assert library.decode(small.encode(text)) == text
    assert transformer(text)["input_ids"] == [small.bos_id, *small.encode(text)]
    assert transformer.decode(small.encode(text)) == text


@pytest.fixture(scope="module")
def readers(directory: Path) -> list:
    library = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    return [library, AutoTokenizer.from_pretrained(directory)]


def test_transformers_knows_the_special_tokens(small: Tokenizer, readers: list) -> None:
    transformer = readers[1]
    assert transformer.bos_token_id == small.bos_id
    assert transformer.eos_token_id == small.eos_id
    assert transformer.pad_token_id == small.pad_id
    assert len(transformer) == small.vocab_size


def test_merges_may_be_written_as_one_string(small: Tokenizer, directory: Path, tmp_path: Path) -> None:
    """The older form of the same file."""
    data = json.loads((directory / "tokenizer.json").read_text())
    data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    assert Tokenizer.load(tmp_path).ranks == small.ranks


def test_a_vocabulary_without_a_begin_token_is_written_and_read(small: Tokenizer, tmp_path: Path) -> None:
    Tokenizer(small.ranks, ["<|end_of_text|>"]).save(tmp_path)
    assert Tokenizer.load(tmp_path / "tokenizer.json").special == {"<|end_of_text|>": 768}
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert library.encode("one").ids == small.encode("one")


def test_as_many_merges_as_the_published_tokenizer_json_has(published: Tokenizer) -> None:
    assert len(merges_of(published.ranks)) == 280_147


def test_leaving_out_ways_to_cut_a_token_would_be_noticed(small: Tokenizer) -> None:
    """Naming only one cut a token, as learners do, merges some words differently from tiktoken's rule."""
    merges = merges_of(small.ranks)
    assert len(merges) > len(small.ranks) - 256
    assert len(set(merges)) == len(merges)
    assert all(token_bytes(left) + token_bytes(right) in small.ranks for left, right in merges)


def test_the_byte_table_is_the_known_one() -> None:
    table = byte_characters()
    assert sorted(table) == list(range(256))
    assert len(set(table.values())) == 256
    assert set(table.values()) == set(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    assert token_text(b" \n\x00\xc3") == "ĠĊĀÃ"
    assert token_bytes("ĠĊĀÃ") == b" \n\x00\xc3"


def _broken(lines: list[str], place: int, text: str | None) -> str:
    changed = [line for number, line in enumerate(lines) if number != place or text is not None]
    if text is not None:
        changed[place] = text
    return "\n".join(changed) + "\n"


@pytest.mark.parametrize(
    ("place", "text", "message"),
    [
        (3, "not base64! 3", "line 4: not a base64 token and its rank"),
        (3, "IQ==", "line 4: not a base64 token and its rank"),
        (3, "IQ== three", "line 4: not a base64 token and its rank"),
        (3, "IQ== 3", "line 4: the token was already given rank 0"),
        (700, None, "the ranks do not run from 0 to 766; rank 700 is missing"),
        (3, base64.b64encode(b"zzzzzz").decode() + " 3", "the byte 0x24 has no rank"),
    ],
)
def test_broken_ranks_are_named(directory: Path, tmp_path: Path, place: int, text: str | None, message: str) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_text(_broken((directory / "tokenizer.model").read_text().splitlines(), place, text))
    with pytest.raises(HerdError, match=message) as raised:
        Tokenizer.load(path)
    assert str(path) in str(raised.value)


def test_other_kinds_of_tokenizer_are_refused(directory: Path, tmp_path: Path) -> None:
    original = json.loads((directory / "tokenizer.json").read_text())
    model, added = original["model"], original["added_tokens"]
    split, to_bytes = original["pre_tokenizer"]["pretokenizers"]
    spaced = {"type": "Sequence", "pretokenizers": [split, to_bytes | {"add_prefix_space": True}]}
    changes: list[tuple[str, dict]] = [
        ("not a byte-level BPE", {"pre_tokenizer": {"type": "ByteLevel", "use_regex": True}}),
        ("not a byte-level BPE", {"pre_tokenizer": None}),
        ("not a byte-level BPE", {"pre_tokenizer": spaced}),
        ("not a byte-level BPE", {"normalizer": {"type": "NFC"}}),
        (r"not a tokenizer.json of the tokenizers library \(at 'model'\)", {"model": None}),
        (r"\(at 'model.vocab'\)", {"model": model | {"vocab": ["a"]}}),
        (r"\(at 'model.vocab.a'\)", {"model": model | {"vocab": model["vocab"] | {"a": "64"}}}),
        ("control tokens do not follow", {"added_tokens": added[1:]}),
        ("two control tokens have the same name", {"added_tokens": [*added[:9], added[10] | {"id": 777}, *added[10:]]}),
        ("stands for no byte", {"model": model | {"vocab": model["vocab"] | {"a b": 5_000}}}),
        ("rank 300 is missing", {"model": model | {"vocab": {t: r for t, r in model["vocab"].items() if r != 300}}}),
        ("its merges are not those that its ranks give", {"model": model | {"merges": model["merges"][1:]}}),
    ]
    path = tmp_path / "tokenizer.json"
    for message, change in changes:
        path.write_text(json.dumps(original | change))
        with pytest.raises(HerdError, match=message):
            Tokenizer.load(path)
    path.write_bytes(b'{"model": "\xff"}')
    with pytest.raises(HerdError, match="not readable as JSON"):
        Tokenizer.load(path)
    path.write_text("{")
    with pytest.raises(HerdError, match="not readable as JSON"):
        Tokenizer.load(path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(HerdError, match=r"holds neither tokenizer\.model nor tokenizer\.json"):
        Tokenizer.load(empty)
    with pytest.raises(HerdError, match="not readable"):
        Tokenizer.load(tmp_path / "missing.model")
