"""The vocabulary of a SentencePiece BPE model with byte fall-back, as Llama 2 has it, whatever file it came from.

A piece is text in which U+2581 stands for a space.  Text is cut into characters, and of all neighbours that together
spell a piece those with the highest score are joined first; a character that is no piece becomes its bytes.

    vocabulary = PieceVocabulary(pieces, "tokenizer.model")     # checked
    vocabulary.unknown, vocabulary.begin, vocabulary.end        # ids
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from herd.foundation.errors import HerdError

SPACE = "\u2581"
UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"


class Kind(IntEnum):
    """What a piece is; the numbers are those of SentencePiece's files and of GGUF."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Piece:
    """One piece; its id is its place in the vocabulary."""

    text: str
    score: float
    kind: Kind


def byte_piece(byte: int) -> str:
    """The name of the piece that stands for one byte."""
    return f"<0x{byte:02X}>"


class PieceVocabulary:
    """All pieces in the order of their ids, checked to be of the kind that Llama 2 has."""

    def __init__(self, pieces: Sequence[Piece], place: str, model: bytes | None = None) -> None:
        """``place`` names the file for the ``HerdError`` where the pieces are of another kind or contradict.

        ``model`` is the ``tokenizer.model`` that they came from, which is written again as it was.
        """
        self.model = model
        self.pieces = tuple(pieces)
        self.ids = {piece.text: token for token, piece in enumerate(pieces)}
        self._refuse_doubles(place)
        self._refuse_other_kinds(place)
        self.special = {piece.text: token for token, piece in enumerate(pieces) if _is_special(piece)}
        self.unknown, self.begin, self.end = (self._special(name, place) for name in (UNKNOWN, BEGIN, END))
        self.bytes: dict[int, int] = {}
        """The byte of every id that stands for one."""
        for byte in range(256):
            token = self.ids.get(byte_piece(byte))
            if token is None or pieces[token].kind != Kind.BYTE:
                raise HerdError(f"{place}: there is no piece for the byte 0x{byte:02X}, so not every text has ids")
            self.bytes[token] = byte
        normal = [piece for piece in pieces if piece.kind == Kind.NORMAL]
        self.characters = [piece.text for piece in normal if len(piece.text) == 1]
        self.joined = [piece.text for piece in sorted(normal, key=lambda piece: -piece.score) if len(piece.text) > 1]
        """The pieces of several characters, those that are joined first before the others."""
        self._refuse_unreachable(place)

    def _refuse_doubles(self, place: str) -> None:
        if len(self.ids) < len(self.pieces):
            [(text, _)] = Counter(piece.text for piece in self.pieces).most_common(1)
            raise HerdError(f"{place}: the piece {text!r} stands there twice")

    def _refuse_other_kinds(self, place: str) -> None:
        scores: dict[float, str] = {}
        for token, piece in enumerate(self.pieces):
            if piece.kind in (Kind.USER_DEFINED, Kind.UNUSED):
                raise HerdError(f"{place}: piece {token} ({piece.text!r}) is {piece.kind.name}, which is not read here")
            if piece.kind != Kind.NORMAL:
                continue
            if not piece.text or not math.isfinite(piece.score):
                raise HerdError(f"{place}: piece {token} ({piece.text!r}) is empty or its score is not finite")
            if len(piece.text) > 1 and (other := scores.setdefault(piece.score, piece.text)) != piece.text:
                raise HerdError(f"{place}: the pieces {other!r} and {piece.text!r} have one score, {piece.score}")

    def _refuse_unreachable(self, place: str) -> None:
        """Pieces of characters that are none, and pieces across words: text is encoded word by word."""
        known = set(self.characters)
        for text in self.joined:
            if missing := set(text) - known:
                raise HerdError(f"{place}: the piece {text!r} holds {min(missing)!r}, which is no piece")
            if SPACE in text.lstrip(SPACE):
                raise HerdError(f"{place}: the piece {text!r} reaches over the end of a word, which is not read here")

    def _special(self, name: str, place: str) -> int:
        if name not in self.special:
            raise HerdError(f"{place}: there is no control token {name}")
        return self.special[name]


def _is_special(piece: Piece) -> bool:
    return piece.kind in (Kind.UNKNOWN, Kind.CONTROL)
