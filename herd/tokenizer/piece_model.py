"""SentencePiece's ``tokenizer.model``: a protocol buffer of pieces, scores and settings, read and written.

    vocabulary = parse_piece_model(file.read_bytes(), str(file))
    data = piece_model_bytes(vocabulary)

Of the message's many fields only those that decide about ids are looked at; a setting that Llama 2 does not have, and
with which ids would differ (a normaliser, another algorithm), is refused by its name.
"""

import re
import struct
from collections.abc import Iterator

from herd.foundation.errors import HerdError
from herd.tokenizer.pieces import Kind, Piece, PieceVocabulary

_BEGINNING = re.compile(rb"\n.\n.<unk>", re.DOTALL)
"""A message that holds a message that holds the first piece."""

# Numbers of the fields, by their message.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_TEXT, _SCORE, _KIND = 1, 2, 3
_MODEL_TYPE, _VOCAB_SIZE, _SPACE_AS_SUFFIX, _BYTE_FALLBACK, _UNKNOWN_SURFACE = 3, 4, 24, 35, 44
_NAME, _CHARACTER_MAP, _DUMMY_PREFIX, _REMOVE_SPACES, _ESCAPE_SPACES = 1, 2, 3, 4, 5
_BPE = 2
_VARINT, _LONG, _BYTES, _SHORT = 0, 1, 2, 5
UNKNOWN_SURFACE = " \u2047 "
"""How the unknown token is shown."""

_Field = tuple[int, int | bytes]


def is_piece_model(data: bytes) -> bool:
    """Whether a ``tokenizer.model`` is SentencePiece's and not a list of ranks."""
    return _BEGINNING.match(data) is not None


def parse_piece_model(data: bytes, place: str) -> PieceVocabulary:
    """The vocabulary in a model's bytes; ``HerdError`` where they are cut off, or say what is not done here."""
    try:
        fields = list(_fields(data))
        pieces = [_piece(value) for number, value in fields if number == _PIECES and isinstance(value, bytes)]
        trainer = _last_values(fields, _TRAINER)
        normalizer = _last_values(fields, _NORMALIZER)
    except (IndexError, struct.error, UnicodeDecodeError, ValueError):
        raise HerdError(f"{place}: is not a whole SentencePiece model; it may be cut off") from None
    for wrong, what in (
        (trainer.get(_MODEL_TYPE, 1) != _BPE, "is no BPE model"),
        (not trainer.get(_BYTE_FALLBACK, 0), "has no byte fall-back"),
        (trainer.get(_SPACE_AS_SUFFIX, 0), "puts spaces at the ends of words"),
        (normalizer.get(_CHARACTER_MAP, b""), f"normalises text ({_text(normalizer.get(_NAME, b''))})"),
        (not normalizer.get(_DUMMY_PREFIX, 1), "puts no space before a text"),
        (normalizer.get(_REMOVE_SPACES, 1), "removes spaces"),
        (not normalizer.get(_ESCAPE_SPACES, 1), "leaves spaces as they are"),
    ):
        if wrong:
            raise HerdError(f"{place}: {what}, only SentencePiece models as Llama 2 has them are read")
    return PieceVocabulary(pieces, place, data)


def piece_model_bytes(vocabulary: PieceVocabulary) -> bytes:
    """The model file of a vocabulary, with Llama 2's settings."""
    trainer = (
        _number(_MODEL_TYPE, _BPE)
        + _number(_VOCAB_SIZE, len(vocabulary.pieces))
        + _number(_BYTE_FALLBACK, 1)
        + _bytes(_UNKNOWN_SURFACE, UNKNOWN_SURFACE.encode())
    )
    normalizer = _bytes(_NAME, b"identity") + b"".join(
        _number(field, value) for field, value in ((_DUMMY_PREFIX, 1), (_REMOVE_SPACES, 0), (_ESCAPE_SPACES, 1))
    )
    pieces = b"".join(_bytes(_PIECES, _piece_bytes(piece)) for piece in vocabulary.pieces)
    return pieces + _bytes(_TRAINER, trainer) + _bytes(_NORMALIZER, normalizer)


def _fields(data: bytes) -> Iterator[_Field]:
    """Number and value of every field of a message; ``IndexError`` or ``struct.error`` where it is cut off."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, form = tag >> 3, tag & 7
        if form == _VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        length = {_LONG: 8, _SHORT: 4}.get(form)
        if form == _BYTES:
            length, place = _varint(data, place)
        if length is None:
            raise ValueError(f"a field of the unknown form {form}")
        if place + length > len(data):
            raise IndexError("a field that reaches beyond the end")
        yield number, data[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and the place after it."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def _last_values(fields: list[_Field], message: int) -> dict[int, int | bytes]:
    """The fields of the last sub-message ``message``; of a field that is repeated, the last value."""
    found = [value for number, value in fields if number == message and isinstance(value, bytes)]
    return dict(_fields(found[-1])) if found else {}


def _piece(data: bytes) -> Piece:
    values = dict(_fields(data))
    score = values.get(_SCORE, bytes(4))
    kind = values.get(_KIND, Kind.NORMAL)
    if not isinstance(score, bytes) or not isinstance(kind, int):
        raise ValueError("a piece whose fields have other forms")
    return Piece(_text(values.get(_TEXT, b"")), struct.unpack("<f", score)[0], Kind(kind))


def _text(value: int | bytes) -> str:
    if not isinstance(value, bytes):
        raise ValueError("a text that is a number")
    return value.decode("utf-8")


def _piece_bytes(piece: Piece) -> bytes:
    score = _tag(_SCORE, _SHORT) + struct.pack("<f", piece.score)
    return _bytes(_TEXT, piece.text.encode()) + score + _number(_KIND, piece.kind)


def _tag(number: int, form: int) -> bytes:
    return _varint_bytes(number << 3 | form)


def _number(number: int, value: int) -> bytes:
    return _tag(number, _VARINT) + _varint_bytes(value)


def _bytes(number: int, value: bytes) -> bytes:
    return _tag(number, _BYTES) + _varint_bytes(len(value)) + value


def _varint_bytes(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
