"""The tokenizer's formats on disk, read and written so that other people's tools agree with ours on every id.

``tokenizer.model``       tiktoken ranks, one ``base64 rank`` a line; SentencePiece's are in ``piece_model``
``tokenizer.json``        the same for the ``tokenizers`` library; merges are derived from the ranks, see ``merges_of``
``tokenizer_config.json`` what ``transformers`` needs beside it, the chat template included
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, StrictInt, ValidationError

from herd.foundation.errors import HerdError
from herd.foundation.files import atomic_path, read_json, write_json, write_text
from herd.tokenizer import pieces, special
from herd.tokenizer.dialects import DIALECTS
from herd.tokenizer.piece_json import piece_json
from herd.tokenizer.pieces import PieceVocabulary

RANKS_FILE = "tokenizer.model"
JSON_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
MAP_FILE = "special_tokens_map.json"
DEFAULT_DIALECT = "herd"
_NAMED_DIALECT = re.compile(r'\{#- Herd, dialect "([^"]*)"')
_PUBLISHED_MARKS = ("builtin_tools", "Cutting Knowledge Date: December 2023", "Given the following functions")
"""What tells the template published with Llama 3.1 from others."""


_SPLIT = {"type": "Split", "pattern": {"Regex": special.SPLIT_PATTERN}, "behavior": "Isolated", "invert": False}
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
_STEPS: tuple[dict[str, Any], ...] = (_SPLIT, _BYTE_LEVEL)
"""What happens to a text before merging: the pattern's cuts, then bytes in their stand-in characters."""


def byte_characters() -> dict[int, str]:
    """The printable stand-in of every byte in byte-level vocabularies (the GPT-2 table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(others)}


_CHARACTER_OF = byte_characters()
_BYTE_OF = {character: byte for byte, character in _CHARACTER_OF.items()}


def token_text(token: bytes) -> str:
    """Token bytes in the stand-in characters of ``tokenizer.json``."""
    return "".join(_CHARACTER_OF[byte] for byte in token)


def token_bytes(text: str) -> bytes:
    """Inverse of ``token_text``; ``KeyError`` on a character that stands for no byte."""
    return bytes(_BYTE_OF[character] for character in text)


def check_ranks(ranks: Mapping[bytes, int], place: str) -> None:
    """``HerdError`` unless ids run from 0 without holes and every single byte has one."""
    if sorted(ranks.values()) != list(range(len(ranks))):
        taken = set(ranks.values())
        hole = next(rank for rank in range(len(ranks) + 1) if rank not in taken)
        raise HerdError(f"{place}: the ranks do not run from 0 to {len(ranks) - 1}; rank {hole} is missing")
    for byte in range(256):
        if bytes([byte]) not in ranks:
            raise HerdError(f"{place}: the byte 0x{byte:02X} has no rank, so not every text could be encoded")


def read(path: Path) -> tuple[dict[bytes, int], Sequence[str]]:
    """Ranks and names of control tokens from a directory or one of its files."""
    path = file_of(path)
    if path.suffix == ".json":
        return read_tokenizer_json(path)
    return read_ranks(path), special.SPECIAL_TOKENS


def file_of(path: Path) -> Path:
    """The file that a directory's tokenizer is read from, or ``path`` itself; ``HerdError`` if there is none."""
    if not path.is_dir():
        return path
    present = [path / name for name in (RANKS_FILE, JSON_FILE) if (path / name).is_file()]
    if not present:
        raise HerdError(f"{path}: holds neither {RANKS_FILE} nor {JSON_FILE}")
    return present[0]


def read_bytes(path: Path) -> bytes:
    """The bytes of one of the files; ``HerdError`` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise HerdError(f"{path}: not readable ({error.strerror})") from None


def read_ranks(path: Path) -> dict[bytes, int]:
    """Reads a tiktoken rank file; ``HerdError`` names the file and the line."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        if not line:
            continue
        try:
            encoded, rank = line.split()
            token = base64.b64decode(encoded, validate=True)
            value = int(rank)
        except (ValueError, binascii.Error):
            raise HerdError(f"{path}, line {number}: not a base64 token and its rank") from None
        if token in ranks:
            raise HerdError(f"{path}, line {number}: the token was already given rank {ranks[token]}")
        ranks[token] = value
    check_ranks(ranks, str(path))
    return ranks


class _Model(BaseModel):
    """The ``model`` of a ``tokenizer.json``, as far as it decides about ids."""

    type: str
    vocab: dict[str, StrictInt]
    merges: list[tuple[str, str] | str]


