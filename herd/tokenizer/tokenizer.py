"""The tokenizer: text to ids and back, exactly as the reference does it.

    tokenizer = Tokenizer.load("runs/pocket/tokenizer")      # or a tokenizer.model, or a tokenizer.json
    ids = tokenizer.encode("Hello!")                         # special strings in the text stay plain text
    text = tokenizer.decode(ids)

The merging itself is tiktoken's (native code); this module adds the 256 control tokens, the reference's limits on long
texts and long runs, and errors that say what is wrong.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import tiktoken

from herd.foundation.errors import HerdError
from herd.tokenizer import files, special
from herd.tokenizer.dialects import dialect_of
from herd.tokenizer.fast import FastEncoder

_CHUNK_CHARACTERS = 400_000
"""Longest text handed to the native encoder at once (fact sheet 3.4)."""
_RUN_CHARACTERS = 25_000
"""Longest run of only whitespace, or only other characters; longer ones are cut (fact sheet 3.4)."""

_MUCH_TEXT = 350
"""Characters for each rank after which the fast encoder is made: its making takes as long as it then saves."""

_SPACE = re.compile(r"\s")
_OTHER = re.compile(r"\S")
_RUN = re.compile(r"\s+|\S+")


def _may_hold_long_run(text: str) -> bool:
    """Whether a run above the limit is possible: such a run covers at least one aligned block of half its length."""
    half = _RUN_CHARACTERS // 2
    for start in range(0, len(text) - half + 1, half):
        end = start + half
        if not _SPACE.search(text, start, end) or not _OTHER.search(text, start, end):
            return True
    return False


def split_for_encoding(text: str) -> Iterator[str]:
    """Cuts ``text`` as the reference does: every 400,000 characters, and every 25,000 within one run of a kind."""
    for start in range(0, len(text), _CHUNK_CHARACTERS):
        chunk = text[start : start + _CHUNK_CHARACTERS]
        if not _may_hold_long_run(chunk):
            yield chunk
            continue
        begin = 0
        for run in _RUN.finditer(chunk):
            for cut in range(run.start() + _RUN_CHARACTERS, run.end(), _RUN_CHARACTERS):
                yield chunk[begin:cut]
                begin = cut
        yield chunk[begin:]


class Tokenizer:
    """Byte-level BPE over ``ranks`` (token bytes to id, ids 0..n-1) with control tokens at n and above."""

    def __init__(
        self,
        ranks: Mapping[bytes, int],
        special_tokens: Sequence[str] = special.SPECIAL_TOKENS,
        dialect: str = files.DEFAULT_DIALECT,
    ) -> None:
        """``dialect`` names the chat format of its models (``dialects``).

        Raises ``HerdError`` if the ranks have holes or lack one of the 256 bytes, or if there is no such dialect.
        """
        files.check_ranks(ranks, "the ranks")
        dialect_of(dialect)
        self._ranks = dict(ranks)
        self._characters = 0
        self.dialect = dialect
        self.special: dict[str, int] = {name: len(ranks) + index for index, name in enumerate(special_tokens)}
        self._encoding = tiktoken.Encoding(
            name="herd",
            pat_str=special.SPLIT_PATTERN,
            mergeable_ranks=self._ranks,
            special_tokens=self.special,
            explicit_n_vocab=len(ranks) + len(self.special),
        )

    @classmethod
    def load(cls, path: Path | str) -> "Tokenizer":
        """Reads a directory, a ``tokenizer.model`` or a ``tokenizer.json``, of Llama 3's form or of Llama 2's."""
        from herd.tokenizer.sentencepiece import SentencePieceTokenizer, find_pieces  # which is made of this class

        if (vocabulary := find_pieces(Path(path))) is not None:
            return SentencePieceTokenizer(vocabulary)
        ranks, special_tokens = files.read(Path(path))
        return cls(ranks, special_tokens, files.read_dialect(Path(path)))

    def save(self, directory: Path | str) -> None:
        """Writes ``tokenizer.model``, ``tokenizer.json``, ``tokenizer_config.json`` and ``special_tokens_map.json``."""
        files.write(Path(directory), self.ranks, tuple(self.special), self.dialect)

    def save_model(self, directory: Path | str) -> None:
        """Writes ``tokenizer.model`` alone, as Meta's releases have it."""
        files.write_ranks(Path(directory), self.ranks)

    @property
    def model_says_all(self) -> bool:
        """Whether ``tokenizer.model`` alone gives this tokenizer again: ranks do so if the control tokens are 3.1's."""
        return tuple(self.special) == special.SPECIAL_TOKENS

    @property
    def ranks(self) -> dict[bytes, int]:
        """The bytes of every ordinary token to its id."""
        return self._ranks

    @property
    def vocab_size(self) -> int:
        """Number of ids, control tokens included."""
        return len(self.ranks) + len(self.special)

    def special_id(self, name: str) -> int:
        """The id of a control token; ``HerdError`` if this vocabulary lacks it."""
        try:
            return self.special[name]
        except KeyError:
            raise HerdError(f"this tokenizer has no control token {name}") from None

    @property
    def bos_id(self) -> int:
        """``<|begin_of_text|>``."""
        return self.special_id(special.BEGIN_OF_TEXT)

    @property
    def eos_id(self) -> int:
        """``<|end_of_text|>``, the end of a document."""
        return self.special_id(special.END_OF_TEXT)

    @property
    def eot_id(self) -> int:
        """``<|eot_id|>``, the end of a turn."""
        return self.special_id(special.END_OF_TURN)

    @property
    def eom_id(self) -> int:
        """``<|eom_id|>``, the end of a message that waits for a tool."""
        return self.special_id(special.END_OF_MESSAGE)

    @property
    def pad_id(self) -> int:
        """``<|finetune_right_pad_id|>``."""
        return self.special_id(special.PAD)

    @property
    def python_tag_id(self) -> int:
        """``<|python_tag|>``, the start of a tool call."""
        return self.special_id(special.PYTHON_TAG)

    @property
    def start_header_id(self) -> int:
        """``<|start_header_id|>``."""
        return self.special_id(special.START_HEADER)

    @property
    def end_header_id(self) -> int:
        """``<|end_header_id|>``."""
        return self.special_id(special.END_HEADER)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The ids that end a generation: end of text, of message, of turn. The only list of them in Herd."""
        return (self.eos_id, self.eom_id, self.eot_id)

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """Ids of ``text``; names of control tokens in it become control tokens only with ``allow_special``."""
        check_text(text)
        encode = self._encoding.encode_ordinary
        if allow_special:
            encode = partial(self._encoding.encode, allowed_special=set(self.special), disallowed_special=())
        if _is_short(text):
            return encode(text)
        return [token for part in split_for_encoding(text) for token in encode(part)]

    def encode_array(self, text: str) -> np.ndarray:
        """Ids of ``text`` as plain text, as a ``uint32`` array: the form for long documents."""
        check_text(text)
        return _joined([self._encoding.encode_to_numpy(part, disallowed_special=()) for part in _parts(text)])

    def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        """``encode_array`` of every text, for much text: by ``fast.FastEncoder`` where that is installed.

        It is made once so much text has come that making it pays; the ids are the same before and after.
        """
        self._characters += sum(map(len, texts))
        fast = self._fast if self._characters >= _MUCH_TEXT * len(self.ranks) else None
        if fast is None:
            return [self.encode_array(text) for text in texts]
        parts = [_parts(text) if fast.knows(text) else () for text in texts]
        ids = iter(fast.encode([part for of_text in parts for part in of_text]))
        return [
            _joined([next(ids) for _ in of_text]) if of_text else self.encode_array(text)
            for text, of_text in zip(texts, parts, strict=True)
        ]

    @cached_property
    def _fast(self) -> FastEncoder | None:
        return FastEncoder.of(self.ranks)

    def encode_continuation(self, text: str) -> list[int]:
        """Ids of plain text that goes on from other text; only SentencePiece begins a text in its own way."""
        return self.encode(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of every text, as plain text."""
        return [self.encode(text) for text in texts]

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes of ``ids``; ``HerdError`` names an id outside the vocabulary."""
        tokens = [int(token) for token in ids]
        try:
            return self._encoding.decode_bytes(tokens)
        except (KeyError, OverflowError):
            outside = next(token for token in tokens if not 0 <= token < self.vocab_size)
            raise HerdError(f"token id {outside} is outside the vocabulary of {self.vocab_size}") from None

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        """The text of ``ids``; bytes that are not UTF-8 become U+FFFD. ``skip_special`` leaves control tokens out."""
        if skip_special:
            ids = [token for token in ids if token < len(self.ranks)]
        return self.decode_bytes(ids).decode("utf-8", errors="replace")


def _parts(text: str) -> Sequence[str]:
    """The cuts of ``text``, at least one."""
    return (text,) if _is_short(text) else tuple(split_for_encoding(text))


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _is_short(text: str) -> bool:
    """Whether no limit of the reference can cut ``text``; most texts are, and need no look at their runs."""
    return len(text) <= _RUN_CHARACTERS


def check_text(text: str) -> None:
    """``HerdError`` if ``text`` cannot be written as UTF-8; the native encoder would put U+FFFD there in silence."""
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError as error:
        surrogate = ord(text[error.start])
        raise HerdError(f"the text holds a lone surrogate (U+{surrogate:04X}) at character {error.start}") from None
