"""Llama 2's kind of tokenizer beside the ``sentencepiece`` package: ids, text, files; and what is refused."""

import json
import random
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from herd.foundation.errors import HerdError
from herd.tokenizer.chat import ChatFormat
from herd.tokenizer.extend import extend_vocabulary
from herd.tokenizer.piece_json import merges_of_pieces
from herd.tokenizer.piece_model import parse_piece_model, piece_model_bytes
from herd.tokenizer.pieces import SPACE, Kind, Piece, PieceVocabulary, byte_piece
from herd.tokenizer.sentencepiece import SentencePieceTokenizer
from herd.tokenizer.tokenizer import Tokenizer
from tests.tokenizer.conftest import SHARED

sentencepiece = pytest.importorskip("sentencepiece", reason="the package sentencepiece is not installed")

SIZE = 800
LETTERS = [
    *"aabbcdehilnorst  \n.,1-",
    "  ",
    "    ",
    "é",
    "ß",
    "ก",
    "語",
    "🙂",
    "\u0301",
    "\u00a0",
    "\x00",
    SPACE,
    "the ",
    "<s>",
]


def train(**options: Any) -> bytes:
    """A model learnt with Llama 2's settings on Python's licence and some text in other scripts."""
    text = Path(json.__file__).read_text() + Path(random.__file__).read_text()
    lines = [*text.splitlines(), *["    if über é:", "--------", "ก็ดี", "a    b        c"] * 20]
    settings: dict[str, Any] = {
        "vocab_size": SIZE,
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "split_digits": True,
        "character_coverage": 0.9995,
        "num_threads": 1,
        "minloglevel": 2,
    }
    out = BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out, **settings | options)
    return out.getvalue()


@pytest.fixture(scope="module")
def model() -> bytes:
    return train()


@pytest.fixture(scope="module")
def theirs(model: bytes) -> Any:
    return sentencepiece.SentencePieceProcessor(model_proto=model)


