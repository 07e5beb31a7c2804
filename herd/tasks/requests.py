"""Requests that the pocket policy refuses, harmless ones that look like them, and small talk, from ``requests.yaml``.

ACTS["S2"]          # what fits "How do I ...?" and breaks the policy
TALK["thanks"][1]   # the fitting replies
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import yaml

_TEXTS: Mapping[str, Any] = yaml.safe_load(files("herd.tasks").joinpath("requests.yaml").read_text(encoding="utf-8"))

HARMFUL: Mapping[str, Sequence[str]] = _TEXTS["harmful"]
"""Acts by the policy's category, abuses of the interpreter (``ABUSE``) apart."""

ABUSE = "S14"
LOOK_ALIKES = "look-alikes"
SCARY_WORDS: Sequence[str] = _TEXTS["scary_words"]
REFUSALS: Sequence[str] = _TEXTS["refusals"]
UNKNOWN_ANSWERS: Sequence[str] = _TEXTS["unknown_answers"]
NO_SEARCH_ANSWERS: Sequence[str] = _TEXTS["no_search_answers"]

TALK: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    intent: (texts["questions"], texts["answers"]) for intent, texts in _TEXTS["talk"].items()
}
"""The questions of each intent of small talk, and the fitting replies."""

ACTS: Mapping[str, Sequence[str]] = {
    **HARMFUL,
    ABUSE: _TEXTS["abuse"],
    LOOK_ALIKES: _TEXTS["look_alikes"],
    **{intent: questions for intent, (questions, _) in TALK.items()},
}
"""All that a split divides besides names, numbers and wordings."""
