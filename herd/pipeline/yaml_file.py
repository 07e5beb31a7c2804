"""Reads a YAML file into a strict configuration, and says where in the file a mistake is.

A mistake is reported with the file, the line, the dotted key and the nearest valid name.  ``--set a.b=value``
overrides are applied before the check, so that they are held to the same rules.
"""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from herd.foundation.config import Config
from herd.foundation.errors import HerdError

Loaded = TypeVar("Loaded", bound=Config)
Key = tuple[str | int, ...]
_OVERRIDE = "--set"


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars: ``off`` and ``no`` are words and ``1e-3`` is a number, as people mean them."""


_Loader.yaml_implicit_resolvers = {
    sign: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":float"))]
    for sign, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "float": (
        r"[-+]?(?:\.\d+|\d+\.\d*)(?:[eE][-+]?\d+)?|[-+]?\d+[eE][-+]?\d+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
}
for _name, (_pattern, _signs) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})$"), list(_signs))


def _values(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def load_yaml(kind: type[Loaded], path: Path | None, overrides: Sequence[str] = ()) -> Loaded:
    """The configuration ``kind`` that ``path`` describes, with ``overrides`` of the form ``a.b=value`` laid over it.

    Without a file the overrides are laid over the defaults.
    """
    values, places = _laid_over(path, overrides)
    place = str(path) if path is not None else _OVERRIDE
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise HerdError(_sentence(kind, place, places, error)) from None
    except HerdError as error:
        raise HerdError(f"{place}: {error}") from None


def read_yaml(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The keys and values of a file with ``overrides`` laid over them, not yet checked."""
    return _laid_over(path, overrides)[0]


def _laid_over(path: Path | None, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[Key, str]]:
    """The values, and where each key was given: a line of the file, or an override."""
    values, lines = _parse(path) if path is not None else ({}, {})
    places = {key: f"{path}, line {line}" for key, line in lines.items()}
    for override in overrides:
        _apply(values, override)
        key = tuple(int(part) if part.isdigit() else part for part in override.partition("=")[0].split("."))
        places = {known: place for known, place in places.items() if known[: len(key)] != key}
        places[key] = f"--set {override}"
    return values, places


def _parse(path: Path) -> tuple[dict[str, Any], dict[Key, int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise HerdError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise HerdError(f"{path}: is a directory, not a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise HerdError(f"{path}: not readable ({error})") from None
    try:
        node = yaml.compose(text, Loader=_Loader)
        values = _values(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise HerdError(f"{path}{place}: not YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(values, dict):
        raise HerdError(f"{path}: this is no mapping of keys to values")
    lines: dict[Key, int] = {}
    _collect_lines(node, (), lines, path)
    return values, lines


def _collect_lines(node: yaml.Node | None, key: Key, lines: dict[Key, int], path: Path) -> None:
    if node is None:
        return
    lines.setdefault(key, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            below = (*key, str(name.value))
            if below in lines:
                raise HerdError(f"{path}, line {name.start_mark.line + 1}: {_dotted(below)}: the key is given twice")
            lines[below] = name.start_mark.line + 1
            _collect_lines(value, below, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _collect_lines(value, (*key, index), lines, path)


def _apply(values: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise HerdError(f"--set {override}: write it as key=value, for example --set pretrain.seed=3")
    *parents, last = dotted.split(".")
    place: Any = values
    for name in parents:
        place = _below(place, name, override, create=True)
    try:
        value = _values(text)
    except yaml.YAMLError as error:
        raise HerdError(f"--set {override}: not YAML ({getattr(error, 'problem', error)})") from None
    if isinstance(place, list):
        _below(place, last, override, create=False)
        place[int(last)] = value
    else:
        place[last] = value


def _below(place: Any, name: str, override: str, create: bool) -> Any:
    if isinstance(place, list) and name.isdigit() and int(name) < len(place):
        return place[int(name)]
    if isinstance(place, dict):
        found = place.setdefault(name, {}) if create else place[name]
        if isinstance(found, dict | list):
            return found
    raise HerdError(f"--set {override}: {name} is not a place below which a value can be set")


def _sentence(kind: type[BaseModel], file: str, places: dict[Key, str], error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    key = tuple(part for part in problem["loc"])
    known = key
    while known and known not in places:
        known = known[:-1]
    below = (place for given, place in places.items() if key and given[: len(key)] == key)  # --set wrong.key=1
    place = places[known] if known else next(below, file)
    if problem["type"] == "extra_forbidden":
        message = "there is no such key" + _suggestion(kind, key)
    elif problem["type"] == "missing" and place == _OVERRIDE:
        asked = _dotted(_required_at(kind, key))
        return f"the setting {asked} must be given: --set {asked}=..."
    elif problem["type"] == "missing":
        message = "the key is missing"
    else:
        message = problem["msg"].removeprefix("Value error, ").replace(" after validation", "")
        message = message[:1].lower() + message[1:]
    return f"{place}: {_dotted(key)}: {message}" if key else f"{place}: {message}"


def _suggestion(kind: type[BaseModel], key: Key) -> str:
    names = _names_at(kind, key[:-1])
    near = difflib.get_close_matches(str(key[-1]), names, n=1, cutoff=0.4)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; possible are {', '.join(sorted(names))}" if names else ""


def _names_at(kind: Any, key: Key) -> list[str]:
    """The field names that are valid at ``key``, following the types of nested models, lists and mappings."""
    places = [kind]
    for part in key:
        places = [below for place in places for below in _types_below(place, part)]
    return sorted({name for place in places for model in _models(place) for name in model.model_fields})


def _required_at(kind: type[BaseModel], key: Key) -> Key:
    """``key``, or below it, where it stands for a whole configuration, the first key without a default."""
    places: list[Any] = [kind]
    for part in key:
        places = [below for place in places for below in _types_below(place, part)]
    for model in places:
        fields = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}
        for name, field in fields.items():
            if field.is_required():
                return _required_at(kind, (*key, name))
    return key


def _types_below(place: Any, part: str | int) -> list[Any]:
    found: list[Any] = []
    for model in _models(place):
        field = model.model_fields.get(str(part))
        if field is not None:
            found.append(field.annotation)
        elif any(part in get_args(option.annotation) for option in model.model_fields.values()):
            found.append(model)  # the tag of a discriminated union
    if not found:
        found = [argument for argument in get_args(place) if argument not in (str, int, type(None))]
    return found


def _models(place: Any) -> list[type[BaseModel]]:
    """The pydantic models that an annotation names, however deep."""
    if isinstance(place, type) and issubclass(place, BaseModel):
        return [place]
    return [model for argument in get_args(place) for model in _models(argument)]


def _dotted(key: Key) -> str:
    return ".".join(str(part) for part in key)
