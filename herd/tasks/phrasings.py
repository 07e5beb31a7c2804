"""The wordings of the questions, from ``phrasings.yaml``; training's and the test's are drawn by ``split_phrasings``.

FRAMES["lookup"][0].format(name="json.dumps")
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files

import yaml

FRAMES: Mapping[str, Sequence[str]] = yaml.safe_load(
    files("herd.tasks").joinpath("phrasings.yaml").read_text(encoding="utf-8")
)
"""Each list of wordings by its name."""
