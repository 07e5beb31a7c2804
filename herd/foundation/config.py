"""The base of every configuration, so that all of them are strict in the same way.

A stage's configuration lives beside the stage and derives from ``Config``: unknown keys and wrong types are
refused, values never change after they were checked, and a default is written in one place only.
"""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen pydantic model that refuses unknown keys; defaults are checked like values that a user gives.

    What ``--help`` says of a key is its description, or the docstring below it.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, protected_namespaces=(), use_attribute_docstrings=True
    )
