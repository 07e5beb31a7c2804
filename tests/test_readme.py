"""The README says only what is so: its commands parse, its targets exist, its recipes load, its files are there."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml
from typer.main import get_command

import herd
from herd.cli import app
from herd.pipeline.mix_search import load_mix_search
from herd.pipeline.recipe import load_recipe
from herd.pipeline.recipe_file import recipe_kind

UsageError = typer.BadParameter.__base__
ROOT = Path(__file__).parents[1]
RECIPES = sorted((Path(herd.__file__).parent / "recipes").glob("*.yaml"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCED = [(kind, text) for kind, text in FENCE.findall(README)]
INLINE = re.findall(r"`([^`\n]+)`", FENCE.sub("", README))


DOCS = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]


def commands(word: str) -> list[str]:
    """The commands that begin with ``word``, in fences or between single backquotes."""
    found = [line.strip().removeprefix("$ ").removeprefix(".venv/bin/") for line in [*fenced(README), *INLINE]]
    return [line for line in found if line.startswith(f"{word} ")]


def fenced(page: str) -> list[str]:
    """The lines of a page's commands."""
    return [line for kind, text in FENCE.findall(page) if kind in ("", "sh", "bash") for line in text.splitlines()]


def parse(line: str) -> None:
    """Parses a command as a shell and Herd would, without running it; a mistake in it raises."""
    words = shlex.split(line, comments=True)[1:]
    command = get_command(app)
    while hasattr(command, "commands"):
        if words[0].startswith("-"):
            assert words[0] in ["--help", *(name for option in command.params for name in option.opts)], words
            return
        command = command.commands[words.pop(0)]
    command.make_context(line, words)


DOCUMENTED = [line for page in DOCS for line in fenced(page) if line.startswith("herd ")]


@pytest.mark.parametrize("line", [*commands("herd"), *DOCUMENTED])
def test_every_command_parses(line: str) -> None:
    parse(line)


@pytest.mark.parametrize("line", ["herd raise pocket", "herd run pocket --quick", "herd sft base", "herd --frob"])
def test_a_command_that_does_not_exist_would_be_found(line: str) -> None:
    with pytest.raises((KeyError, AssertionError, UsageError)):
        parse(line)


def test_every_target_of_make_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    asked = {word for line in commands("make") for word in shlex.split(line, comments=True)[1:] if "=" not in word}
    assert asked
    assert asked <= targets


@pytest.mark.parametrize("text", [text for kind, text in FENCED if kind == "yaml"])
def test_every_piece_of_a_recipe_is_valid(text: str, tmp_path: Path) -> None:
    whole = yaml.safe_load(RECIPES[0].read_text(encoding="utf-8")) | yaml.safe_load(text)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(whole))
    load_recipe(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize("override", [text for text in INLINE if re.match("--set [a-z]", text)])
def test_every_override_fits_the_pocket_recipe(override: str) -> None:
    load_recipe("pocket", [shlex.split(override)[1]])


def test_every_file_that_is_named_is_there() -> None:
    named = [word for word in INLINE if re.fullmatch(r"[\w.-]+(?:/[\w.-]+)+/?", word) and not word.startswith("runs/")]
    named += re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    missing = [name for name in named if not (ROOT / name).exists() and not name.startswith(".venv/")]
    assert named
    assert missing == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_by_its_name(path: Path) -> None:
    load = load_mix_search if recipe_kind(path.stem) == "mix-search" else load_recipe
    assert load(path.stem, []).name == path.stem
    assert {"pocket", "mini"} <= {found.stem for found in RECIPES}
