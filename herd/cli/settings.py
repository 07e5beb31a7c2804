"""A configuration as lines of help: every key with its default, and what its description says."""

from collections.abc import Iterator
from importlib import import_module

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

_LONGEST_DEFAULT = 40


def settings_of(name: str) -> type[BaseModel]:
    """The configuration class that ``room.module:Class`` names."""
    module, _, kind = name.partition(":")
    found: type[BaseModel] = getattr(import_module(f"herd.{module}"), kind)
    return found


def describe(kind: type[BaseModel], above: str = "") -> Iterator[tuple[str, tuple[str, str]]]:
    """Every setting's dotted key, and its line of help: key with default, and what it is."""
    for name, field in kind.model_fields.items():
        key = above + name
        inner = type(field.default) if isinstance(field.default, BaseModel) else field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from describe(inner, f"{key}.")
        else:
            yield key, (f"{key}={_default(field)}", (field.description or "").replace("``", "").replace("\n", " "))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "…"
    value = to_jsonable_python(field.get_default(call_default_factory=True))
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).split("\n", 1)[0]
    return text if len(text) <= _LONGEST_DEFAULT else f"{text[: _LONGEST_DEFAULT - 1]}…"
