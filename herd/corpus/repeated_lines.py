"""Cuts what a text keeps saying, line by line, as logs do, before its repetitions are judged.

text, lines_cut = remove_repeated_lines(View(text, "general", HeuristicsConfig()))
"""

import numpy as np

from herd.corpus.repeats import covered
from herd.corpus.rules import View
from herd.corpus.words import Hashes, hash_ngrams, hash_words, split_words

_NUMBER = hash_words(["0"])


def remove_repeated_lines(view: View) -> tuple[str, int]:
    """Cuts lines whose words lie in n-grams that keep coming back, as logs do; returns the text and the number cut.

    Numbers are all alike here, so that time stamps and counters do not hide a repetition; only what came a few lines
    ago counts, so that parameters which many functions share stay with each.  The first copies stay, and a line needs
    words to be judged: tables of numbers, formulas and brackets are left alone.
    """
    text, config = view.text, view.config
    grams = hash_ngrams(np.where(view.numbers, _NUMBER, view.hashes), config.repeated_line_ngram)
    if not _any_returns(grams, config.repeated_line_times):
        return text, 0
    again = _returns_soon(grams, config.repeated_line_times, config.repeated_line_reach)
    if not again.any():
        return text, 0
    edges = np.concatenate([[0], np.cumsum(covered(again, config.repeated_line_ngram))])
    kept, position, lines = [], 0, text.split("\n")
    for line in lines:
        found = split_words(line)
        share = (edges[position + len(found)] - edges[position]) / max(len(found), 1)
        position += len(found)
        enough = sum(not word.isdigit() for word in found) >= config.repeated_line_ngram // 2
        if not (enough and share >= config.repeated_line_share):
            kept.append(line)
    return "\n".join(kept), len(lines) - len(kept)


def _any_returns(grams: Hashes, times: int) -> bool:
    """Whether any n-gram occurs ``times`` times or more, which in nearly all texts none does."""
    ranked = np.sort(grams)
    return bool((ranked[times - 1 :] == ranked[: len(ranked) - times + 1]).any()) if len(grams) >= times else False


def _returns_soon(grams: Hashes, times: int, reach: int) -> np.ndarray:
    """Marks n-grams that occur ``times`` times or more, where the one before is at most ``reach`` words away."""
    order = np.argsort(grams, kind="stable")
    ranked = grams[order]
    same = np.concatenate([[False], ranked[1:] == ranked[:-1]])
    soon = np.zeros(len(grams), dtype=np.int64)
    soon[1:] = same[1:] & (np.diff(order) <= reach)
    starts = np.flatnonzero(~same)
    counts = np.diff(np.concatenate([starts, [len(grams)]]))
    soon *= np.repeat(counts >= times, counts)
    marks = np.zeros(len(grams), dtype=np.int64)
    marks[order] = soon
    return marks
