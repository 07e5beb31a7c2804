"""Training on judgements: sites stay apart, probabilities mean what they say, length alone is no cheat."""

import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from herd.cli import app
from herd.corpus.documents import DocumentWriter, document_schema
from herd.corpus.encoder import EncoderConfig, fit_encoder
from herd.corpus.labelled_quality import (
    LabelledQualityConfig,
    calibration_error,
    fit_curve,
    measure,
    train_on_labels,
)
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, write_jsonl
from herd.foundation.progress import Progress

GOOD = ("because", "therefore", "explains", "method", "theorem", "example", "proof", "energy", "cell", "measure")
POOR = ("buy", "cheap", "click", "discount", "offer", "login", "share", "follow", "sale", "coupon")
BOTH = ("the", "of", "and", "in", "to", "with", "that", "is", "for", "was", "page", "it", "on", "as", "by", "this")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 documents of 150 sites; good and poor ones are equally long, and a tenth of the judgements is wrong."""
    place, chance = tmp_path_factory.mktemp("labels"), random.Random(5)
    rows = []
    with DocumentWriter(place / "corpus" / "documents", document_schema(())) as writer:
        for n in range(600):
            good = chance.random() < 0.5
            own = chance.choices(GOOD if good else POOR, k=12)
            words = [*own, *chance.choices(BOTH, k=chance.randint(40, 160))]
            chance.shuffle(words)
            site = f"{'www.' * (n // 150 % 2)}site{n % 150}.org"
            writer.add({"id": f"d{n}", "url": f"https://{site}/{n}", "text": " ".join(words), "domain": "general"})
            rows.append(
                {"id": f"d{n}", "score": chance.choice((3, 4, 5) if good != (chance.random() < 0.1) else (0, 1, 2))}
            )
    write_jsonl(place / "judgements.jsonl", rows)
    return place


def test_the_classifier_is_measured_on_sites_it_never_saw(corpus: Path) -> None:
    line = ["quality", "train", str(corpus / "corpus"), str(corpus / "judgements.jsonl"), "--out", str(corpus / "out"),
            "--set", "classifier.epochs=30"]  # fmt: skip
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    stats = read_json(corpus / "out" / "stats.json")
    assert (stats["judged"], stats["sites"]) == (600, 150)
    found, length = stats["classifier"], stats["length alone"]
    assert 80 < found["documents"] < 160
    # A tenth of the judgements is wrong, so that none can be right in more than nine of ten but by chance.
    for name in ("precision", "recall"):
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
        assert 0.75 < found[name]["value"] < 0.98
    assert found["auc"] > length["auc"] + 0.2
    assert found["calibration error"] < 0.16
    assert length["auc"] == pytest.approx(0.5, abs=0.13)
    scores = pq.read_table(corpus / "out" / "scores.parquet")
    assert sorted(scores["id"].to_pylist()) == sorted(f"d{n}" for n in range(600))
    assert 0 <= min(scores["score"].to_pylist()) < 0.2 < 0.8 < max(scores["score"].to_pylist()) <= 1
    assert (corpus / "out" / "quality.bin").stat().st_size > 0


def test_a_transformer_from_nothing_and_from_its_own_weights(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    judged = corpus / "judgements.jsonl"
    shape = EncoderConfig(layers=1, dimension=32, heads=2, vocabulary=400, tokens=64, epochs=4, learning_rate=3e-3)
    train_on_labels(LabelledQualityConfig(encoder=shape), corpus / "corpus", judged, tmp_path, Progress.silent())
    stats = read_json(tmp_path / "stats.json")
    assert stats["encoder"]["auc"] > stats["length alone"]["auc"] + 0.2
    assert stats["encoder"]["calibration error"] < 0.16
    assert stats["encoder"]["precision"]["low"] > 0.6
    scores = pq.read_table(tmp_path / "scores.parquet")["score"].to_pylist()
    assert (len(scores), len(set(scores)) > 100) == (600, True)
    texts = ["because the theorem explains the method", "buy cheap click discount offer"]
    again = fit_encoder([(texts[0], True)], shape.model_copy(
        update={"weights": tmp_path / "encoder", "learning_rate": 1e-9, "epochs": 1}), Progress.silent())  # fmt: skip
    high, low = again.score(texts)
    assert high > low
    with pytest.raises(HerdError, match="holds no encoder"):
        fit_encoder([("a", True)], EncoderConfig(weights=corpus), Progress.silent())


def test_wrong_labels_teach_nothing(corpus: Path, tmp_path: Path) -> None:
    """The mutation that must fail: judgements dealt anew to the documents."""
    rows = [json.loads(line) for line in (corpus / "judgements.jsonl").read_text().splitlines()]
    scores = [row["score"] for row in rows]
    random.Random(1).shuffle(scores)
    write_jsonl(tmp_path / "j.jsonl", [row | {"score": score} for row, score in zip(rows, scores, strict=True)])
    train_on_labels(LabelledQualityConfig(), corpus / "corpus", tmp_path / "j.jsonl", tmp_path, Progress.silent())
    assert read_json(tmp_path / "stats.json")["classifier"]["auc"] == pytest.approx(0.5, abs=0.15)


def test_the_curve_undoes_a_known_distortion() -> None:
    chance = np.random.default_rng(0)
    true = chance.uniform(0.02, 0.98, 20_000)
    truth = chance.uniform(size=20_000) < true
    odds = np.log(true / (1 - true))
    distorted = 1 / (1 + np.exp(-(3 * odds - 1)))
    curve = fit_curve(distorted, truth)
    assert curve.slope == pytest.approx(1 / 3, rel=0.05)
    assert curve.intercept == pytest.approx(1 / 3, rel=0.15)
    assert calibration_error(distorted, truth) > 0.1
    assert calibration_error(curve(distorted), truth) < 0.02


def test_measures_by_hand() -> None:
    found = measure(np.array([0.9, 0.8, 0.4, 0.1]), np.array([True, False, True, False]))
    assert found["auc"] == 0.75
    assert (found["precision"]["value"], found["recall"]["value"]) == (0.5, 0.5)
    assert found["brier"] == pytest.approx((0.01 + 0.64 + 0.36 + 0.01) / 4)
    assert found["calibration error"] == pytest.approx((0.1 + 0.8 + 0.6 + 0.1) / 4)


def test_too_few_judgements_are_named(corpus: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "few.jsonl", [{"id": f"d{n}", "score": n % 6} for n in range(20)])
    with pytest.raises(HerdError, match=r"few\.jsonl: gives \d+ good .* poor documents to train"):
        train_on_labels(LabelledQualityConfig(), corpus / "corpus", tmp_path / "few.jsonl", tmp_path, Progress.silent())
