"""The wordings of the questions, from ``phrasings.yaml``; training's and the test's are drawn by ``split_phrasings``.

FRAMES["lookup"][0].format(name="json.dumps")
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import yaml

_TEXTS: Mapping[str, Any] = yaml.safe_load(files("herd.tasks").joinpath("phrasings.yaml").read_text(encoding="utf-8"))

FACTS: Sequence[str] = _TEXTS["facts"]
"""What a fact in a long text gives a number for."""

SORTS: Sequence[str] = _TEXTS["sorts"]

THINGS: Sequence[str] = _TEXTS["things"]

PLACES: Sequence[str] = _TEXTS["places"]

_NO_FRAMES = ("facts", "sorts", "things", "places")

FRAMES: Mapping[str, Sequence[str]] = {name: texts for name, texts in _TEXTS.items() if name not in _NO_FRAMES}
"""The other lists of wordings, each by its name."""