class _AddedToken(BaseModel):
    id: StrictInt
    content: str


class _TokenizerJson(BaseModel):
    """What a ``tokenizer.json`` must hold to be read; other keys decide nothing here."""

    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None
    model: _Model
    added_tokens: list[_AddedToken]


def read_tokenizer_json(path: Path) -> tuple[dict[bytes, int], Sequence[str]]:
    """Reads a byte-level ``tokenizer.json`` of the Llama 3 form; refuses other kinds, whose ids would differ."""
    try:
        data = _TokenizerJson.model_validate(read_json(path))
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise HerdError(f"{path}: not a tokenizer.json of the tokenizers library (at {place!r})") from None
    if data.model.type != "BPE" or data.normalizer is not None or not _is_llama_split(data.pre_tokenizer or {}):
        raise HerdError(f"{path}: not a byte-level BPE with the Llama 3 split pattern")
    added = sorted(data.added_tokens, key=lambda token: token.id)
    names = [token.content for token in added]
    try:
        ranks = {token_bytes(text): rank for text, rank in data.model.vocab.items() if text not in set(names)}
    except KeyError as error:
        raise HerdError(f"{path}: {error.args[0]!r} in the vocabulary stands for no byte") from None
    check_ranks(ranks, str(path))
    if [token.id for token in added] != list(range(len(ranks), len(ranks) + len(added))):
        raise HerdError(f"{path}: the control tokens do not follow the {len(ranks)} ranks without a hole")
    if len(set(names)) != len(names):
        raise HerdError(f"{path}: two control tokens have the same name")
    merges = [tuple(pair.split(" ")) if isinstance(pair, str) else pair for pair in data.model.merges]
    if merges != merges_of(ranks):
        raise HerdError(
            f"{path}: its merges are not those that its ranks give, so its ids would differ from tiktoken's"
        )
    return ranks, names


def _is_llama_split(pre_tokenizer: Mapping[str, Any]) -> bool:
    """Whether text is cut by the Llama 3 pattern, and turned into bytes with nothing put before it."""
    steps = pre_tokenizer.get("pretokenizers")
    if not isinstance(steps, list) or len(steps) != len(_STEPS):
        return False
    return all(
        isinstance(step, dict) and all(step.get(key) == wanted[key] for key in wanted if key != "trim_offsets")
        for step, wanted in zip(steps, _STEPS, strict=True)
    )


def merges_of(ranks: Mapping[bytes, int]) -> list[tuple[str, str]]:
    """The merge list that makes ``tokenizers`` merge as tiktoken does.

    tiktoken joins any two neighbours whose concatenation is a token, lowest rank first; a merge list joins only the
    pairs that it names. So every way to cut a token into two tokens is named, in the order of the tokens' ranks.
    """
    merges: list[tuple[str, str]] = []
    for token, _ in sorted(ranks.items(), key=lambda item: item[1]):
        pairs = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = [pair for pair in pairs if pair[0] in ranks and pair[1] in ranks]
        known.sort(key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
        merges += [(token_text(left), token_text(right)) for left, right in known]
    return merges


def read_dialect(path: Path) -> str:
    """The chat dialect of a tokenizer's directory, known by its chat template, which goes with it into every format.

    Herd's templates name theirs; other templates than the published one are taken for the house's own dialect.
    ``HerdError`` if one is named that does not exist.
    """
    directory = path if path.is_dir() else path.parent
    beside, config = directory / "chat_template.jinja", directory / CONFIG_FILE
    data = read_json(config) if config.is_file() else {}
    template = data.get("chat_template") if isinstance(data, dict) else None
    if beside.is_file():
        template = beside.read_text(encoding="utf-8", errors="replace")
    if not isinstance(template, str):
        return DEFAULT_DIALECT
    if named := _NAMED_DIALECT.match(template):
        if named[1] not in DIALECTS:
            raise HerdError(f"{directory}: there is no chat dialect {named[1]!r}; use {', '.join(DIALECTS)}")
        return named[1]
    return "huggingface" if all(mark in template for mark in _PUBLISHED_MARKS) else DEFAULT_DIALECT


def write_model(directory: Path, data: bytes) -> None:
    """Writes a ``tokenizer.model`` as it is."""
    directory.mkdir(parents=True, exist_ok=True)
    with atomic_path(directory / RANKS_FILE) as temporary:
        temporary.write_bytes(data)


def write_ranks(directory: Path, ranks: Mapping[bytes, int]) -> None:
    """Writes the rank file alone, as Meta's releases have it."""
    ordered = sorted(ranks.items(), key=lambda item: item[1])
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ordered)
    write_text(directory / RANKS_FILE, "".join(lines))


