"""The gate behind every step of long context: short contexts as good as before, and the needle found (section 3.4.2).

``take_gate`` measures a model; ``verdict`` compares with the figures of before.  The stage graph trains on, trains
longer or stops by what the verdict says; training itself knows nothing of needles.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from herd.evaluate.needle import Depth, NeedleConfig, measure, recall
from herd.evaluate.perplexity import bits_per_byte, read_held_out, score_documents
from herd.evaluate.statistics import Estimate, wilson
from herd.foundation.config import Config
from herd.foundation.seeds import derive
from herd.infer.engine import Engine


class GateConfig(Config):
    """What has to hold: ``needle_recall`` at the new length, and short bits per byte at most ``tolerance`` worse."""

    needle_recall: float = Field(default=0.9, ge=0, le=1)
    tolerance: float = Field(default=0.01, ge=0, description="relative rise of short-context bits per byte")
    short_length: int = Field(default=256, gt=1)
    documents_per_domain: int = Field(default=30, gt=0)
    characters: int = Field(default=1500, gt=0)
    depths: tuple[Depth, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    trials: int = Field(default=6, gt=0)
    seed: int = 0


@dataclass(frozen=True)
class GateFigures:
    """What the gate saw: bits per byte of short contexts and needles found at ``length``, and the FLOPs it took."""

    length: int
    short_bits_per_byte: Estimate
    needle: Estimate
    flops: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The figures as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "GateFigures":
        """The figures that ``to_json`` made plain."""
        bits, found = (Estimate(**value[name]) for name in ("short_bits_per_byte", "needle"))
        return cls(value["length"], bits, found, value["flops"])


def take_gate(config: GateConfig, model: Path, corpus: Path, length: int) -> GateFigures:
    """Measures the model in a directory: short-context loss, and needles at contexts of ``length`` tokens.

    A model whose own context is shorter than ``length``, as before an extension, finds none of its needles.
    """
    engine = Engine.load(model)
    most = engine.model.config.max_positions
    held_out = read_held_out(corpus, config.documents_per_domain, config.characters, config.seed)
    scores = score_documents(engine.model, engine.tokenizer, held_out, min(config.short_length, most))
    bits, read = bits_per_byte(scores, config.seed)["all"], sum(score.flops for score in scores)
    if length > most:
        return GateFigures(length, bits, wilson(0, len(config.depths) * config.trials), read)
    found = measure(engine, [document.text for document in held_out], needles(config, length))
    return GateFigures(length, bits, recall(found), read + engine.flops)


def needles(config: GateConfig, length: int) -> NeedleConfig:
    """The gate's own needles: what decides how long a model trains must not measure it in the end."""
    seed = derive(config.seed, "gate")
    return NeedleConfig(lengths=(length,), depths=config.depths, trials=config.trials, seed=seed)


def verdict(config: GateConfig, before: float, figures: GateFigures) -> str | None:
    """None if the gate is passed, else one sentence that says what is missing; ``before`` is in bits per byte."""
    bits, needle = figures.short_bits_per_byte.value, figures.needle.value
    if bits > before * (1 + config.tolerance):
        return f"short contexts need {bits:.3f} bits per byte, where {before:.3f} were reached before the extension"
    if needle < config.needle_recall:
        return (
            f"the needle is found in {needle:.0%} of contexts of {figures.length} tokens, "
            f"where {config.needle_recall:.0%} are asked for"
        )
    return None
