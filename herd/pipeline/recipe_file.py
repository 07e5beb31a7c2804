"""Where a recipe lies and what kind it is, before it is checked: nothing here loads what trains."""

from importlib.resources import files
from pathlib import Path

from herd.foundation.errors import HerdError
from herd.pipeline.yaml_file import read_yaml


def recipe_path(name: str) -> Path:
    """The file of a recipe that ships with Herd, or the path that ``name`` is; a ``HerdError`` where it is neither."""
    recipes = Path(str(files("herd.recipes")))
    shipped, path = recipes / f"{name}.yaml", Path(name)
    if not (shipped.is_file() or path.exists()):
        names = ", ".join(sorted(recipe.stem for recipe in recipes.glob("*.yaml")))
        raise HerdError(f"{name}: there is no such file, and no recipe of that name ships with Herd; those are {names}")
    return shipped if shipped.is_file() else path


def recipe_kind(name: str) -> str:
    """What a recipe file says under ``kind``; "herd" where it says nothing."""
    return str(read_yaml(recipe_path(name)).get("kind", "herd"))
