"""The page on the corpus says only what is so: its commands parse and its settings are valid."""

import re
import shlex
from pathlib import Path

import yaml
from typer.main import get_command

from herd.cli import app
from herd.corpus.curate import CurateConfig

TEXT = (Path(__file__).parents[2] / "docs" / "corpus.md").read_text(encoding="utf-8")
FENCED = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_every_command_parses() -> None:
    lines = [line for kind, text in FENCED if not kind for line in text.splitlines() if line.startswith("herd ")]
    assert len(lines) >= 7
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        command = get_command(app)
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context(line, words)


def test_every_setting_is_valid() -> None:
    for settings in (yaml.safe_load(text)["corpus"] for kind, text in FENCED if kind == "yaml"):
        assert CurateConfig.model_validate(settings) != CurateConfig()
