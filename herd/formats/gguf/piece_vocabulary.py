"""A SentencePiece vocabulary, as Llama 2 has it, as GGUF's metadata, and back: pieces, their scores and their kinds."""

import numpy as np

from herd.formats.gguf.container import GgufFile, Value
from herd.foundation.errors import HerdError
from herd.tokenizer.pieces import Kind, Piece, PieceVocabulary
from herd.tokenizer.sentencepiece import SentencePieceTokenizer

MODEL = "llama"
_PREFIX = "tokenizer.ggml."
_FIXED = {"add_space_prefix": True, "remove_extra_whitespaces": False}


def describe_pieces(vocabulary: PieceVocabulary) -> dict[str, Value]:
    """The metadata of a vocabulary."""
    pieces = vocabulary.pieces
    metadata: dict[str, Value] = {
        "model": MODEL,
        "pre": "default",
        "tokens": [piece.text for piece in pieces],
        "scores": np.array([piece.score for piece in pieces], dtype=np.float32),
        "token_type": np.array([piece.kind for piece in pieces], dtype=np.int32),
        "unknown_token_id": vocabulary.unknown,
        "bos_token_id": vocabulary.begin,
        "eos_token_id": vocabulary.end,
        "add_bos_token": True,
        "add_eos_token": False,
        **_FIXED,
    }
    return {_PREFIX + key: value for key, value in metadata.items()}


def read_pieces(file: GgufFile) -> SentencePieceTokenizer:
    """The tokenizer in a file's metadata; ``HerdError`` where it is of another kind or contradicts itself."""
    for key, wanted in _FIXED.items():
        if file.get(_PREFIX + key, bool, wanted) is not wanted:
            raise HerdError(f"{file.path}: {_PREFIX}{key} is {not wanted}, Llama 2's tokenizers have {wanted}")
    tokens = file.get(f"{_PREFIX}tokens", list)
    scores, kinds = (file.get(_PREFIX + key, np.ndarray) for key in ("scores", "token_type"))
    if not len(tokens) == len(scores) == len(kinds):
        counts = f"{len(scores)} scores and {len(kinds)} kinds"
        raise HerdError(f"{file.path}: there are {len(tokens)} tokens in {_PREFIX}tokens, but {counts}")
    place = f"{file.path}: {_PREFIX}tokens"
    try:
        rows = zip(tokens, scores.tolist(), kinds.tolist(), strict=True)
        return SentencePieceTokenizer(PieceVocabulary([Piece(text, s, Kind(kind)) for text, s, kind in rows], place))
    except ValueError as error:
        raise HerdError(f"{file.path}: {_PREFIX}token_type holds a kind that does not exist ({error})") from None
