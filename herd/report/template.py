"""The pages' templates and what turns figures into words in them: ``template("report.html.jinja").render(...)``."""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template

from herd.report import tables
from herd.report.measures import words

_FILTERS = {
    "number": tables.number,
    "flops": tables.scientific,
    "duration": tables.duration,
    "gigabytes": tables.gigabytes,
    "percent": tables.percent,
    "decimal": tables.decimal,
    "words": words,
}


def packaged(name: str) -> str:
    """The text of a file of this room."""
    return files("herd.report").joinpath(name).read_text(encoding="utf-8")


def template(name: str) -> Template:
    """A page's template; what it names and nobody gives is an error."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= _FILTERS
    return environment.from_string(packaged(name))
