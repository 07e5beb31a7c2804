"""The tokenizer of Llama 2: a SentencePiece BPE with byte fall-back, to the ids of the ``sentencepiece`` package.

    tokenizer = Tokenizer.load("Llama-2-7b/tokenizer.model")        # sees what kind of file it is
    tokenizer.encode("Hello")                                       # a space is put before the text: one id, "▁Hello"
    tokenizer.decode(ids)                                           # and taken away again

tiktoken's native code does the joining.  It joins bytes where SentencePiece joins characters, so before the ranks of
the pieces, in the order of their scores, stand those that make characters of bytes; a half character, which no piece
goes on from, is taken apart into its bytes again.  As no piece reaches over the end of a word, words are encoded by
themselves, several times faster than a whole text.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import tiktoken

from herd.foundation.errors import HerdError
from herd.tokenizer import files
from herd.tokenizer.piece_json import is_piece_json, read_piece_json
from herd.tokenizer.piece_model import UNKNOWN_SURFACE, is_piece_model, parse_piece_model, piece_model_bytes
from herd.tokenizer.pieces import SPACE, Kind, PieceVocabulary
from herd.tokenizer.tokenizer import Tokenizer, check_text

_WORDS = f"{SPACE}*[^{SPACE}]+|{SPACE}+"
_NO_CHARACTER = "\U0010ffff"
"""A character that no piece holds, so that it keeps what stands before it apart from what follows."""
_MOST_BYTES = 4


class SentencePieceTokenizer(Tokenizer):
    """The interface of ``Tokenizer`` over pieces; control tokens are ``<unk>``, ``<s>``, ``</s>`` and what is given.

    There is no dialect of the chat format for them (``ChatFormat`` refuses, naming the token it lacks).
    """

    def __init__(self, vocabulary: PieceVocabulary) -> None:
        self.vocabulary = vocabulary
        self.dialect = files.DEFAULT_DIALECT
        self.special = dict(vocabulary.special)
        ranks = _ranks(vocabulary)
        self._encoding = tiktoken.Encoding("pieces", pat_str=_WORDS, mergeable_ranks=ranks, special_tokens={})
        self._pieces_of_rank = _pieces_of_rank(vocabulary, ranks)
        self._refuse_unreached()

    def _refuse_unreached(self) -> None:
        """A word that is a piece gets that piece's id at once, which is right if joining would lead to it."""
        for text in self.vocabulary.joined:
            if len(self._encoding.encode_ordinary(text + _NO_CHARACTER)) > 1 + _MOST_BYTES:
                raise HerdError(f"the piece {text!r} of the tokenizer is not what joining makes of its characters")

    @property
    def ranks(self) -> dict[bytes, int]:
        """There are none."""
        raise HerdError("the tokenizer is a SentencePiece model, as Llama 2 has it; ranks as Llama 3 has are needed")

    @property
    def vocab_size(self) -> int:
        """Number of ids, control tokens included."""
        return len(self.vocabulary.pieces)

    @property
    def bos_id(self) -> int:
        """``<s>``."""
        return self.vocabulary.begin

    @property
    def eos_id(self) -> int:
        """``</s>``."""
        return self.vocabulary.end

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """``</s>`` alone ends a generation."""
        return (self.eos_id,)

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """Ids of ``text``; with ``allow_special`` the names of control tokens in it become those.

        Each stretch between control tokens then gets its space, as the published ``tokenizer.json`` does it.
        """
        if not allow_special:
            return self.encode_array(text).tolist()
        ids: list[int] = []
        for part in self._names.split(text):
            ids += [self.special[part]] if part in self.special else self.encode(part)
        return ids

    def encode_array(self, text: str) -> np.ndarray:
        """Ids of ``text`` as plain text, as a ``uint32`` array."""
        check_text(text)
        return self._encode(f" {text}" if text else "")

    def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        """``encode_array`` of every text."""
        return [self.encode_array(text) for text in texts]

    def encode_continuation(self, text: str) -> list[int]:
        """Ids of plain text without a space before it."""
        check_text(text)
        return self._encode(text).tolist()

    def _encode(self, text: str) -> np.ndarray:
        written = text.replace(" ", SPACE)
        pieces = self._pieces_of_rank[self._encoding.encode_to_numpy(written, disallowed_special=())]
        return pieces[pieces >= 0].astype(np.uint32)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes of ``ids`` one after another, the first one's space too: the form for a text's continuation."""
        return b"".join(self._shown(token) for token in ids)

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        """The text of ``ids`` without the space before it; control tokens stand for nothing in either case.

        A byte that belongs to no character becomes U+FFFD, each one its own.
        """
        out: list[str] = []
        waiting = bytearray()
        begun = False
        for token in ids:
            shown = self._shown(token)
            kind = self.vocabulary.pieces[token].kind
            if kind == Kind.BYTE:
                waiting += shown
                begun = True
                continue
            out.append(_characters(bytes(waiting)))
            waiting.clear()
            if kind == Kind.CONTROL:
                continue
            out.append(shown.decode() if begun or kind == Kind.UNKNOWN else shown.decode().removeprefix(" "))
            begun = True
        return "".join(out) + _characters(bytes(waiting))

    def save(self, directory: Path | str) -> None:
        """Writes ``tokenizer.model``, ``tokenizer.json``, ``tokenizer_config.json`` and ``special_tokens_map.json``."""
        self.save_model(directory)
        files.write_pieces(Path(directory), self.vocabulary)

    def save_model(self, directory: Path | str) -> None:
        """Writes ``tokenizer.model`` alone."""
        files.write_model(Path(directory), self.vocabulary.model or piece_model_bytes(self.vocabulary))

    @property
    def model_says_all(self) -> bool:
        """Always: SentencePiece's file holds the control tokens."""
        return True

    @cached_property
    def _names(self) -> re.Pattern[str]:
        return re.compile("(" + "|".join(map(re.escape, self.special)) + ")")

    @cached_property
    def _bytes_of_id(self) -> list[bytes]:
        byte_of = self.vocabulary.bytes
        shown = [piece.text.replace(SPACE, " ").encode() for piece in self.vocabulary.pieces]
        shown[self.vocabulary.unknown] = UNKNOWN_SURFACE.encode()
        return [bytes([byte_of[token]]) if token in byte_of else text for token, text in enumerate(shown)]

    def _shown(self, token: int) -> bytes:
        if not 0 <= token < self.vocab_size:
            raise HerdError(f"token id {token} is outside the vocabulary of {self.vocab_size}")
        return self._bytes_of_id[token]


