"""A quality classifier trained on a chat model's judgements, calibrated, and measured on documents of unseen sites.

    herd quality train corpus labels/judgements.jsonl --out classifier

The judged documents are divided by site (the host of their address, or the document itself): three fifths to train
fastText, a fifth to turn its scores into probabilities by a logistic curve (Platt scaling), a fifth to measure.  Beside
the classifier stands one that knows nothing but a document's length and, where ``encoder`` is set, a small transformer.
``scores.parquet`` holds the calibrated score of every document of the corpus, ``stats.json`` the measures, with
Wilson's intervals at 95%.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize

from herd.corpus.blocklist import host
from herd.corpus.documents import read_documents
from herd.corpus.encoder import EncoderConfig, fit_encoder
from herd.corpus.intervals import wilson
from herd.corpus.label import BEST
from herd.corpus.quality import Example, QualityConfig, QualityModel, area_under_curve, fit_examples, sample
from herd.corpus.split import draw
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import atomic_path, read_jsonl, write_json
from herd.foundation.progress import Progress

Values = NDArray[np.float64]
_Parts = dict[str, NDArray[np.bool_]]

_BINS = 10
_SCORED_AT_A_TIME = 1000


class LabelledQualityConfig(Config):
    """``good`` is the judgement from which a document counts as good; shares are of the judged documents' sites."""

    good: int = Field(default=3, ge=1, le=BEST)
    calibrate: float = Field(default=0.2, gt=0, lt=0.5)
    test: float = Field(default=0.2, gt=0, lt=0.5)
    classifier: QualityConfig = QualityConfig()
    encoder: EncoderConfig | None = Field(default=None, description="a transformer too, which then gives the scores")


@dataclass(frozen=True)
class Curve:
    """A logistic curve over the log-odds of a score: what a score means as a probability."""

    slope: float
    intercept: float

    def __call__(self, scores: Values) -> Values:
        """Probabilities, one for each score in [0, 1]."""
        return 1.0 / (1.0 + np.exp(-(self.slope * _log_odds(scores) + self.intercept)))


def _log_odds(scores: Values) -> Values:
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    return np.log(clipped / (1 - clipped))


def fit_curve(scores: Values, truth: NDArray[np.bool_]) -> Curve:
    """The curve of the greatest likelihood, with Platt's smoothed targets, so that a clean separation stays finite."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    target = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    odds = _log_odds(scores)

    def loss(parameters: Values) -> float:
        margin = parameters[0] * odds + parameters[1]
        return float(np.sum(np.logaddexp(0, margin) - target * margin))

    slope, intercept = minimize(loss, np.array([1.0, 0.0]), method="L-BFGS-B").x
    return Curve(float(slope), float(intercept))


@dataclass(frozen=True)
class _Judged:
    site: str
    text: str
    opening: str
    length: int
    good: bool


def train_on_labels(
    config: LabelledQualityConfig, corpus: Path, judgements: Path, out: Path, progress: Progress
) -> None:
    """Writes ``quality.bin`` or ``encoder/``, ``scores.parquet`` and ``stats.json`` to ``out``.

    Raises:
        HerdError: too few judged documents, good or poor, in one of the three parts, or what ``fit_encoder`` raises.
    """
    judged = _read(config, corpus, judgements)
    draws = np.array([draw(row.site, config.classifier.seed) for row in judged])
    test, train = draws < config.test, draws >= config.test + config.calibrate
    parts = {"train": train, "calibrate": ~(test | train), "test": test}
    truth = np.array([row.good for row in judged], dtype=np.bool_)
    _check_parts(judgements, parts, truth, config)
    learnt = [judged[row] for row in np.flatnonzero(train)]
    model = QualityModel(fit_examples([Example(row.site, row.text, row.good) for row in learnt], config.classifier), {})
    curve, measured = _calibrate(np.array(model.score([row.text for row in judged])), truth, parts)
    stats = {"classifier": measured, "length alone": _measure_length(judged, truth, parts)}
    if config.encoder is None:
        model.save(out / "quality.bin")
        _score_all(corpus, lambda text: sample(text, config.classifier), model.score, curve, out, progress)
    else:
        encoder = fit_encoder([(row.opening, row.good) for row in learnt], config.encoder, progress)
        curve, stats["encoder"] = _calibrate(np.array(encoder.score([row.opening for row in judged])), truth, parts)
        encoder.save(out / "encoder")
        _score_all(corpus, config.encoder.opening, encoder.score, curve, out, progress)
    write_json(out / "stats.json", {
        "judged": len(judged), "good": int(truth.sum()), "sites": len({row.site for row in judged}),
        "curve": {"slope": curve.slope, "intercept": curve.intercept}, **stats,
    })  # fmt: skip


def _calibrate(raw: Values, truth: NDArray[np.bool_], parts: _Parts) -> tuple[Curve, dict[str, Any]]:
    """The curve of a classifier's scores, and its measures on the documents that are kept for that."""
    curve = fit_curve(raw[parts["calibrate"]], truth[parts["calibrate"]])
    return curve, measure(curve(raw[parts["test"]]), truth[parts["test"]])


