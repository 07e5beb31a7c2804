"""The guard learns what it is shown, judges the same in any batch, and watches every window of a long text."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from herd.formats.huggingface import save_model
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.guard.classifier import WINDOW_CHARACTERS, WINDOW_OVERLAP, Guard, encode_request, windows
from herd.guard.data import make_examples
from herd.guard.policy import GuardItem, PolicyConfig, guard_prompt
from herd.guard.train import ExampleSource, GuardConfig, best_threshold, encode_example, train_guard
from herd.infer.engine import EngineConfig
from herd.model.attention import DocumentAttention
from herd.model.config import ModelConfig
from herd.model.transformer import Transformer
from herd.tokenizer.bpe import train_bpe
from herd.tokenizer.chat import ChatFormat

_POLICY = PolicyConfig(categories=("S1", "S14"))


@pytest.fixture(scope="session")
def raised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guard of one layer, trained for a few steps from random weights."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("guard")
    base, corpus, out = root / "base", root / "corpus", root / "out"
    for folder in (base, corpus / "documents", out):
        folder.mkdir(parents=True)
    examples = make_examples("train", 200)
    texts = [guard_prompt(example.item, _POLICY) for example in examples]
    tokenizer = train_bpe(texts, 900)
    tokenizer.save(base)
    shape = ModelConfig(
        vocab_size=tokenizer.vocab_size, dim=32, layers=1, heads=2, kv_heads=1, ffn_dim=48, max_positions=512, tied=True
    )
    model = Transformer(shape)
    model.init_weights(1)
    save_model(model, base, base)
    table = pa.table({"title": ["json.dumps"], "text": ["Serialize obj to a string of JSON. " * 20]})
    pq.write_table(table, corpus / "documents" / "0.parquet")
    config = GuardConfig(policy=_POLICY, examples=192, calibration=60, pages=5, epochs=2, rows=16, learning_rate=1e-2)
    train_guard(config, base, corpus, out, Progress.silent())
    return out


def _items() -> list[GuardItem]:
    return [example.item for example in make_examples("calibration", 24, policy=_POLICY, seed=9)]


def test_the_stage_leaves_a_guard_with_a_threshold(raised: Path) -> None:
    settings = json.loads((raised / "guard.json").read_text())
    assert settings["thresholds"].keys() == {"prompt", "answer", "tool"}
    assert settings["policy"]["categories"] == ["S1", "S14"]
    stats = json.loads((raised / "stats.json").read_text())
    rows = [json.loads(line) for line in (raised / "calibration.jsonl").read_text().splitlines()]
    for kind, threshold in settings["thresholds"].items():
        own = [row for row in rows if row["kind"] == kind]
        flagged = [row for row in own if row["score"] >= threshold]
        unsafe = [row for row in own if row["categories"]]
        hits = sum(row in unsafe for row in flagged)
        assert stats["calibration"][kind]["f1"] == pytest.approx(2 * hits / (len(flagged) + len(unsafe)))
        assert stats["calibration"][kind]["false_positive_rate"] <= 0.1
    losses = [json.loads(line)["loss"] for line in (raised / "training" / "metrics.jsonl").read_text().splitlines()]
    assert sum(losses[-4:]) < 0.6 * sum(losses[:4])


def test_too_few_examples_to_calibrate_on_are_refused_before_training(raised: Path, tmp_path: Path) -> None:
    config = GuardConfig(policy=_POLICY, examples=32, calibration=2, pages=0)
    with pytest.raises(HerdError, match="none of the 2 calibration examples is an unsafe"):
        train_guard(config, raised, tmp_path, tmp_path / "out", Progress.silent())
    assert not (tmp_path / "out").exists()


def test_verdicts_do_not_depend_on_batch_or_order(raised: Path) -> None:
    items = _items()
    found = []
    for batch in (1, 3, 64):
        verdicts = Guard.load(raised, EngineConfig(batch=batch)).judge(items)
        found.append([(round(v.unsafe_probability, 4), v.unsafe, v.categories) for v in verdicts])
    backwards = Guard.load(raised).judge(items[::-1])[::-1]
    found.append([(round(v.unsafe_probability, 4), v.unsafe, v.categories) for v in backwards])
    assert found[0] == found[1] == found[2] == found[3]


def test_the_probability_is_that_of_the_models_first_token(raised: Path) -> None:
    guard, [item] = Guard.load(raised), _items()[:1]
    tokenizer, engine = guard.engine.tokenizer, guard.engine
    ids = torch.tensor(encode_request(engine.chat, item, _POLICY))
    with torch.no_grad():
        hidden = engine.model(ids, torch.arange(len(ids)), DocumentAttention([len(ids)]))
        odds = engine.model.logits(hidden[-1:])[0][[tokenizer.encode("safe")[0], tokenizer.encode("unsafe")[0]]]
    assert guard.probabilities([item])[0] == pytest.approx(float(torch.softmax(odds, 0)[1]), abs=1e-4)


def test_requests_and_training_examples_are_encoded_alike(raised: Path) -> None:
    chat = ChatFormat(Guard.load(raised).engine.tokenizer)
    for example in make_examples("train", 20, policy=_POLICY):
        whole = encode_example(chat, example, _POLICY)
        request = encode_request(chat, example.item, _POLICY)
        assert whole.ids[: len(request)] == request
        assert whole.mask.index(True) == len(request)
        assert whole.mask[-1]


def test_batches_depend_on_the_step_alone_and_show_every_example_once(raised: Path) -> None:
    chat = ChatFormat(Guard.load(raised).engine.tokenizer)
    examples = make_examples("train", 64, policy=_POLICY)
    source, again = (ExampleSource(chat, examples, GuardConfig(policy=_POLICY, rows=16)) for _ in range(2))
    assert (source.steps, source.bare_steps) == (4, 2)
    for step in (3, 0, 2):
        for one, other in zip(source.batches(step), again.batches(step), strict=True):
            assert torch.equal(one.tokens_N, other.tokens_N)
            assert one.lengths == other.lengths
    rests = [sum(len(batch.lengths) - 1 for batch in source.batches(step)) for step in range(4)]
    assert rests == [16] * 4
    shared = [max(batch.lengths[0] for batch in source.batches(step)) for step in range(4)]
    assert max(shared[:2]) < min(shared[2:]), "the first steps leave the policy out"


def test_windows_cover_a_text_and_overlap() -> None:
    text = "".join(chr(97 + i % 26) for i in range(3 * WINDOW_CHARACTERS + 17))
    pieces = list(windows(text))
    assert pieces[0] + "".join(piece[WINDOW_OVERLAP:] for piece in pieces[1:]) == text
    assert max(map(len, pieces)) <= WINDOW_CHARACTERS
    assert list(windows("")) == [""]
    assert list(windows("a" * WINDOW_CHARACTERS)) == ["a" * WINDOW_CHARACTERS]


def test_a_long_text_is_as_bad_as_its_worst_window(raised: Path) -> None:
    guard = Guard.load(raised)
    parts = [item.text.ljust(WINDOW_CHARACTERS, " ") for item in _items()[:3]]
    long = GuardItem("prompt", "".join(parts))
    alone = guard.probabilities([GuardItem("prompt", piece) for piece in windows(long.text)])
    assert guard.probabilities([long])[0] == pytest.approx(max(alone), abs=1e-4)


def test_the_best_threshold_is_the_best_of_all() -> None:
    generator = torch.Generator().manual_seed(1)
    unsafe = (torch.rand(80, generator=generator) < 0.4).tolist()
    scores = [float(torch.rand(1, generator=generator)) * 0.6 + 0.3 * bad for bad in unsafe]

    def f1(threshold: float) -> float:
        flagged = [score >= threshold for score in scores]
        return 2 * sum(a and b for a, b in zip(flagged, unsafe, strict=True)) / (sum(flagged) + sum(unsafe))

    assert f1(best_threshold(scores, unsafe)) == max(f1(score) for score in scores)
    bounded = best_threshold(scores, unsafe, most_false_alarms=0.05)
    alarms = [score >= bounded for score, bad in zip(scores, unsafe, strict=True) if not bad]
    assert sum(alarms) / len(alarms) <= 0.05
    assert f1(bounded) == max(
        f1(t) for t in scores if sum(s >= t for s, b in zip(scores, unsafe, strict=True) if not b) <= 2
    )
    with pytest.raises(ValueError, match="unsafe items"):
        best_threshold([0.5], [False])
    assert 0.4 < best_threshold([0.2, 0.2, 0.8], [False, False, True]) < 0.6


def test_a_directory_without_settings_is_named(raised: Path, tmp_path: Path) -> None:
    with pytest.raises(HerdError, match=r"guard\.json"):
        Guard.load(tmp_path)
    for text, problem in (
        ('{"policy": {}, "thresholds": {"prompt": 7, "answer": 0.5, "tool": 0.5}}', "less than or equal to 1"),
        ('{"policy": {}, "thresholds": {"prompt": 0.5}}', "no threshold for the kind 'answer'"),
    ):
        (tmp_path / "guard.json").write_text(text)
        with pytest.raises(HerdError, match=rf"guard\.json.*{problem}"):
            Guard.load(tmp_path)