def find_pieces(path: Path) -> PieceVocabulary | None:
    """The vocabulary of a tokenizer's directory or file; None where it is not SentencePiece's but a byte-level one."""
    file = files.file_of(path)
    data = files.read_bytes(file)
    if file.suffix == ".json":
        return read_piece_json(file) if is_piece_json(data) else None
    return parse_piece_model(data, str(file)) if is_piece_model(data) else None


def _ranks(vocabulary: PieceVocabulary) -> dict[bytes, int]:
    """For tiktoken: all bytes, then whole and half characters, then the pieces in the order of joining."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    characters = [character.encode() for character in vocabulary.characters]
    beginnings = (written[:length] for length in range(2, _MOST_BYTES + 1) for written in characters)
    for token in (*beginnings, *(text.encode() for text in vocabulary.joined)):
        ranks.setdefault(token, len(ranks))
    return ranks


def _pieces_of_rank(vocabulary: PieceVocabulary, ranks: dict[bytes, int]) -> np.ndarray:
    """The one to three ids that stand for each of tiktoken's tokens, (ranks, 3), with -1 where there are fewer."""
    whole = {text.encode(): vocabulary.ids[text] for text in (*vocabulary.characters, *vocabulary.joined)}
    ids_of_bytes = {byte: token for token, byte in vocabulary.bytes.items()}
    table = np.full((len(ranks), _MOST_BYTES - 1), -1, dtype=np.int64)
    for token, rank in ranks.items():
        ids = [whole[token]] if token in whole else [ids_of_bytes[byte] for byte in token]
        table[rank, : len(ids)] = ids
    return table


def _characters(data: bytes) -> str:
    """UTF-8 as text, with U+FFFD for every single byte that belongs to no character."""
    text = ""
    while data:
        try:
            return text + data.decode()
        except UnicodeDecodeError as error:
            text += data[: error.start].decode() + "\ufffd"
            data = data[error.start + 1 :]
    return text