@pytest.fixture(scope="module")
def file(model: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pieces") / "tokenizer.model"
    path.write_bytes(model)
    return path


@pytest.fixture(scope="module")
def ours(file: Path) -> Tokenizer:
    return Tokenizer.load(file)


def texts() -> list[str]:
    chance = random.Random(7)
    drawn = ["".join(chance.choices(LETTERS, k=chance.randint(0, 40))) for _ in range(3_000)]
    runs = [unit * length for unit in (" ", "-", "a", "\n", "語") for length in (1, 2, 7, 33, 2_000)]
    return ["", " ", "a", "  leading", Path(random.__file__).read_text(), *drawn, *runs]


def test_ids_and_texts_are_those_of_the_package(ours: Tokenizer, theirs: Any) -> None:
    for text in texts():
        ids = theirs.encode(text)
        assert ours.encode(text) == ids, repr(text)
        assert ours.decode(ids) == theirs.decode(ids), repr(text)


def test_any_ids_become_the_package_s_text(ours: Tokenizer, theirs: Any) -> None:
    """Broken characters, control tokens and spaces anywhere."""
    chance = random.Random(8)
    space = theirs.piece_to_id(SPACE)
    for _ in range(3_000):
        ids = [
            chance.choice((chance.randrange(SIZE), chance.randrange(259), space)) for _ in range(chance.randint(0, 9))
        ]
        assert ours.decode(ids) == theirs.decode(ids), ids


def test_text_in_eight_languages_agrees(theirs: Any, ours: Tokenizer) -> None:
    folder = SHARED / "text"
    if not folder.is_dir():
        pytest.skip("the shared texts are not here")
    files = sorted(folder.rglob("*.jsonl"))[:12]
    lines = [line for file in files for line in file.open(encoding="utf-8").readlines(400_000)[:3]]
    assert all(ours.encode(line[:20_000]) == theirs.encode(line[:20_000]) for line in lines)


def test_it_has_the_interface_of_a_tokenizer(ours: Tokenizer) -> None:
    assert isinstance(ours, SentencePieceTokenizer)
    assert (ours.vocab_size, ours.bos_id, ours.eos_id, ours.stop_ids) == (SIZE, 1, 2, (2,))
    array = ours.encode_array("two words")
    assert array.dtype == np.uint32
    assert ours.encode_batch(["two words", ""]) == [array.tolist(), []]
    assert ours.decode_bytes([1, *ours.encode("é ☃")]) == "<s> é ☃".encode()
    assert ours.encode("<s>") != [1]
    assert ours.encode_continuation(" two words") == array.tolist()
    assert ours.encode("<s>a</s>", allow_special=True) == [1, *ours.encode("a"), 2]
    for ids in ([SIZE], [-1]):
        with pytest.raises(HerdError, match=f"token id {ids[0]} is outside the vocabulary of {SIZE}"):
            ours.decode(ids)
    with pytest.raises(HerdError, match=r"lone surrogate \(U\+D800\) at character 1"):
        ours.encode("a\ud800")


def test_what_needs_llama_3_s_tokenizer_says_so(ours: Tokenizer) -> None:
    with pytest.raises(HerdError, match="SentencePiece model, as Llama 2 has it; ranks as Llama 3 has are needed"):
        extend_vocabulary(ours, ["text"], [], 1)
    with pytest.raises(HerdError, match=r"no control token <\|start_header_id\|>"):
        ChatFormat(ours)


def test_the_files_that_it_writes_are_read_by_the_libraries(ours: Tokenizer, theirs: Any, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours.save(tmp_path)
    fast = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    auto = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (auto.bos_token_id, auto.eos_token_id, auto.unk_token_id) == (1, 2, 0)
    for text in texts()[:600]:
        ids = theirs.encode(text.replace("<s>", "s"))
        assert fast.encode(text.replace("<s>", "s"), add_special_tokens=False).ids == ids
        assert auto(text.replace("<s>", "s")).input_ids == [1, *ids]


def test_every_file_gives_the_same_tokenizer_again(ours: Tokenizer, model: bytes, tmp_path: Path) -> None:
    ours.save(tmp_path)
    assert (tmp_path / "tokenizer.model").read_bytes() == model
    assert Tokenizer.load(tmp_path).encode("über alles") == ours.encode("über alles")
    (tmp_path / "tokenizer.model").unlink()
    from_json = Tokenizer.load(tmp_path)
    assert isinstance(from_json, SentencePieceTokenizer)
    assert isinstance(ours, SentencePieceTokenizer)
    assert from_json.vocabulary.pieces == ours.vocabulary.pieces
    from_json.save_model(tmp_path)
    again = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    assert all(again.encode(text) == ours.encode(text) for text in texts()[:600])
    assert again.decode([0]) == ours.decode([0])


def test_the_new_form_of_spaces_is_read(ours: Tokenizer, tmp_path: Path) -> None:
    ours.save(tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    path = tmp_path / "tokenizer.json"
    data = json.loads(path.read_text()) | {"normalizer": None}
    spaces = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": False}
    path.write_text(json.dumps(data | {"pre_tokenizer": spaces}))
    assert Tokenizer.load(path).encode("über alles") == ours.encode("über alles")
    path.write_text(json.dumps(data | {"pre_tokenizer": spaces | {"prepend_scheme": "never"}}))
    with pytest.raises(HerdError, match="not a BPE with byte fall-back whose spaces are as in Llama 2"):
        Tokenizer.load(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "unigram"}, "is no BPE model"),
        ({"byte_fallback": False}, "has no byte fall-back"),
        ({"normalization_rule_name": "nmt_nfkc"}, r"normalises text \(nmt_nfkc\)"),
        ({"add_dummy_prefix": False}, "puts no space before a text"),
        ({"remove_extra_whitespaces": True}, "removes spaces"),
        ({"treat_whitespace_as_suffix": True}, "puts spaces at the ends of words"),
        ({"user_defined_symbols": ["<tool>"]}, r"piece 3 \('<tool>'\) is USER_DEFINED, which is not read here"),
        ({"split_by_whitespace": False, "vocab_size": 1_500}, "reaches over the end of a word"),
    ],
)
def test_other_kinds_of_model_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(train(**{"vocab_size": 500, "hard_vocab_limit": False} | options))
    with pytest.raises(HerdError, match=message) as raised:
        Tokenizer.load(path)
    assert str(path) in str(raised.value)


