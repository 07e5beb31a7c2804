"""Tokenizer and chat template as GGUF's metadata, and back.

GGUF keeps a byte-level BPE as a list of tokens in the stand-in characters of ``tokenizer.json``, a list of their kinds
and a list of merges; the pattern that cuts the text is known by a name, ``llama-bpe``.  SentencePiece's vocabularies
are in ``piece_vocabulary``.
"""

from typing import Any

import numpy as np

from herd.formats.gguf import piece_vocabulary
from herd.formats.gguf.container import GgufFile, Value
from herd.formats.tensors import SourceTokenizer
from herd.foundation.errors import HerdError
from herd.tokenizer import special
from herd.tokenizer.files import check_ranks, merges_of, token_bytes, token_text
from herd.tokenizer.sentencepiece import SentencePieceTokenizer
from herd.tokenizer.tokenizer import Tokenizer

_PREFIX = "tokenizer.ggml."
_TEMPLATE = "tokenizer.chat_template"
_MODEL, _SPLIT = "gpt2", "llama-bpe"
_SPLIT_NAMES = (_SPLIT, "llama3", "llama-v3")
_NO_MODELS = ("none", "no_vocab")
_NORMAL, _CONTROL = 1, 3
_ROLES = {
    "bos_token_id": special.BEGIN_OF_TEXT,
    "eos_token_id": special.END_OF_TEXT,
    "eot_token_id": special.END_OF_TURN,
    "eom_token_id": special.END_OF_MESSAGE,
    "padding_token_id": special.PAD,
}


def describe_tokenizer(tokenizer: Tokenizer | None, chat_template: str | None) -> dict[str, Value]:
    """The metadata of a tokenizer; without one, that there is none, which other readers want to be told."""
    if tokenizer is None:
        return {f"{_PREFIX}model": _NO_MODELS[0]}
    if isinstance(tokenizer, SentencePieceTokenizer):
        metadata = piece_vocabulary.describe_pieces(tokenizer.vocabulary)
    else:
        metadata = _describe_ranks(tokenizer)
    return metadata if chat_template is None else metadata | {_TEMPLATE: chat_template}


def _describe_ranks(tokenizer: Tokenizer) -> dict[str, Value]:
    ordered = sorted(tokenizer.ranks, key=tokenizer.ranks.__getitem__)
    kinds = [_NORMAL] * len(ordered) + [_CONTROL] * len(tokenizer.special)
    metadata: dict[str, Value] = {
        "model": _MODEL,
        "pre": _SPLIT,
        "tokens": [*map(token_text, ordered), *tokenizer.special],
        "token_type": np.array(kinds, dtype=np.int32),
        "merges": [f"{left} {right}" for left, right in merges_of(tokenizer.ranks)],
        "add_bos_token": True,
    }
    metadata |= {role: tokenizer.special[name] for role, name in _ROLES.items() if name in tokenizer.special}
    return {_PREFIX + key: value for key, value in metadata.items()}


def find_tokenizer(file: GgufFile) -> SourceTokenizer | None:
    """The tokenizer of a file, None where it has none; its kind is checked when it is loaded."""
    if file.get(f"{_PREFIX}model", str, _NO_MODELS[0]) in _NO_MODELS:
        return None
    template = file.get(_TEMPLATE, str) if _TEMPLATE in file.metadata else None
    return SourceTokenizer(lambda: read_tokenizer(file), template)


def find_token_ids(file: GgufFile) -> dict[str, Any]:
    """The ids of control tokens by the names of a Hugging Face configuration; of several ends all."""
    ids = {role: file.get(_PREFIX + role, int) for role in _ROLES if _PREFIX + role in file.metadata}
    ends = list(dict.fromkeys(ids[role] for role in ("eos_token_id", "eom_token_id", "eot_token_id") if role in ids))
    found: dict[str, Any] = {"eos_token_id": ends if len(ends) > 1 else ends[0]} if ends else {}
    names = {"bos_token_id": "bos_token_id", "padding_token_id": "pad_token_id"}
    return found | {name: ids[role] for role, name in names.items() if role in ids}


def read_tokenizer(file: GgufFile) -> Tokenizer:
    """The tokenizer in a file's metadata; ``HerdError`` where it is of another kind or contradicts itself."""
    model, split = file.get(f"{_PREFIX}model", str), file.get(f"{_PREFIX}pre", str, "default")
    if model == piece_vocabulary.MODEL:
        return piece_vocabulary.read_pieces(file)
    if model != _MODEL or split not in _SPLIT_NAMES:
        raise HerdError(
            f"{file.path}: the tokenizer is of the kind {model!r} / {split!r}, only Llama 3's and 2's are read"
        )
    tokens, kinds = file.get(f"{_PREFIX}tokens", list), file.get(f"{_PREFIX}token_type", np.ndarray)
    if len(tokens) != len(kinds):
        raise HerdError(f"{file.path}: {len(tokens)} tokens in {_PREFIX}tokens, {len(kinds)} in {_PREFIX}token_type")
    controls = np.flatnonzero(kinds != _NORMAL)
    count = int(controls[0]) if len(controls) else len(tokens)
    names = tokens[count:]
    if (kinds[count:] == _NORMAL).any() or len(set(names)) < len(names):
        raise HerdError(f"{file.path}: the control tokens in {_PREFIX}tokens are not distinct, or not all at its end")
    try:
        ranks = {token_bytes(token): rank for rank, token in enumerate(tokens[:count])}
    except KeyError as error:
        raise HerdError(f"{file.path}: {error.args[0]!r} in {_PREFIX}tokens stands for no byte") from None
    check_ranks(ranks, f"{file.path}: {_PREFIX}tokens")
    merges = {f"{left} {right}" for left, right in merges_of(ranks)}
    if merges != set(file.get(f"{_PREFIX}merges", list)):
        raise HerdError(f"{file.path}: {_PREFIX}merges are not those of the tokens' order, so that ids would differ")
    return Tokenizer(ranks, names)
