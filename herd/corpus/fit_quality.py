"""Trains fastText in a process of its own: ``python -m herd.corpus.fit_quality TRAIN.txt MODEL.bin OPTIONS``.

On one thread the library fills only the first tenth of its input matrix and takes the rest as the memory allocator
gives it, so that a model trained in a long-lived process depends on what was freed before, or fails with "NaN".  Here a
fresh process asks the system for every large block anew (``MALLOC_MMAP_THRESHOLD_``), whose pages are zero: the same
examples give the same model.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def fit(examples: Path, model: Path, **options: Any) -> None:
    """Trains on a file in fastText's format and writes the model; ``options`` are those of ``train_supervised``."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "herd.corpus.fit_quality", str(examples), str(model), json.dumps(options)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"training the quality classifier failed: {done.stderr.strip()[-500:]}")


def main() -> None:
    """Trains and saves."""
    import fasttext

    examples, model, options = sys.argv[1:]
    fasttext.train_supervised(input=examples, thread=1, verbose=0, **json.loads(options)).save_model(model)


if __name__ == "__main__":
    main()
