"""The stage that raises the guard: the smallest base model, fine-tuned to emit verdicts, with a calibrated threshold.

    train_guard(GuardConfig(), base, corpus, out, Progress())

``out`` becomes a Hugging Face directory with ``guard.json`` (policy, threshold), ``calibration.jsonl`` (what the
threshold was chosen on), ``training/metrics.jsonl`` and ``stats.json``.  The loss falls on the verdict alone, as in
Llama Guard; the loop is that of every other training.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from pydantic import Field

from herd.formats.huggingface import load_model, save_model
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import write_json, write_jsonl
from herd.foundation.progress import Progress
from herd.foundation.seeds import numpy_from
from herd.guard.classifier import Guard, GuardSettings
from herd.guard.data import GuardExample, make_examples, read_pages
from herd.guard.policy import Kind, PolicyConfig, bare_prompt, guard_prompt, verdict_text
from herd.guard.shared_prompt import shared_prompt_batch, shared_prompt_loss
from herd.infer.engine import Engine
from herd.model.transformer import Transformer
from herd.tokenizer.chat import ChatFormat, EncodedChat
from herd.tokenizer.tokenizer import Tokenizer
from herd.train.batch import Batch
from herd.train.loop import TrainConfig, train
from herd.train.schedule import BatchRamp, OptimizerConfig


class GuardConfig(Config):
    """How the guard is raised: on ``examples``, ``epochs`` times; ``calibration`` other ones choose the threshold."""

    policy: PolicyConfig = PolicyConfig()
    examples: int = Field(default=20_000, gt=0)
    calibration: int = Field(default=900, gt=0)
    pages: int = Field(default=1500, ge=0, description="excerpts of the corpus that serve as harmless tool results")
    most_false_alarms: float = Field(default=0.1, ge=0, le=1, description="share of harmless calibration examples")
    epochs: int = Field(default=1, gt=0)
    rows: int = Field(default=32, gt=0, description="examples of a step")
    learning_rate: float = Field(default=3e-3, gt=0)
    bare_share: float = Field(default=0.7, ge=0, lt=1, description="steps that leave out the policy, at the beginning")
    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    seed: int = 0


class ExampleSource:
    """Micro-batches of encoded examples: every epoch is a fresh permutation, cut into steps of ``rows``.

    The first ``bare_steps`` show the requests without the policy: a small model that begins to look for harm finds it
    sooner where most of the text is not the same every time.
    """

    def __init__(self, chat: ChatFormat, examples: Sequence[GuardExample], config: GuardConfig) -> None:
        self.rows, self.seed, self.kinds = config.rows, config.seed, [example.item.kind for example in examples]
        self.dialogues = [encode_example(chat, example, config.policy) for example in examples]
        self.bare = [encode_example(chat, example, config.policy, bare=True) for example in examples]
        self.steps = config.epochs * self.steps_per_epoch
        self.bare_steps = int(config.bare_share * self.steps)

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show every example once; the rest of the last permutation that fills no step is left out."""
        return max(1, len(self.dialogues) // self.rows)

    def batches(self, step: int) -> list[Batch]:
        """The micro-batches of ``step``, a pure function of it: one for each kind of item, since its policy differs."""
        dialogues = self.bare if step < self.bare_steps else self.dialogues
        epoch, place = divmod(step, self.steps_per_epoch)
        order = numpy_from(self.seed, "guard-order", epoch).permutation(len(self.dialogues))
        chosen = order[place * self.rows : (place + 1) * self.rows]
        groups: dict[str, list[EncodedChat]] = {}
        for number in chosen:
            groups.setdefault(self.kinds[number], []).append(dialogues[number])
        return [shared_prompt_batch(group) for _, group in sorted(groups.items())]


def encode_example(chat: ChatFormat, example: GuardExample, policy: PolicyConfig, bare: bool = False) -> EncodedChat:
    """The request and its verdict as one dialogue; the mask holds the verdict and its terminator."""
    content = bare_prompt(example.item, policy) if bare else guard_prompt(example.item, policy)
    verdict = {"role": "assistant", "content": verdict_text(example.categories)}
    return chat.encode([{"role": "user", "content": content}, verdict])


def best_threshold(scores: Sequence[float], unsafe: Sequence[bool], most_false_alarms: float = 1.0) -> float:
    """The threshold of the largest F1 among those that flag at most that share of the harmless items.

    It lies in the middle between the two scores that it divides, in log-odds.

    Raises:
        ValueError: if no item is unsafe, since F1 has no meaning then.
    """
    if not any(unsafe):
        raise ValueError("a threshold needs unsafe items to be calibrated on")
    order = np.argsort(-np.asarray(scores, float), kind="stable")
    ranked, truth = np.asarray(scores, float)[order], np.asarray(unsafe)[order]
    hits, count = np.cumsum(truth), np.arange(1, len(truth) + 1)
    f1 = 2 * hits / (count + truth.sum())
    # Equal scores cannot be divided: only the last of them is a place to cut.
    f1[:-1][ranked[:-1] == ranked[1:]] = -1.0
    f1[(count - hits) > most_false_alarms * (len(truth) - truth.sum())] = -1.0
    if f1.max() < 0:
        return min(1.0, float(np.nextafter(ranked[0], 2.0)))
    best = int(np.argmax(f1))
    odds = np.log(np.clip(ranked, 1e-12, 1 - 1e-12)) - np.log1p(-np.clip(ranked, 1e-12, 1 - 1e-12))
    middle = odds[best] - 1.0 if best + 1 == len(odds) else (odds[best] + odds[best + 1]) / 2
    return float(1 / (1 + np.exp(-middle)))


def train_guard(config: GuardConfig, base: Path, corpus: Path, out: Path, progress: Progress) -> None:
    """Stage: fine-tunes ``base`` on examples made from the templates and the corpus' pages, then calibrates."""
    model, tokenizer = load_model(base), Tokenizer.load(base)
    if not isinstance(model, Transformer):
        raise HerdError(f"{base}: the guard is raised from a language model, and this is a reward model")
    pages = read_pages(corpus, config.pages, config.seed) if config.pages else []
    chat = ChatFormat(tokenizer)
    examples = make_examples("train", config.examples, pages, config.policy, config.seed)
    unseen = make_examples("calibration", config.calibration, pages, config.policy, config.seed)
    for kind in get_args(Kind):
        if not any(example.categories for example in unseen if example.item.kind == kind):
            raise HerdError(f"guard: none of the {config.calibration} calibration examples is an unsafe {kind}")
    source = ExampleSource(chat, examples, config)
    longest = max(len(dialogue.ids) for dialogue in source.dialogues)
    if longest > model.config.max_positions:
        most = model.config.max_positions
        raise HerdError(f"{base}: the guard's longest example has {longest} tokens, but this model reads only {most}")
    training = _train_config(config, source.steps, longest)
    report = train(training, model, source, shared_prompt_loss, out / "training", progress, name="training the guard")
    save_model(model, base, out)
    guard = Guard(Engine(model, tokenizer), GuardSettings.even(config.policy, 0.5))
    figures = _calibrate(guard, unseen, config.most_false_alarms, out)
    stats = {"training": report.figures, "examples": len(examples), "calibration": figures}
    write_json(out / "stats.json", stats | {"flops": report.figures["flops"] + guard.engine.flops})
    shutil.rmtree(out / "training" / "checkpoints", ignore_errors=True)


def _train_config(config: GuardConfig, steps: int, longest: int) -> TrainConfig:
    optimizer = OptimizerConfig(
        learning_rate=config.learning_rate, warmup_steps=int(steps * config.warmup_share), schedule="linear"
    )
    return TrainConfig(
        steps=steps,
        optimizer=optimizer,
        batch=BatchRamp.constant(config.rows),
        sequence_length=max(longest, 2),
        seed=config.seed,
    )


def _calibrate(guard: Guard, examples: Sequence[GuardExample], most_false_alarms: float, out: Path) -> dict[str, Any]:
    """Chooses a threshold for each kind, writes ``guard.json`` and ``calibration.jsonl``; returns figures by kind."""
    scores = guard.probabilities([example.item for example in examples])
    rows = [
        {"kind": e.item.kind, "prompt": e.item.prompt, "text": e.item.text, "categories": e.categories, "score": score}
        for e, score in zip(examples, scores, strict=True)
    ]
    write_jsonl(out / "calibration.jsonl", rows)
    figures = {}
    for kind in get_args(Kind):
        chosen = [i for i, example in enumerate(examples) if example.item.kind == kind]
        own, unsafe = [scores[i] for i in chosen], [bool(examples[i].categories) for i in chosen]
        figures[kind] = _figures(own, unsafe, best_threshold(own, unsafe, most_false_alarms))
    thresholds = {kind: found["threshold"] for kind, found in figures.items()}
    Guard(guard.engine, GuardSettings(policy=guard.settings.policy, thresholds=thresholds)).save_settings(out)
    return figures


def _figures(scores: Sequence[float], unsafe: Sequence[bool], threshold: float) -> dict[str, float]:
    flagged = [score >= threshold for score in scores]
    true_positives = sum(flag and bad for flag, bad in zip(flagged, unsafe, strict=True))
    return {
        "threshold": threshold,
        "n": len(scores),
        "f1": 2 * true_positives / max(1, sum(flagged) + sum(unsafe)),
        "false_positive_rate": (sum(flagged) - true_positives) / max(1, len(unsafe) - sum(unsafe)),
    }
