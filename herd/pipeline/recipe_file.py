"""Where a recipe lies and what kind it is, before it is checked: nothing here loads what trains."""

from importlib.resources import files
from pathlib import Path

from herd.pipeline.yaml_file import read_yaml


def recipe_path(name: str) -> Path:
    """The file of a recipe that ships with Herd, or the path that ``name`` is."""
    shipped = Path(str(files("herd.recipes"))) / f"{name}.yaml"
    return shipped if shipped.is_file() else Path(name)


def recipe_kind(name: str) -> str:
    """What a recipe file says under ``kind``; "herd" where it says nothing."""
    return str(read_yaml(recipe_path(name)).get("kind", "herd"))