def test_a_file_cut_anywhere_is_refused(model: bytes) -> None:
    for length in (*range(20, 400, 7), len(model) - 1, len(model) - 30):
        with pytest.raises(HerdError, match=r"^cut: "):
            parse_piece_model(model[:length], "cut")


def small(change: Callable[[list[Piece]], object] = lambda pieces: None) -> PieceVocabulary:
    """The 256 bytes, ``a``, ``b``, the space and two words, after ``change``."""
    control = [Piece("<unk>", 0, Kind.UNKNOWN), Piece("<s>", 0, Kind.CONTROL), Piece("</s>", 0, Kind.CONTROL)]
    of_bytes = [Piece(byte_piece(byte), 0, Kind.BYTE) for byte in range(256)]
    letters = [Piece(text, -9, Kind.NORMAL) for text in ("a", "b", SPACE)]
    words = [Piece("ab", -1, Kind.NORMAL), Piece(f"{SPACE}ab", -1.5, Kind.NORMAL)]
    pieces = [*control, *of_bytes, *letters, *words]
    change(pieces)
    return PieceVocabulary(pieces, "place")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pieces: pieces.pop(), None),
        (lambda pieces: pieces.pop(5), "there is no piece for the byte 0x02"),
        (lambda pieces: pieces.pop(1), "there is no control token <s>"),
        (lambda pieces: pieces.append(Piece("ab", -3, Kind.NORMAL)), "the piece 'ab' stands there twice"),
        (lambda pieces: pieces.append(Piece("aa", -1.5, Kind.NORMAL)), f"'{SPACE}ab' and 'aa' have one score, -1.5"),
        (lambda pieces: pieces.append(Piece("ac", -3, Kind.NORMAL)), "the piece 'ac' holds 'c', which is no piece"),
        (lambda pieces: pieces.append(Piece("aa", float("nan"), Kind.NORMAL)), "its score is not finite"),
        (lambda pieces: pieces.append(Piece("aa", -3, Kind.UNUSED)), "is UNUSED"),
    ],
)
def test_vocabularies_that_contradict_themselves_are_refused(
    change: Callable[[list[Piece]], object], message: str | None
) -> None:
    if message is None:
        assert small(change).joined == ["ab"]
        return
    with pytest.raises(HerdError, match=f"^place: .*{message}"):
        small(change)


def test_a_piece_that_joining_does_not_reach_is_refused() -> None:
    """``ab`` is joined first, so that ``ba`` and ``ba`` never become neighbours."""
    unreached = small(lambda pieces: pieces.extend(Piece(text, -len(text), Kind.NORMAL) for text in ("ba", "baba")))
    assert merges_of_pieces(unreached) == [("a", "b"), (SPACE, "ab"), ("b", "a"), ("ba", "ba")]
    with pytest.raises(HerdError, match="the piece 'baba' of the tokenizer is not what joining makes"):
        SentencePieceTokenizer(unreached)


def test_the_leftmost_of_equals_is_joined_first() -> None:
    vocabulary = small(lambda pieces: pieces.append(Piece("aa", -0.5, Kind.NORMAL)))
    theirs = sentencepiece.SentencePieceProcessor(model_proto=piece_model_bytes(vocabulary))
    ours = SentencePieceTokenizer(vocabulary)
    for text in ("aaa", "aab", "aaab", "b aaaab", "cab", "\u00e9ab"):
        assert ours.encode(text) == theirs.encode(text)
