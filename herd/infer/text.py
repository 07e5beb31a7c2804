"""Ids to text while they come: whole characters only, and nothing of a stop string ever."""

import codecs
from collections.abc import Sequence

from herd.tokenizer.tokenizer import Tokenizer


class TextStream:
    """Collects the text of one output; ``push`` returns what may be shown.

    Bytes wait until they make a character, and characters that could begin a stop string wait until they do not.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting = ""
        self._shown: list[str] = []
        self.stopped = False

    @property
    def text(self) -> str:
        """All text shown so far."""
        return "".join(self._shown)

    def push(self, token: int) -> str:
        """Takes one id; ``stopped`` is set when a stop string is complete, and nothing follows it."""
        return self._take(self._decoder.decode(self._tokenizer.decode_bytes([token])))

    def finish(self) -> str:
        """What still waited, once no more ids come; half a character becomes U+FFFD."""
        if self.stopped:
            return ""
        shown = self._take(self._decoder.decode(b"", final=True))
        if self.stopped:
            return shown
        rest, self._waiting = self._waiting, ""
        return shown + self._show(rest)

    def _take(self, characters: str) -> str:
        if self.stopped or not characters:
            return ""
        self._waiting += characters
        # The stop string that is complete first counts, however many characters came at once.
        found = [(place + len(stop), place) for stop in self._stop if (place := self._waiting.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._waiting = self._waiting[: min(found)[1]], ""
            return self._show(shown)
        held = max((_overlap(self._waiting, stop) for stop in self._stop), default=0)
        shown, self._waiting = self._waiting[: len(self._waiting) - held], self._waiting[len(self._waiting) - held :]
        return self._show(shown)

    def _show(self, characters: str) -> str:
        if characters:
            self._shown.append(characters)
        return characters


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that is a true beginning of ``stop``."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
