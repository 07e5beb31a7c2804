"""The mean of several models' weights, as the paper takes it after every stage of alignment (section 4.1.5).

    average(AverageModelsConfig(), [sft, dpo], out, progress)

The paper gives no weights; equal ones are the default.
"""

from collections.abc import Sequence
from pathlib import Path

from herd.formats.huggingface import load_model, save_model
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import write_json
from herd.foundation.progress import Progress
from herd.train.average import average_weights


class AverageModelsConfig(Config):
    """One weight a model, in order; equal ones where none are given."""

    weights: tuple[float, ...] | None = None


def average(config: AverageModelsConfig, models: Sequence[Path], out: Path, progress: Progress) -> None:
    """Writes the weighted mean of ``models``, all of one shape, with the first one's tokenizer, to ``out``."""
    if not models:
        raise HerdError("average: there is no model to average")
    loaded = [load_model(path) for path in progress.track(models, "averaging", unit="models")]
    mean = average_weights([model.state_dict() for model in loaded], config.weights)
    loaded[0].load_state_dict(mean)
    save_model(loaded[0], models[0], out)
    weights = list(config.weights or [1.0] * len(models))
    write_json(out / "stats.json", {"models": [path.name for path in models], "weights": weights})
