"""The page rules of Gopher, C4 and FineWeb with their published limits, by name, for recipes that ask for them.

    heuristics: {published: {gopher: reject, c4: measure}}

"measure" stores each rule's value with every document and rejects nothing, so that ``herd what-if`` can tell beforehand
what it would.  Gopher: Rae et al. 2021, appendix A.1.1; C4: Raffel et al. 2020, section 2.2; FineWeb: Penedo et al.
2024, section 3.6.  They were made for web prose: as with Herd's own rules, source code is measured but never rejected.

C4 also edits pages, keeping only lines that end a sentence; here its rules are judged on those lines, and no line goes.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from herd.corpus.rules import DIRTY_WORDS, Between, DuplicateNgrams, RuleSet, TopNgram, Use, View, repeated, share

Measure = Callable[[View], float]

_ANY = float("inf")
_SMALL_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
_BULLETS = ("•", "‣", "▶", "◀", "◦", "■", "□", "▪", "▫", "–", "-", "*", "+")
_ELLIPSES = ("...", "…")
_C4_ENDS = (".", "!", "?", '"', "”")
_C4_POLICIES = re.compile(
    r"javascript|terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies", re.IGNORECASE
)
_FINEWEB_ENDS = (".", "!", "?", '"', "'", "”", "’", "…", "。", "！", "？", "।", "…")
_SENTENCE_END = re.compile(r"[.!?。！？।]+[\"”')\]]*(?=\s|$)")
_PARAGRAPHS = re.compile(r"\n{2,}")


@dataclass(frozen=True)
class Measured(Between):
    """A published rule: ``measure`` gives its value; where it is not ``enforced``, nothing is rejected."""

    measure: Measure = field(kw_only=True)
    enforced: bool = field(kw_only=True)

    def value(self, view: View) -> float:
        """What the rule measures."""
        return self.measure(view)

    def reject(self, value: float, view: View) -> str | None:
        """Out of the published bounds is a reason, if the recipe wants it to be one."""
        return super().reject(value, view) if self.enforced else None


def _ellipses(view: View) -> float:
    return share(sum(view.text.count(sign) for sign in _ELLIPSES), view.tokens[0])


def _lines(view: View, test: Callable[[str, tuple[str, ...]], bool], signs: tuple[str, ...]) -> float:
    """The share of lines that begin or end with one of ``signs``."""
    return share(sum(test(line, signs) for line in view.lines), len(view.lines))


def _paragraphs(view: View) -> tuple[float, float]:
    return repeated([part for text in _PARAGRAPHS.split(view.text) if (part := text.strip())])


def _c4_sentences(view: View) -> float:
    """Sentences in the lines that C4 keeps: five words or more, ended as a sentence, no notice of a site."""
    kept = [line for line in view.lines if line.endswith(_C4_ENDS) and not line.endswith(_ELLIPSES)]
    kept = [line for line in kept if len(line.split()) >= 5 and not _C4_POLICIES.search(line)]
    return sum(len(_SENTENCE_END.findall(line)) for line in kept)


def _short_lines(view: View) -> float:
    return share(sum(len(line) <= 30 for line in view.lines), len(view.lines))


def _again(n: int, limit: float) -> tuple[str, float, float, Measure]:
    return f"gopher_duplicate_{n}gram", -_ANY, limit, DuplicateNgrams("", limit, n).value


def _top(n: int, limit: float) -> tuple[str, float, float, Measure]:
    return f"gopher_top_{n}gram", -_ANY, limit, TopNgram("", limit, n).value


# Name, least and greatest value, and what gives it.
_RULES: dict[RuleSet, tuple[tuple[str, float, float, Measure], ...]] = {
    "gopher": (
        ("gopher_words", 50, 100_000, lambda view: view.tokens[0]),
        ("gopher_mean_word_length", 3, 10, lambda view: share(view.solid, view.tokens[0])),
        ("gopher_hashes", -_ANY, 0.1, lambda view: share(view.text.count("#"), view.tokens[0])),
        ("gopher_ellipses", -_ANY, 0.1, _ellipses),
        ("gopher_bullet_lines", -_ANY, 0.9, lambda view: _lines(view, str.startswith, _BULLETS)),
        ("gopher_ellipsis_lines", -_ANY, 0.3, lambda view: _lines(view, str.endswith, _ELLIPSES)),
        ("gopher_alphabetic", 0.8, _ANY, lambda view: share(view.tokens[1], view.tokens[0])),
        ("gopher_small_words", 2, _ANY, lambda view: len(_SMALL_WORDS & view.vocabulary)),
        ("gopher_duplicate_lines", -_ANY, 0.3, lambda view: view.repeated_lines[0]),
        ("gopher_duplicate_line_characters", -_ANY, 0.2, lambda view: view.repeated_lines[1]),
        ("gopher_duplicate_paragraphs", -_ANY, 0.3, lambda view: _paragraphs(view)[0]),
        ("gopher_duplicate_paragraph_characters", -_ANY, 0.2, lambda view: _paragraphs(view)[1]),
        *(_top(n, limit) for n, limit in {2: 0.20, 3: 0.18, 4: 0.16}.items()),
        *(_again(n, limit) for n, limit in {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}.items()),
    ),
    "c4": (
        ("c4_sentences", 3, _ANY, _c4_sentences),
        ("c4_lorem_ipsum", -_ANY, 0, lambda view: view.text.lower().count("lorem ipsum")),
        ("c4_curly_brackets", -_ANY, 0, lambda view: view.text.count("{")),
        ("c4_bad_words", -_ANY, 0, lambda view: len(DIRTY_WORDS & view.vocabulary)),
    ),
    "fineweb": (
        ("fineweb_punctuated_lines", 0.12, _ANY, lambda view: _lines(view, str.endswith, _FINEWEB_ENDS)),
        ("fineweb_duplicate_line_characters", -_ANY, 0.1, lambda view: view.repeated_lines[1]),
        ("fineweb_short_lines", -_ANY, 0.67, _short_lines),
    ),
}


def published_rules(uses: dict[RuleSet, Use]) -> list[Measured]:
    """The rules of the sets in ``uses``, in their order."""
    return [
        Measured(name, low, high, measure=measure, enforced=use == "reject")
        for chosen, use in uses.items()
        for name, low, high, measure in _RULES[chosen]
    ]