def write(directory: Path, ranks: Mapping[bytes, int], special_tokens: Sequence[str], dialect: str) -> None:
    """Writes all four files, each atomically."""
    write_ranks(directory, ranks)
    added = [_added_token(name, len(ranks) + index) for index, name in enumerate(special_tokens)]
    write_json(directory / JSON_FILE, tokenizer_json(ranks, added))
    names = {"bos_token": special.BEGIN_OF_TEXT, "eos_token": special.END_OF_TEXT, "pad_token": special.PAD}
    names = {role: name for role, name in names.items() if name in special_tokens}
    _write_settings(directory, added, names, {"chat_template": chat_template(dialect)})


def write_pieces(directory: Path, vocabulary: PieceVocabulary) -> None:
    """Writes what goes beside a SentencePiece ``tokenizer.model``, which has no chat template; each file atomically."""
    added = [_added_token(name, token) for name, token in vocabulary.special.items()]
    write_json(directory / JSON_FILE, piece_json(vocabulary, added))
    names = {"bos_token": pieces.BEGIN, "eos_token": pieces.END, "unk_token": pieces.UNKNOWN}
    _write_settings(directory, added, names, {"add_bos_token": True, "add_eos_token": False})


def _write_settings(
    directory: Path, added: Sequence[Mapping[str, Any]], names: Mapping[str, str], settings: Mapping[str, Any]
) -> None:
    """``special_tokens_map.json`` and ``tokenizer_config.json``."""
    write_json(directory / MAP_FILE, names)
    decoder = {str(token["id"]): {key: token[key] for key in token if key != "id"} for token in added}
    config = {
        "added_tokens_decoder": decoder,
        **names,
        **settings,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    write_json(directory / CONFIG_FILE, config)


def chat_template(dialect: str = DEFAULT_DIALECT) -> str:
    """The Jinja template that renders messages as ``ChatFormat`` does, for readers of ``tokenizer_config.json``."""
    file = "meta" if dialect == "meta-function-tags" else dialect
    source = package_files("herd.tokenizer").joinpath(f"templates/{file}.jinja").read_text(encoding="utf-8")
    constants = {
        "DIALECT": dialect,
        "SEARCH_TOOLS": DIALECTS[dialect].searches,
        "FUNCTION_TAGS": dialect == "meta-function-tags",
    }
    for name, value in constants.items():
        source = source.replace(name, json.dumps(value))
    return source


def _added_token(name: str, token_id: int) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": token_id, "content": name, **plain}


def tokenizer_json(ranks: Mapping[bytes, int], added: list[dict[str, Any]]) -> dict[str, Any]:
    """The contents of ``tokenizer.json`` for ranks and control tokens, these as the library describes them."""
    vocabulary = {token_text(token): rank for token, rank in sorted(ranks.items(), key=lambda item: item[1])}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(_STEPS)},
        "post_processor": _begin_processor(added),
        "decoder": {**_BYTE_LEVEL, "add_prefix_space": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": vocabulary,
            "merges": [list(pair) for pair in merges_of(ranks)],
        },
    }


def _begin_processor(added: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The step that puts one begin token before a plain text, as the published tokenizer does, if there is one."""
    begin = next((token for token in added if token["content"] == special.BEGIN_OF_TEXT), None)
    if begin is None:
        return None
    mark: dict[str, Any] = {"SpecialToken": {"id": special.BEGIN_OF_TEXT, "type_id": 0}}
    first: dict[str, Any] = {"Sequence": {"id": "A", "type_id": 0}}
    second_mark: dict[str, Any] = {"SpecialToken": {"id": special.BEGIN_OF_TEXT, "type_id": 1}}
    second: dict[str, Any] = {"Sequence": {"id": "B", "type_id": 1}}
    entry = {"id": special.BEGIN_OF_TEXT, "ids": [begin["id"]], "tokens": [special.BEGIN_OF_TEXT]}
    return {
        "type": "TemplateProcessing",
        "single": [mark, first],
        "pair": [mark, first, second_mark, second],
        "special_tokens": {special.BEGIN_OF_TEXT: entry},
    }
