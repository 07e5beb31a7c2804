"""``tokenizer.json`` of a SentencePiece vocabulary, as the ``tokenizers`` library has it, both ways.

The library knows merges instead of scores: pairs of pieces in the order in which they are joined.  Every pair that
spells a piece is named, so that it joins what SentencePiece does; the scores are found again from the order.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, StrictBool, StrictInt, ValidationError

from herd.foundation.errors import HerdError
from herd.foundation.files import read_json
from herd.tokenizer.pieces import BEGIN, SPACE, UNKNOWN, Kind, Piece, PieceVocabulary, byte_piece

_PREPEND = {"type": "Prepend", "prepend": SPACE}
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_FALLS_BACK = re.compile(rb'"byte_fallback"\s*:\s*true')
_BYTE_NAMES = {byte_piece(byte) for byte in range(256)}


class _Model(BaseModel):
    type: str
    vocab: dict[str, StrictInt]
    merges: list[tuple[str, str] | str]
    byte_fallback: StrictBool


class _AddedToken(BaseModel):
    id: StrictInt
    content: str


class _PieceJson(BaseModel):
    """What decides about ids."""

    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    model: _Model
    added_tokens: list[_AddedToken]


def is_piece_json(data: bytes) -> bool:
    """Whether a ``tokenizer.json`` falls back to bytes, as SentencePiece's do; a look at it, without reading it all."""
    return _FALLS_BACK.search(data) is not None


def read_piece_json(path: Path) -> PieceVocabulary:
    """Reads a file; one that would give other ids than SentencePiece is a ``HerdError`` with the reason."""
    try:
        data = _PieceJson.model_validate(read_json(path))
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise HerdError(f"{path}: not a tokenizer.json of the tokenizers library (at {place!r})") from None
    if data.model.type != "BPE" or not data.model.byte_fallback or not _puts_spaces(data):
        raise HerdError(f"{path}: not a BPE with byte fall-back whose spaces are as in Llama 2")
    special = {token.content for token in data.added_tokens}
    ids = data.model.vocab | {token.content: token.id for token in data.added_tokens}
    texts = sorted(ids, key=ids.__getitem__)
    if [ids[text] for text in texts] != list(range(len(texts))):
        raise HerdError(f"{path}: the ids of its pieces do not run from 0 to {len(texts) - 1}")
    merges = [tuple(pair.split(" ")) if isinstance(pair, str) else pair for pair in data.model.merges]
    order = list(dict.fromkeys("".join(pair) for pair in merges))
    characters = [text for text in texts if len(text) == 1 and text not in special]
    scores = {text: -float(place) for place, text in enumerate([*order, *characters])}
    vocabulary = PieceVocabulary([_piece(text, scores, special, str(path)) for text in texts], str(path))
    if sorted(merges) != sorted(merges_of_pieces(vocabulary)) or order != vocabulary.joined:
        raise HerdError(f"{path}: its merges are not those that its pieces give, so its ids would differ")
    return vocabulary


def _puts_spaces(data: _PieceJson) -> bool:
    """Whether a space is put before a text and all spaces become U+2581, in either of the two ways of writing it."""
    before = data.pre_tokenizer
    if before is None:
        return data.normalizer == {"type": "Sequence", "normalizers": [_PREPEND, _REPLACE]}
    return (
        data.normalizer is None
        and before.get("type") == "Metaspace"
        and before.get("replacement") == SPACE
        and before.get("prepend_scheme", "always") != "never"
        and before.get("split", True) is False
    )


def _piece(text: str, scores: Mapping[str, float], special: set[str], place: str) -> Piece:
    if text in special:
        return Piece(text, 0.0, Kind.UNKNOWN if text == UNKNOWN else Kind.CONTROL)
    if text in _BYTE_NAMES:
        return Piece(text, 0.0, Kind.BYTE)
    if text not in scores:
        raise HerdError(f"{place}: the piece {text!r} is made by no merge")
    return Piece(text, scores[text], Kind.NORMAL)


def merges_of_pieces(vocabulary: PieceVocabulary) -> list[tuple[str, str]]:
    """Every way to cut a piece into two pieces, those of a higher score first, longer left parts first."""
    ids, parts = vocabulary.ids, {*vocabulary.characters, *vocabulary.joined}
    merges: list[tuple[str, str]] = []
    for text in vocabulary.joined:
        pairs = ((text[:cut], text[cut:]) for cut in range(len(text) - 1, 0, -1))
        merges += [(left, right) for left, right in pairs if left in parts and right in parts]
    assert all(left in ids and right in ids for left, right in merges)
    return merges


def piece_json(vocabulary: PieceVocabulary, added: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The contents of ``tokenizer.json``; ``added`` are the control tokens as the library describes them."""
    begin = {"SpecialToken": {"id": BEGIN, "type_id": 0}}
    second = {"SpecialToken": {"id": BEGIN, "type_id": 1}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added),
        "normalizer": {"type": "Sequence", "normalizers": [_PREPEND, _REPLACE]},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [begin, {"Sequence": {"id": "A", "type_id": 0}}, second, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {BEGIN: {"id": BEGIN, "ids": [vocabulary.begin], "tokens": [BEGIN]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": UNKNOWN,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary.ids,
            "merges": [list(pair) for pair in merges_of_pieces(vocabulary)],
        },
    }
