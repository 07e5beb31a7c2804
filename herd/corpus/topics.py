"""What a document is about: a fastText classifier trained on labelled texts, measured on sites it never saw.

    herd topics labels.jsonl --out topics

The paper sorts web pages by the kind of their information, so that what the web has too much of (arts, entertainment)
can be seen less often (section 3.1.2); it publishes neither topics nor classifier, so both are the user's here.
``labels.jsonl`` holds ``text`` and ``topic`` and, where known, ``site`` or ``url``: texts of one site stay on one side
of the split.  ``topics.bin`` and ``topics.json`` are the classifier, ``stats.json`` its measures with 95% intervals:
over sites for accuracy and macro F1, Wilson's for each topic.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from herd.corpus.blocklist import host
from herd.corpus.intervals import wilson
from herd.corpus.labelled_quality import calibration_error
from herd.corpus.quality import QualityConfig, fit_labels, sample
from herd.corpus.split import draw
from herd.corpus.words import hash_text
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import atomic_path, read_json, read_jsonl, write_json
from herd.foundation.progress import Progress
from herd.foundation.seeds import numpy_from

Numbers = NDArray[np.int64]

_AT_A_TIME = 1000
_RESAMPLES = 1000


class TopicsConfig(Config):
    """``test`` is the share of the sites that training never sees; a topic with fewer texts is refused."""

    test: float = Field(default=0.2, gt=0, lt=1)
    minimum_texts: int = Field(default=10, ge=2)
    classifier: QualityConfig = QualityConfig(epochs=25, learning_rate=0.5)


@dataclass(frozen=True)
class _Labelled:
    site: str
    text: str
    topic: str


class TopicModel:
    """A trained classifier and the names of its topics."""

    def __init__(self, model: Any, names: Sequence[str], config: QualityConfig) -> None:
        self._model, self.names, self._config = model, list(names), config

    def classify(self, texts: Sequence[str]) -> list[tuple[int, float]]:
        """For each text the number of its likeliest topic in ``names``, and how sure that is, in [0, 1]."""
        labels, sure = self._model.predict([sample(text, self._config) for text in texts], k=1)
        found = [(int(label[0].removeprefix("__label__")) if label else 0) for label in labels]
        return [(topic, float(min(p[0], 1.0)) if len(p) else 0.0) for topic, p in zip(found, sure, strict=True)]

    def classify_all(self, texts: Iterator[str]) -> Iterator[tuple[int, float]]:
        """The same for a stream of texts, some at a time."""
        held: list[str] = []
        for text in texts:
            held.append(text)
            if len(held) == _AT_A_TIME:
                yield from self.classify(held)
                held = []
        if held:
            yield from self.classify(held)

    def save(self, out: Path) -> None:
        """Writes ``topics.bin`` and ``topics.json``."""
        with atomic_path(out / "topics.bin") as temporary:
            self._model.save_model(str(temporary))
        write_json(out / "topics.json", {"topics": self.names, "classifier": self._config.model_dump(mode="json")})


def load_topics(directory: Path) -> TopicModel:
    """The classifier that ``herd topics`` wrote; a directory without one is a ``HerdError``."""
    import fasttext

    found, path = read_json(directory / "topics.json"), directory / "topics.bin"
    try:
        return TopicModel(
            fasttext.load_model(str(path)), found["topics"], QualityConfig.model_validate(found["classifier"])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise HerdError(f"{path}: not readable as a classifier of topics ({error})") from None


def train_topics(config: TopicsConfig, labels: Path, out: Path, progress: Progress) -> None:
    """Trains on the labelled texts of most sites, measures on the others, writes the classifier to ``out``.

    Raises:
        HerdError: a row without text or topic, fewer than two topics, or a topic with too few texts in either part.
    """
    rows = _read(labels)
    names = sorted({row.topic for row in rows})
    if len(names) < 2:
        raise HerdError(f"{labels}: names {len(names)} topics; a classifier needs at least two")
    number = {name: place for place, name in enumerate(names)}
    unseen = [draw(row.site, config.classifier.seed) < config.test for row in rows]
    train = [row for row, out_of_it in zip(rows, unseen, strict=True) if not out_of_it]
    test = [row for row, out_of_it in zip(rows, unseen, strict=True) if out_of_it]
    _check(labels, names, train, test, config)
    with progress.task("topics", total=2, unit="steps") as task:
        model = fit_topics([(row.topic, row.text) for row in train], names, config.classifier)
        task.advance()
        found = list(model.classify_all(row.text for row in test))
        task.advance()
    model.save(out)
    truth = np.array([number[row.topic] for row in test])
    said, sure = np.array([topic for topic, _ in found]), np.array([p for _, p in found])
    usual = number[Counter(row.topic for row in train).most_common(1)[0][0]]
    write_json(out / "stats.json", {
        "texts": len(rows), "sites": len({row.site for row in rows}), "trained on": len(train),
        **measure(truth, said, sure, [row.site for row in test], names, config.classifier.seed),
        "the commonest topic": wilson(int((truth == usual).sum()), len(truth)),
    })  # fmt: skip


def fit_topics(rows: Sequence[tuple[str, str]], names: Sequence[str], config: QualityConfig) -> TopicModel:
    """The classifier of ``(topic, text)`` rows."""
    number = {name: str(place) for place, name in enumerate(names)}
    return TopicModel(
        fit_labels([(number[topic], sample(text, config)) for topic, text in rows], config), names, config
    )


def _read(labels: Path) -> list[_Labelled]:
    rows = []
    for place, row in enumerate(read_jsonl(labels), start=1):
        for name in ("text", "topic"):
            value = row.get(name) if isinstance(row, dict) else None
            if not isinstance(value, str) or not value.strip():
                raise HerdError(f"{labels}, row {place}: it needs a {name}, not empty")
        rows.append(_Labelled(_site(row), row["text"], row["topic"].strip()))
    if not rows:
        raise HerdError(f"{labels}: holds no labelled text")
    return rows


def _site(row: dict[str, Any]) -> str:
    """What must not stand on both sides: the site that is given, the host of the address, or the text itself."""
    if site := row.get("site"):
        return str(site)
    return host(str(row.get("url") or "")) or f"{hash_text(row['text']):016x}"


def _check(labels: Path, names: list[str], train: list[_Labelled], test: list[_Labelled], config: TopicsConfig) -> None:
    for part, rows, least in (("train on", train, config.minimum_texts), ("measure with", test, 2)):
        counts = Counter(row.topic for row in rows)
        for name in names:
            if counts[name] < least:
                raise HerdError(
                    f"{labels}: topic {name} has {counts[name]} texts to {part}, {least} are the least; whole sites"
                    " go to one part, so give texts of more of them"
                )


def measure(
    truth: Numbers, said: Numbers, sure: NDArray[np.float64], sites: Sequence[str], names: Sequence[str], seed: int
) -> dict[str, Any]:
    """Accuracy, macro F1, calibration, and each topic's precision and recall; ``truth`` and ``said`` number topics."""
    places = {site: place for place, site in enumerate(dict.fromkeys(sites))}
    groups: list[list[int]] = [[] for _ in places]
    for row, site in enumerate(sites):
        groups[places[site]].append(row)
    # Counts of every pair (truth, said) by site: a resample of sites is then a sum of a few of them.
    tables = np.zeros((len(groups), len(names), len(names)))
    for place, rows in enumerate(groups):
        np.add.at(tables[place], (truth[rows], said[rows]), 1)
    generator = numpy_from(seed, "topics", "bootstrap")
    draws = [_summary(tables[generator.integers(len(groups), size=len(groups))].sum(axis=0)) for _ in range(_RESAMPLES)]
    low, high = np.percentile(np.array(draws), [2.5, 97.5], axis=0)
    table = tables.sum(axis=0)
    values = _summary(table)
    both = zip(("accuracy", "macro F1"), values, low, high, strict=True)
    return {
        "measured on": len(truth),
        "measured sites": len(groups),
        **{name: {"value": v, "low": float(least), "high": float(most)} for name, v, least, most in both},
        "calibration error": calibration_error(sure, truth == said),
        "topics": {
            name: {
                "texts": int(table[place].sum()),
                "precision": wilson(int(table[place, place]), int(table[:, place].sum())),
                "recall": wilson(int(table[place, place]), int(table[place].sum())),
            }
            for place, name in enumerate(names)
        },
        "confusion": table.astype(int).tolist(),
    }


def _summary(table: NDArray[np.float64]) -> tuple[float, float]:
    """Accuracy and macro F1 of a table of truth (rows) by what was said (columns); absent topics do not count."""
    right = np.diag(table)
    both = table.sum(axis=0) + table.sum(axis=1)
    present = table.sum(axis=1) > 0
    scores = 2 * right / np.maximum(both, 1)
    return float(right.sum() / max(table.sum(), 1)), float(scores[present].mean()) if present.any() else 0.0
