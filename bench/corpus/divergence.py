"""What the token-distribution filter takes from code, mathematics and law: a table, and a picture with ``--picture``.

    python bench/corpus/divergence.py ../shared/data/text --picture docs/images/divergence.png

Texts of known origin are measured twice: against the words of their language (one distribution for all of it), and
against those of their domain and language, as curation does.  The limit is then moved: the picture shows what share of
each origin goes when so much of the whole goes.  Code is judged here too, which curation does not do by default.
"""

import argparse
import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from herd.corpus.divergence import DivergenceConfig, WordCounts, count_words, divergence, outliers
from herd.corpus.domains import DomainConfig, classify
from herd.corpus.intervals import wilson
from herd.corpus.language import LanguageConfig, identify
from herd.corpus.words import hash_words, split_words

ORIGINS = {
    "code": ("code/thealgorithms",),
    "mathematics": (
        "openstax/college-algebra-bundle",
        "openstax/prealgebra-bundle",
        "openstax/contemporary-mathematics",
        "openstax/introductory-statistics-bundle",
    ),
    "law (German)": ("german-laws/gesetze",),
    "prose": ("openstax/psychology", "openstax/us-history", "openstax/principles-economics-bundle"),
    "technical prose": ("docs-en/rust", "ms-beginners/en"),
    "technical prose (German)": ("docs-de/rustbook-de", "ms-beginners/de"),
}
_CHARACTERS, _LEAST_WORDS, _DOCUMENTS = 60_000, 30, 600
_LIMITS = np.geomspace(0.5, 30, 60)


def read(data: Path, names: Sequence[str]) -> Iterator[str]:
    """The texts of an origin, each cut to the same greatest length."""
    for name in names:
        with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            yield from (json.loads(line)["text"][:_CHARACTERS] for line in lines)


class Sample:
    """Texts with their origin, domain, language, and the divergences that one way of grouping gives them."""

    def __init__(self, data: Path, config: DivergenceConfig) -> None:
        self.config = config
        self.origins: list[str] = []
        self.groups: dict[str, list[str]] = {"language": [], "domain and language": []}
        self.counts: list[WordCounts] = []
        self.words: list[int] = []
        for origin, names in ORIGINS.items():
            texts = [text for text in read(data, names) if len(split_words(text)) >= _LEAST_WORDS]
            chosen = np.random.default_rng(0).permutation(len(texts))[:_DOCUMENTS]
            for text in (texts[row] for row in sorted(chosen)):
                self._add(origin, text)

    def _add(self, origin: str, text: str) -> None:
        code = origin == "code"
        language = None if code else identify(text, LanguageConfig())
        domain = classify(text, "code" if code else "text", language, DomainConfig())
        words = split_words(text)
        self.origins.append(origin)
        self.words.append(len(words))
        self.counts.append(count_words(hash_words(words), self.config))
        spoken = language.code if language else "en"
        self.groups["language"].append(spoken)
        self.groups["domain and language"].append(f"multilingual/{spoken}" if domain == "multilingual" else domain)

    def divergences(self, way: str) -> NDArray[np.float64]:
        """Each text's divergence from the rest of its group."""
        totals: dict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros(self.config.buckets, dtype=np.int64))
        for group, own in zip(self.groups[way], self.counts, strict=True):
            totals[group][own.buckets] += own.counts
        pairs = zip(self.groups[way], self.counts, strict=True)
        return np.array([divergence(own, totals[group], self.config) for group, own in pairs])

    def removed(self, way: str, values: NDArray[np.float64], deviations: float) -> NDArray[np.bool_]:
        """Who goes at a limit of so many robust standard deviations."""
        config = self.config.model_copy(update={"deviations": float(deviations)})
        groups, gone = np.array(self.groups[way]), np.zeros(len(values), dtype=np.bool_)
        for group in set(self.groups[way]):
            rows = np.flatnonzero(groups == group)
            gone[rows] = outliers(values[rows].tolist(), [self.words[row] for row in rows], config)
        return gone


def shares(origins: NDArray[np.str_], gone: NDArray[np.bool_]) -> str:
    """Share of each origin that goes, with Wilson's interval."""
    cells = []
    for origin in ORIGINS:
        rows = gone[origins == origin]
        found = wilson(int(rows.sum()), len(rows))
        if found is not None:
            cells.append(f"{origin} {found['value']:.1%} ({100 * found['low']:.1f}–{100 * found['high']:.1f})")
    return "; ".join(cells)


def picture(curves: dict[str, dict[str, list[float]]], path: Path) -> None:
    """One panel a way of grouping: share of each origin that goes over the share of the whole."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(curves), figsize=(9.2, 3.6), sharey=True, layout="constrained")
    for panel, (way, lines) in zip(panels, curves.items(), strict=True):
        for origin in ORIGINS:
            panel.plot(lines["whole"], lines[origin], label=origin, linewidth=1.8)
        panel.plot([0, 0.2], [0, 0.2], color="grey", linewidth=0.8, linestyle=":")
        panel.set(
            xlim=(0, 0.2), ylim=(0, 0.6), title=f"one distribution for each {way}", xlabel="share of all texts that go"
        )
        panel.set_xticks([0, 0.05, 0.1, 0.15, 0.2])
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(mpl.ticker.PercentFormatter(1, decimals=0))
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("share of the origin that goes")
    panels[-1].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """The table at curation's limit and at 5% of the whole, then the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    config = DivergenceConfig()
    sample, curves = Sample(options.data, config), {}
    origins = np.array(sample.origins)
    print(f"{len(origins)} texts: {', '.join(f'{(origins == name).sum()} {name}' for name in ORIGINS)}")
    for way in sample.groups:
        values = sample.divergences(way)
        gone = [sample.removed(way, values, limit) for limit in _LIMITS]
        usual = sample.removed(way, values, config.deviations)
        nearest = min(gone, key=lambda rows: abs(rows.mean() - 0.05))
        print(f"by {way}, {config.deviations:g} deviations ({usual.mean():.1%} of all): {shares(origins, usual)}")
        print(f"by {way}, {nearest.mean():.1%} of all: {shares(origins, nearest)}")
        curves[way] = {"whole": [float(rows.mean()) for rows in gone]} | {
            name: [float(rows[origins == name].mean()) for rows in gone] for name in ORIGINS
        }
    if options.picture:
        picture(curves, options.picture)


if __name__ == "__main__":
    main()