def _measure_length(judged: Sequence[_Judged], truth: NDArray[np.bool_], parts: _Parts) -> dict[str, Any]:
    lengths = np.array([row.length for row in judged], dtype=np.float64)
    known, test = lengths[parts["train"]], parts["test"]
    by_length = fit_curve(_rank(known, known), truth[parts["train"]])
    return measure(by_length(_rank(lengths[test], known)), truth[test])


def _rank(values: Values, among: Values) -> Values:
    """Where values stand among others, in (0, 1)."""
    return (np.searchsorted(np.sort(among), values) + 0.5) / (len(among) + 1)


def _read(config: LabelledQualityConfig, corpus: Path, judgements: Path) -> list[_Judged]:
    scores = {row["id"]: row["score"] for row in read_jsonl(judgements)}
    opening = config.encoder.opening if config.encoder else lambda _: ""
    return [
        _Judged(_site(row), sample(text, config.classifier), opening(text), len(text), scores[row["id"]] >= config.good)
        for row in read_documents(corpus / "documents", ["id", "url", "text"])
        if row["id"] in scores and (text := row["text"]) is not None
    ]


def _site(row: dict[str, Any]) -> str:
    return host(row["url"] or "") or str(row["id"])


def _check_parts(judgements: Path, parts: _Parts, truth: NDArray[np.bool_], config: LabelledQualityConfig) -> None:
    for name, part in parts.items():
        good, poor = int((part & truth).sum()), int((part & ~truth).sum())
        least = config.classifier.minimum_examples if name == "train" else 5
        if min(good, poor) < least:
            counts = f"{good} good and {poor} poor documents to {name}"
            raise HerdError(
                f"{judgements}: gives {counts}; {least} of each are the least (good: {config.good} or more)"
            )


def _score_all(
    corpus: Path, view: Callable[[str], str], score: Callable[[list[str]], list[float]], curve: Curve, out: Path,
    progress: Progress,
) -> None:  # fmt: skip
    names: list[str] = []
    samples: list[str] = []
    scores: list[float] = []
    folders = [corpus / name for name in ("documents", "heldout") if (corpus / name).is_dir()]
    with progress.task("score", unit="documents") as task:
        for folder in folders:
            for row in read_documents(folder, ["id", "text"]):
                names.append(row["id"])
                samples.append(view(row["text"]))
                if len(samples) >= _SCORED_AT_A_TIME:
                    scores += curve(np.array(score(samples))).tolist()
                    samples.clear()
                task.advance()
    if samples:
        scores += curve(np.array(score(samples))).tolist()
    table = pa.table({"id": names, "score": pa.array(scores, pa.float32())})
    with atomic_path(out / "scores.parquet") as temporary:
        pq.write_table(table, temporary, compression="zstd")


def measure(probabilities: Values, truth: NDArray[np.bool_]) -> dict[str, Any]:
    """Ranking, decisions at one half, and calibration of probabilities against the truth."""
    said = probabilities >= 0.5
    right = int((said & truth).sum())
    return {
        "documents": len(truth),
        "auc": area_under_curve(probabilities.tolist(), truth.tolist()),
        "precision": wilson(right, int(said.sum())),
        "recall": wilson(right, int(truth.sum())),
        "brier": float(np.mean((probabilities - truth) ** 2)),
        "calibration error": calibration_error(probabilities, truth),
    }


def calibration_error(probabilities: Values, truth: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Mean distance of what was said from what was so, over ten bins of equal width, weighted by their documents."""
    true = np.asarray(truth, dtype=np.float64)
    bins = np.minimum((probabilities * _BINS).astype(int), _BINS - 1)
    gaps = [abs(float((probabilities - true)[bins == number].sum())) for number in range(_BINS)]
    return sum(gaps) / max(len(true), 1)
